//! The rules: which words and calls make a statement a write.

use super::functions::Functions;
use super::scan::{Kind, Scanner, Token, key};
use super::{Class, Why};

mod calls;

macro_rules! keys {
    ($($name:ident $word:literal,)*) => { $(const $name: u64 = key($word);)* };
}

keys! {
    SELECT "select", VALUES "values", TABLE "table", WITH "with", SHOW "show", EXPLAIN "explain",
    ANALYZE "analyze", ANALYSE "analyse", VERBOSE "verbose", EXECUTE "execute", CREATE "create",
    TEMP "temp", INSERT "insert", UPDATE "update", DELETE "delete", MERGE "merge", INTO "into",
    FOR "for", NO "no", KEY "key", SHARE "share", PG_TEMP "pg_temp", AS "as", ON "on",
    DISTINCT "distinct", OPERATOR "operator", BY "by", GROUP "group", ORDER "order", CUBE "cube",
    ROLLUP "rollup", GROUPING "grouping", SETS "sets", TIME "time", ZONE "zone", FETCH "fetch",
    FIRST "first", NEXT "next", VARYING "varying", CHAR "char", NCHAR "nchar", BIT "bit", SYSTEM "system",
}

/// Keys that are no word's: what a word means where it stands.
const SYNTAX: u64 = 2;
const GROUP_BY: u64 = 3;
const DISTINCT_ON: u64 = 4;

/// First words of statements that may read only.
const HEADS: [u64; 5] = [SELECT, VALUES, TABLE, WITH, SHOW];

/// First words of statements about the session itself.
const SESSION_WORDS: &str = "set reset discard listen unlisten notify prepare execute deallocate declare fetch move \
    close lock begin start commit end rollback abort savepoint release load";

pub(super) fn judge(sql: &str, functions: &Functions) -> Class {
    let mut statement = Statement::new(sql, functions);
    let class = statement.head().unwrap_or_else(|hard| hard);
    let scan = &statement.scan;
    if scan.writer_hint && class.kind != super::Kind::Session {
        return Class::write(Why::WriterHint);
    }
    if class.is_read() && scan.has_nul() {
        return Class::write(Why::Unclear);
    }
    match class.why {
        Why::UnknownFunction | Why::VolatileFunction if scan.reader_hint && !scan.has_nul() => {
            Class::read(Why::ReaderHint)
        }
        _ => class,
    }
}

/// `Err` ends the reading: nothing that follows can make it a read.
type Judged<T> = Result<T, Class>;

struct Statement<'a> {
    scan: Scanner<'a>,
    functions: &'a Functions,
    prev: Token,
    prev2: Kind,
    /// What stands before the name that ends at `prev`, its qualification included.
    before: Before,
    /// Whether the last qualifier of that name, if any, is `pg_catalog`.
    in_pg_catalog: bool,
    depth: u32,
    /// One bit for each open parenthesis, the innermost lowest: an operand ends where it closes. Beyond 64 the outermost
    /// are forgotten, which reads as "an expression may begin": the careful side.
    operands: u64,
    /// The depth at which a `WITH` list is being read: names followed by parentheses are column lists there.
    with_list: Option<u32>,
    /// A call that only a hint can excuse.
    doubt: Option<Why>,
}

#[derive(Clone, Copy)]
struct Before {
    kind: Kind,
    key: u64,
}

impl Before {
    fn is(self, key: u64) -> bool {
        self.kind == Kind::Word && self.key == key
    }
}

impl<'a> Statement<'a> {
    fn new(sql: &'a str, functions: &'a Functions) -> Self {
        Self {
            scan: Scanner::new(sql),
            functions,
            prev: Token::START,
            prev2: Kind::Start,
            before: Before { kind: Kind::Start, key: 0 },
            in_pg_catalog: false,
            depth: 0,
            operands: 0,
            with_list: None,
            doubt: None,
        }
    }

    fn head(&mut self) -> Judged<Class> {
        let first = self.scan.next();
        if first.is(EXPLAIN) {
            return self.explain();
        }
        let first = self.skip_open(first);
        match first.kind {
            Kind::End => Err(Class::write(Why::Empty)),
            Kind::Word if HEADS.contains(&first.key) => self.query(first, true),
            Kind::Word => Err(self.other_statement(first)),
            _ => Err(Class::write(Why::Unclear)),
        }
    }

    fn skip_open(&mut self, mut token: Token) -> Token {
        while token.kind == Kind::Open {
            self.depth += 1;
            self.operands = self.operands << 1 | 1;
            token = self.scan.next();
        }
        token
    }

    fn other_statement(&mut self, first: Token) -> Class {
        let word = self.scan.text(first);
        if first.is(CREATE) {
            // CREATE [OR REPLACE] [LOCAL | GLOBAL] TEMP …
            for _ in 0..4 {
                let token = self.scan.next();
                if token.is(TEMP) || self.scan.text(token).eq_ignore_ascii_case(b"temporary") {
                    return Class::session(Why::Temporary);
                }
            }
        }
        if SESSION_WORDS.split(' ').any(|session| word.eq_ignore_ascii_case(session.as_bytes())) {
            return Class::session(Why::SessionStatement);
        }
        match first.key {
            INSERT => Class::write(Why::Changes("INSERT")),
            UPDATE => Class::write(Why::Changes("UPDATE")),
            DELETE => Class::write(Why::Changes("DELETE")),
            MERGE => Class::write(Why::Changes("MERGE")),
            _ => Class::write(Why::OtherStatement),
        }
    }

