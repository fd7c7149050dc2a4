//! PostgreSQL's lexical rules, as far as they decide where a string, a comment or a word begins and ends.

mod bytes;

use bytes::{Class, class, continues_word};

/// What a token is. `Start` is what stands before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Start,
    /// An unquoted identifier or keyword.
    Word,
    /// A quoted identifier.
    Quoted,
    /// A string constant of any form.
    Text,
    Number,
    Parameter,
    Open,
    /// `)` after which an operand has ended, so no expression can begin.
    Close,
    Dot,
    Comma,
    Semicolon,
    /// `::`
    Cast,
    /// Everything else: operators, brackets, `)` after which an expression may begin.
    Other,
    End,
    /// Unterminated, or its extent depends on the version or the settings of the server.
    Unclear,
}

/// One token: its kind, and where it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Of a word of up to eight bytes: [`key`] of it. Of a quoted identifier: 1 if it contains a doubled quote. Else 0.
    pub(super) key: u64,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    pub(super) const START: Self = Self { kind: Kind::Start, key: 0, start: 0, end: 0 };

    /// Whether this is the keyword with this [`key`].
    #[inline]
    pub(super) fn is(&self, key: u64) -> bool {
        self.kind == Kind::Word && self.key == key
    }
}

/// A word of up to eight bytes as a number, whatever its case: comparing numbers is what makes the lexer fast.
pub(super) const fn key(word: &str) -> u64 {
    let bytes = word.as_bytes();
    assert!(bytes.len() <= 8, "longer words do not fit");
    let (mut key, mut at) = (0, 0);
    while at < bytes.len() {
        key = key << 8 | (bytes[at] | 0x20) as u64;
        at += 1;
    }
    key
}

