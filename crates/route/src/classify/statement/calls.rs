//! Names and parentheses: which of them are calls, and of what.

use super::{
    AS, Before, DISTINCT_ON, GROUP_BY, Judged, OPERATOR, PG_TEMP, SYNTAX, Statement, WITH,
};
use crate::classify::functions::{Entry, Known};
use crate::classify::scan::{Kind, Token};
use crate::classify::{Class, Why};

impl Statement<'_> {
    /// Keeps track of where a possibly qualified name began, and finds temporary schemas.
    #[inline]
    pub(super) fn name(&mut self, token: Token) -> Judged<()> {
        if self.prev.kind != Kind::Dot {
            self.before = Before { kind: self.prev.kind, key: self.prev.key };
            self.in_pg_catalog = false;
        }
        let may_be_temporary =
            token.end - token.start >= 7 && (token.key == PG_TEMP || token.key <= 1);
        if may_be_temporary && is_temporary_schema(self.scan.text(token)) {
            return Err(Class::session(Why::Temporary));
        }
        Ok(())
    }

    pub(super) fn dot(&mut self) {
        if matches!(self.prev.kind, Kind::Word | Kind::Quoted) {
            self.in_pg_catalog = self.scan.text(self.prev).eq_ignore_ascii_case(b"pg_catalog");
        } else {
            self.before = Before { kind: Kind::Dot, key: 0 };
        }
    }

    pub(super) fn close(&mut self) -> Judged<Kind> {
        let Some(depth) = self.depth.checked_sub(1) else { return Err(Class::write(Why::Unclear)) };
        self.depth = depth;
        if self.with_list.is_some_and(|list| list > depth) {
            self.with_list = None;
        }
        let operand = self.operands & 1 == 1;
        self.operands >>= 1;
        Ok(if operand { Kind::Close } else { Kind::Other })
    }

    pub(super) fn open(&mut self, executed: bool) -> Judged<()> {
        let name = self.prev;
        let plain = name.kind == Kind::Word && self.prev2 != Kind::Dot;
        // `a OPERATOR(s.+) f(x)`, `SELECT DISTINCT ON (a) f(x)`: a call may follow the `)`.
        let operand = !(plain && name.key == DISTINCT_ON);
        if executed {
            if plain && name.key == OPERATOR {
                return Err(Class::write(Why::Unclear));
            }
            let column_list = self.is_column_list();
            if self.with_list == Some(self.depth) && !column_list && !self.opens_with_query() {
                self.with_list = None;
            }
            if matches!(name.kind, Kind::Word | Kind::Quoted) && !column_list {
                self.call(plain)?;
            }
        }
        self.depth += 1;
        self.operands = self.operands << 1 | u64::from(operand);
        Ok(())
    }

    /// `name (…)` in a `WITH` list, before its `AS`.
    fn is_column_list(&self) -> bool {
        self.with_list == Some(self.depth)
            && matches!(self.prev.kind, Kind::Word | Kind::Quoted)
            && self.prev2 != Kind::Dot
            && (self.before.is(WITH) || self.before.kind == Kind::Comma)
    }

    /// The parenthesis after `AS` or `MATERIALIZED` in a `WITH` list. Any other one is the query that ends the list.
    fn opens_with_query(&self) -> bool {
        self.prev.is(AS) || self.scan.text(self.prev).eq_ignore_ascii_case(b"materialized")
    }

    /// `prev` is a name and `(` follows. Is it a call, and of what?
    fn call(&mut self, plain: bool) -> Judged<()> {
        let qualified = self.prev2 == Kind::Dot;
        let quoted = self.prev.kind == Kind::Quoted;
        let entry = match self.prev.key {
            // The name contains quotes: it is not what stands here.
            1 if quoted => Entry::NOTHING,
            _ => self.functions.find(self.scan.text(self.prev), quoted),
        };
        let vouched = !qualified || self.in_pg_catalog || self.functions.knows_catalogue();
        if entry.known == Known::Safe && vouched
            || plain && (entry.keyword || matches!(self.prev.key, SYNTAX | GROUP_BY))
            || self.is_no_call(qualified)
        {
            return Ok(());
        }
        match entry.known {
            Known::Belongs { name, session: true } => return Err(Class::session(Why::Calls(name))),
            Known::Belongs { name, session: false } => return Err(Class::write(Why::Calls(name))),
            Known::Volatile => self.doubt.get_or_insert(Why::VolatileFunction),
            Known::Safe | Known::Nothing => self.doubt.get_or_insert(Why::UnknownFunction),
        };
        Ok(())
    }

    /// Whether a name with a parenthesis stands where no call can.
    fn is_no_call(&self, qualified: bool) -> bool {
        // A type with a modifier, or a column list behind an alias.
        self.before.kind == Kind::Cast
            || self.before.is(AS)
            // Where an operand has ended: alias with column list, OVER, FILTER, COLUMNS.
            || !qualified && matches!(self.before.kind, Kind::Close | Kind::Text)
            || begins_query(self.scan.rest())
    }
}

fn is_temporary_schema(name: &[u8]) -> bool {
    if !matches!(name.first(), Some(b'p' | b'P')) {
        return false;
    }
    let starts_with = |prefix: &[u8]| {
        name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
    };
    name.eq_ignore_ascii_case(b"pg_temp")
        || starts_with(b"pg_temp_")
        || starts_with(b"pg_toast_temp_")
}

/// Whether `(` is followed by a query, which no argument list begins with. Comments before it are not looked behind.
fn begins_query(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (word, after) = rest.split_at(letters);
    let ends = !after
        .first()
        .is_some_and(|&byte| byte == b'_' || byte == b'$' || byte.is_ascii_digit() || byte >= 128);
    let query =
        [&b"select"[..], b"with", b"table"].iter().any(|query| word.eq_ignore_ascii_case(query));
    // `values` can be a column: f(values).
    let values = word.eq_ignore_ascii_case(b"values") && after.trim_ascii_start().starts_with(b"(");
    ends && (query || values)
}