    fn explain(&mut self) -> Judged<Class> {
        let mut executed = false;
        let mut token = self.scan.next();
        if token.kind == Kind::Open {
            let inside = self.scan.next();
            // Not VALUES, which may also be the name of an option.
            if inside.kind == Kind::Open || inside.is(SELECT) || inside.is(WITH) || inside.is(TABLE)
            {
                self.depth = 1;
                self.operands = 1;
                token = inside;
            } else {
                executed = self.explain_options(inside)?;
                token = self.scan.next();
            }
        } else {
            if token.is(ANALYZE) || token.is(ANALYSE) {
                executed = true;
                token = self.scan.next();
            }
            if token.is(VERBOSE) {
                token = self.scan.next();
            }
        }
        let first = self.skip_open(token);
        match (first.kind, first.key) {
            (Kind::Word, SELECT | VALUES | TABLE | WITH) => self.query(first, executed),
            (Kind::Word, INSERT | UPDATE | DELETE | MERGE) if !executed => self.query(first, false),
            (Kind::Word, EXECUTE) => Err(Class::session(Why::SessionStatement)),
            (Kind::Word, _) => Err(self.other_statement(first)),
            _ => Err(Class::write(Why::Unclear)),
        }
    }

    /// Whether `ANALYZE` is among the options, on or off; a quoted name may spell anything.
    fn explain_options(&mut self, mut token: Token) -> Judged<bool> {
        let mut analyze = false;
        loop {
            match token.kind {
                Kind::Close => return Ok(analyze),
                Kind::Open | Kind::Semicolon | Kind::End | Kind::Unclear => {
                    return Err(Class::write(Why::Unclear));
                }
                Kind::Quoted => analyze = true,
                _ => analyze |= token.is(ANALYZE) || token.is(ANALYSE),
            }
            token = self.scan.next();
        }
    }

    /// From its first word to its end.
    fn query(&mut self, first: Token, executed: bool) -> Judged<Class> {
        if first.is(WITH) {
            self.with_list = Some(self.depth);
        }
        self.prev = first;
        loop {
            let mut token = self.scan.advance();
            match token.kind {
                Kind::Word => {
                    if executed {
                        token.key = self.word(token)?;
                    }
                    self.name(token)?;
                }
                Kind::Quoted => self.name(token)?,
                Kind::Dot => self.dot(),
                Kind::Open => self.open(executed)?,
                Kind::Close => token.kind = self.close()?,
                Kind::Semicolon => {
                    self.only_blanks_follow()?;
                    break;
                }
                Kind::End => break,
                Kind::Unclear => return Err(Class::write(Why::Unclear)),
                _ => {}
            }
            self.prev2 = self.prev.kind;
            self.prev = token;
        }
        match self.doubt {
            _ if self.depth > 0 => Err(Class::write(Why::Unclear)),
            Some(why) => Ok(Class::write(why)),
            None if executed => Ok(Class::read(Why::PlainRead)),
            None => Ok(Class::read(Why::OnlyExplained)),
        }
    }

    fn only_blanks_follow(&mut self) -> Judged<()> {
        loop {
            match self.scan.next().kind {
                Kind::Semicolon => {}
                Kind::End => return Ok(()),
                _ => return Err(Class::write(Why::SeveralStatements)),
            }
        }
    }

    /// The key of a word, or another one that says what it means where it stands.
    #[inline]
    fn word(&mut self, token: Token) -> Judged<u64> {
        let prev = self.prev;
        Ok(match token.key {
            UPDATE | NO | SHARE | KEY if prev.is(FOR) => return Err(Class::write(Why::LocksRows)),
            INSERT => return Err(Class::write(Why::Changes("INSERT"))),
            UPDATE => return Err(Class::write(Why::Changes("UPDATE"))),
            DELETE => return Err(Class::write(Why::Changes("DELETE"))),
            MERGE => return Err(Class::write(Why::Changes("MERGE"))),
            INTO => return Err(self.table_from_result()),
            SELECT | VALUES | TABLE if self.with_list == Some(self.depth) => {
                self.with_list = None;
                token.key
            }
            WITH if prev.kind == Kind::Open => {
                self.with_list = Some(self.depth);
                WITH
            }
            // WITH RECURSIVE
            0 if prev.is(WITH) && self.scan.text(token).eq_ignore_ascii_case(b"recursive") => WITH,
            SYSTEM if self.prev_text_is(b"tablesample") => SYNTAX,
            0 if self.prev_text_is(b"tablesample")
                && self.scan.text(token).eq_ignore_ascii_case(b"bernoulli") =>
            {
                SYNTAX
            }
            ON if prev.is(DISTINCT) => DISTINCT_ON,
            BY if prev.is(GROUP) => GROUP_BY,
            BY if prev.is(ORDER) || self.prev_text_is(b"partition") => SYNTAX,
            CUBE | ROLLUP if prev.is(GROUP_BY) => SYNTAX,
            SETS if prev.is(GROUPING) => SYNTAX,
            ZONE if prev.is(TIME) => SYNTAX,
            FIRST | NEXT if prev.is(FETCH) => SYNTAX,
            VARYING
                if prev.is(CHAR)
                    || prev.is(NCHAR)
                    || prev.is(BIT)
                    || self.prev_text_is(b"character") =>
            {
                SYNTAX
            }
            key => key,
        })
    }

    fn prev_text_is(&self, word: &[u8]) -> bool {
        self.prev.kind == Kind::Word && self.scan.text(self.prev).eq_ignore_ascii_case(word)
    }

    fn table_from_result(&mut self) -> Class {
        for _ in 0..2 {
            let token = self.scan.next();
            if token.is(TEMP) || self.scan.text(token).eq_ignore_ascii_case(b"temporary") {
                return Class::session(Why::Temporary);
            }
        }
        Class::write(Why::Into)
    }
}
