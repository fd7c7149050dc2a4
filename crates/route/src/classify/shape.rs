//! Texts that differ in whole numbers only, as one: what a statement is does not depend on them.

/// Longer texts have no shape.
pub(super) const LONGEST: usize = 512;

/// What a byte is to a shape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A blank or a sign.
    Sign,
    /// Of a word.
    Word,
    Digit,
    /// Before a digit: begins a parameter.
    Dollar,
    Dot,
    /// Two of them begin a comment; so does a slash before a star.
    Dash,
    Slash,
    /// Begins something that would have to be understood.
    Stop,
}

const PARTS: [Part; 256] = {
    let mut parts = [Part::Stop; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        parts[byte as usize] = match byte {
            b'0'..=b'9' => Part::Digit,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => Part::Word,
            b'$' => Part::Dollar,
            b'.' => Part::Dot,
            b'-' => Part::Dash,
            b'/' => Part::Slash,
            b'\t'..=b'\r'
            | b' '
            | b'~'
            | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'*'
            | b'%'
            | b'<'
            | b'>'
            | b'='
            | b'['
            | b']'
            | b'('
            | b')'
            | b','
            | b';'
            | b':' => Part::Sign,
            _ => Part::Stop,
        };
        byte += 1;
    }
    parts
};

/// Writes the shape of `sql` to the beginning of `room`: the text, with a zero for each of its whole numbers, those of
/// parameters (`$1`) too. `None` where something in it would have to be understood first: a string, a quoted name, a comment, a
/// number of another form, anything but ASCII.
///
/// Texts of one shape have the same tokens, and only numbers among them differ.
pub(super) fn shape<'a>(sql: &[u8], room: &'a mut [u8; LONGEST]) -> Option<&'a [u8]> {
    if sql.len() > LONGEST {
        return None;
    }
    let mut len = 0;
    let (mut word, mut number) = (false, false);
    for (at, &byte) in sql.iter().enumerate() {
        let mut kept = byte;
        match PARTS[usize::from(byte)] {
            // `1e5`, `0x1f`, `1_000`, `1.5`, and what is no number at all.
            Part::Word | Part::Dot if number => return None,
            Part::Word => word = true,
            Part::Digit if word => {}
            Part::Digit if number => continue,
            Part::Digit => {
                number = true;
                kept = b'0';
            }
            Part::Stop => return None,
            // `$$`, `$a$`, `a$1`: of a string or a name.
            Part::Dollar if word || number => return None,
            Part::Dollar if !sql.get(at + 1).is_some_and(u8::is_ascii_digit) => return None,
            Part::Dollar => {}
            Part::Dash if sql.get(at + 1) == Some(&b'-') => return None,
            Part::Slash if sql.get(at + 1) == Some(&b'*') => return None,
            Part::Sign | Part::Dot | Part::Dash | Part::Slash => {
                word = false;
                number = false;
            }
        }
        *room.get_mut(len)? = kept;
        len += 1;
    }
    room.get(..len)
}

/// A shape that texts are held against, without making theirs.
#[derive(Debug)]
pub(super) struct Template {
    shape: Box<[u8]>,
    /// Where in it numbers stand.
    numbers: Box<[usize]>,
}

impl Template {
    /// Of what [`shape`] has made.
    pub(super) fn new(shape: &[u8]) -> Self {
        let in_word = |at: usize| {
            let before = at.checked_sub(1).and_then(|before| shape.get(before));
            let part = before.map(|&byte| PARTS[usize::from(byte)]);
            matches!(part, Some(Part::Word | Part::Digit))
        };
        let zeros = shape.iter().enumerate().filter(|(_, byte)| **byte == b'0');
        let numbers = zeros.map(|(at, _)| at).filter(|at| !in_word(*at)).collect();
        Self { shape: shape.into(), numbers }
    }

    /// Whether a text has this shape.
    #[inline]
    pub(super) fn fits(&self, sql: &[u8]) -> bool {
        let (mut sql, mut from) = (sql, 0);
        for &number in &self.numbers {
            let between = self.shape.get(from..number).unwrap_or_default();
            let Some(rest) = sql.strip_prefix(between) else { return false };
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            sql = rest.get(digits..).unwrap_or_default();
            from = number + 1;
        }
        self.shape.get(from..) == Some(sql)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<String> {
        let mut room = [0; LONGEST];
        shape(sql.as_bytes(), &mut room).map(|shape| str::from_utf8(shape).unwrap().to_owned())
    }

    #[test]
    fn digits_of_numbers_are_blotted_out_and_those_of_names_are_not() {
        let cases = [
            ("SELECT 1", "SELECT 0"),
            ("SELECT a FROM t WHERE id=407,-13;", "SELECT a FROM t WHERE id=0,-0;"),
            ("SELECT f1(12), t2.c30, int4(5)", "SELECT f1(0), t2.c30, int4(0)"),
            ("SELECT 7 - 8 / 9 * .5", "SELECT 0 - 0 / 0 * .0"),
            ("SELECT $1, $23 WHERE a=$4", "SELECT $0, $0 WHERE a=$0"),
            ("", ""),
        ];
        for (sql, expected) in cases {
            assert_eq!(of(sql).as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn a_text_fits_the_template_of_its_own_shape_and_of_no_other() {
        let texts = [
            "SELECT 1",
            "SELECT 23",
            "SELECT 4,5",
            "SELECT 4,5 ",
            " SELECT 1",
            "SELECT f0(1)",
            "SELECT f(0)",
            "SELECT f00(7)",
            "SELECT x0, 0",
            "1",
            "11 11",
            "1 11",
            "SELECT",
            "",
            "SELECT a FROM t WHERE id=407;",
            "SELECT a FROM t WHERE id=4;",
            "SELECT .5",
            "SELECT 5.",
            "SELECT $1",
            "SELECT $22",
            "SELECT $1,3",
        ];
        for one in texts {
            let mut room = [0; LONGEST];
            let Some(template) = shape(one.as_bytes(), &mut room).map(Template::new) else {
                continue;
            };
            for other in texts {
                assert_eq!(template.fits(other.as_bytes()), of(one) == of(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_would_have_to_be_understood_has_no_shape() {
        let none = [
            "SELECT 'a'",
            "SELECT \"a\"",
            "SELECT $a",
            "SELECT a$1",
            "SELECT 2$1",
            "SELECT $1a",
            "SELECT $1.5",
            "SELECT $1$2",
            "SELECT $1$$a$$",
            "SELECT $",
            "SELECT $$a$$",
            "SELECT 1 -- a",
            "SELECT 1 /* a */",
            "SELECT 1.5",
            "SELECT 1e5",
            "SELECT 0x1f",
            "SELECT 1_000",
            "SELECT 1f()",
            "SELECT é",
            "SELECT \0",
            "SELECT \\",
            "SELECT 1$",
        ];
        for sql in none {
            assert_eq!(of(sql), None, "{sql}");
        }
        assert_eq!(of(&" ".repeat(LONGEST + 1)), None);
        assert!(of(&" ".repeat(LONGEST)).is_some());
    }
}