/// Walks through a text, token by token, and notes the hints in its comments.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    sql: &'a [u8],
    at: usize,
    pub(super) writer_hint: bool,
    pub(super) reader_hint: bool,
    /// What the first `target=` names.
    pub(super) target_hint: Option<&'a [u8]>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(sql: &'a str) -> Self {
        Self {
            sql: sql.as_bytes(),
            at: 0,
            writer_hint: false,
            reader_hint: false,
            target_hint: None,
        }
    }

    /// Whether the text contains a byte that ends it early for some servers and clients.
    pub(super) fn has_nul(&self) -> bool {
        self.sql.contains(&0)
    }

    /// The text of a token.
    pub(super) fn text(&self, token: Token) -> &'a [u8] {
        self.sql.get(token.start..token.end).unwrap_or_default()
    }

    /// What follows the last token, without reading it.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.sql.get(self.at..).unwrap_or_default()
    }

    /// The next token. After `Unclear` nothing that follows means anything.
    pub(super) fn next(&mut self) -> Token {
        self.advance()
    }

    /// [`next`](Self::next) for the one hot loop, where a token stays in registers.
    #[expect(clippy::inline_always, reason = "measured: a third less time for each statement")]
    #[inline(always)]
    pub(super) fn advance(&mut self) -> Token {
        loop {
            let start = self.at;
            let Some(&byte) = self.sql.get(start) else {
                return Token { kind: Kind::End, key: 0, start, end: start };
            };
            self.at += 1;
            let kind = match class(byte) {
                Class::Space => continue,
                Class::Letter => return self.word(start),
                Class::Digit => self.number(byte),
                Class::Dollar => self.dollar(start),
                Class::Single => self.plain_string(),
                Class::Double => return self.quoted(start),
                Class::Dash if self.peek(0) == Some(b'-') => {
                    self.line_comment();
                    continue;
                }
                Class::Slash if self.peek(0) == Some(b'*') => {
                    if self.block_comment() {
                        continue;
                    }
                    Kind::Unclear
                }
                Class::Open => Kind::Open,
                Class::Close => Kind::Close,
                Class::Dot => Kind::Dot,
                Class::Comma => Kind::Comma,
                Class::Semicolon => Kind::Semicolon,
                Class::Colon if self.peek(0) == Some(b':') => {
                    self.at += 1;
                    Kind::Cast
                }
                Class::Dash | Class::Slash | Class::Colon | Class::Other => Kind::Other,
                Class::Bad => Kind::Unclear,
            };
            return Token { kind, key: 0, start, end: self.at };
        }
    }

    #[inline]
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    #[inline]
    fn word(&mut self, start: usize) -> Token {
        let (mut key, mut at) = (0_u64, start);
        while let Some(&byte) = self.sql.get(at)
            && continues_word(byte)
        {
            key = key << 8 | u64::from(byte | 0x20);
            at += 1;
        }
        self.at = at;
        match at - start {
            1 => {
                if let Some(kind) = self.prefixed(key) {
                    return Token { kind, key: 0, start, end: self.at };
                }
            }
            2..=8 => {}
            _ => key = 0,
        }
        Token { kind: Kind::Word, key, start, end: at }
    }

    /// `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'` and `U&"…"`, after their letter.
    fn prefixed(&mut self, letter: u64) -> Option<Kind> {
        const E: u64 = key("e");
        const B: u64 = key("b");
        const X: u64 = key("x");
        const N: u64 = key("n");
        const U: u64 = key("u");
        match (letter, self.peek(0)?) {
            (E, b'\'') => {
                self.at += 1;
                Some(self.escape_string())
            }
            (B | X | N, b'\'') => {
                self.at += 1;
                Some(self.plain_string())
            }
            (U, b'&') if self.peek(1) == Some(b'\'') => {
                self.at += 2;
                Some(self.plain_string())
            }
            // Spells a name in escapes, perhaps `pg_temp`. Nobody writes this.
            (U, b'&') if self.peek(1) == Some(b'"') => Some(Kind::Unclear),
            _ => None,
        }
    }

    /// After the opening quote. With `standard_conforming_strings = off` a backslash escapes, so a quote behind an odd
    /// number of them ends the string on one server and not on the other.
    fn plain_string(&mut self) -> Kind {
        let opened = self.at;
        while let Some(length) = self.rest().iter().position(|&byte| byte == b'\'') {
            let quote = self.at + length;
            let inside = self.sql.get(opened..quote).unwrap_or_default();
            if inside.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1 {
                return Kind::Unclear;
            }
            self.at = quote + 1;
            if self.peek(0) != Some(b'\'') {
                return Kind::Text;
            }
            self.at += 1;
        }
        Kind::Unclear
    }

    fn escape_string(&mut self) -> Kind {
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'\'' if self.peek(0) == Some(b'\'') => self.at += 1,
                b'\'' => return Kind::Text,
                _ => {}
            }
        }
        Kind::Unclear
    }

    #[inline]
    fn quoted(&mut self, start: usize) -> Token {
        let mut doubled = 0;
        while let Some(length) = self.rest().iter().position(|&byte| byte == b'"') {
            self.at += length + 1;
            if self.peek(0) != Some(b'"') {
                return Token {
                    kind: Kind::Quoted,
                    key: doubled,
                    start: start + 1,
                    end: self.at - 1,
                };
            }
            self.at += 1;
            doubled = 1;
        }
        Token { kind: Kind::Unclear, key: 0, start, end: self.at }
    }

    /// `$1`, `$$…$$` or `$tag$…$tag$`, after the first `$`.
    fn dollar(&mut self, start: usize) -> Kind {
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.digits();
            return self.unless_junk(Kind::Parameter);
        }
        let mut at = self.at;
        loop {
            match self.sql.get(at).map(|&byte| class(byte)) {
                Some(Class::Dollar) => break,
                Some(Class::Letter) => at += 1,
                Some(Class::Digit) if at > self.at => at += 1,
                _ => return Kind::Unclear,
            }
        }
        self.at = at + 1;
        let Some(delimiter) = self.sql.get(start..self.at) else { return Kind::Unclear };
        while let Some(length) = self.rest().iter().position(|&byte| byte == b'$') {
            self.at += length;
            if self.rest().starts_with(delimiter) {
                self.at += delimiter.len();
                return Kind::Text;
            }
            self.at += 1;
        }
        Kind::Unclear
    }

    fn number(&mut self, first: u8) -> Kind {
        if first == b'0' && self.peek(0).is_some_and(|byte| b"xXoObB".contains(&byte)) {
            self.at += 1;
            while self.peek(0).is_some_and(|byte| byte.is_ascii_hexdigit() || byte == b'_') {
                self.at += 1;
            }
            return self.unless_junk(Kind::Number);
        }
        self.digits();
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + sign).is_some_and(|byte| byte.is_ascii_digit()) {
                self.at += 1 + sign;
                self.digits();
            }
        }
        self.unless_junk(Kind::Number)
    }

    fn digits(&mut self) {
        while self.peek(0).is_some_and(|byte| byte.is_ascii_digit() || byte == b'_') {
            self.at += 1;
        }
    }

    /// `1INTO`, `$1E'…'`: two tokens up to PostgreSQL 14, an error since.
    #[inline]
    fn unless_junk(&self, kind: Kind) -> Kind {
        match self.peek(0) {
            Some(byte) if continues_word(byte) || byte == b'\'' => Kind::Unclear,
            _ => kind,
        }
    }

    /// Ends at a carriage return too, as in PostgreSQL.
    fn line_comment(&mut self) {
        let length = self.rest().iter().position(|&byte| byte == b'\n' || byte == b'\r');
        self.at = length.map_or(self.sql.len(), |length| self.at + length);
    }

    /// After the `/`; comments nest. Whether it is terminated.
    fn block_comment(&mut self) -> bool {
        self.at += 1;
        let (opened, mut depth) = (self.at, 1_u32);
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match (byte, self.peek(0)) {
                (b'/', Some(b'*')) => {
                    self.at += 1;
                    depth += 1;
                }
                (b'*', Some(b'/')) => {
                    self.at += 1;
                    depth -= 1;
                    if depth == 0 {
                        self.hint(opened);
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }

    fn hint(&mut self, opened: usize) {
        let comment = self.sql.get(opened..self.at - 2).unwrap_or_default().trim_ascii();
        let Some((name, rest)) = comment.split_at_checked("herdsman".len()) else { return };
        let Some(role) = rest.trim_ascii_start().strip_prefix(b":") else { return };
        if !name.eq_ignore_ascii_case(b"herdsman") {
            return;
        }
        let role = role.trim_ascii();
        let word = |role: &[u8]| {
            (role.eq_ignore_ascii_case(b"writer"), role.eq_ignore_ascii_case(b"reader"))
        };
        let (mut writer, mut reader) = word(role);
        if let Some(target) = target(role) {
            (writer, reader) = word(target);
            self.target_hint.get_or_insert(target);
        }
        self.writer_hint |= writer;
        self.reader_hint |= reader;
    }
}

/// What follows `target=`.
fn target(hint: &[u8]) -> Option<&[u8]> {
    let (name, rest) = hint.split_at_checked("target".len())?;
    let target = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
    (name.eq_ignore_ascii_case(b"target") && !target.is_empty()).then_some(target)
}
