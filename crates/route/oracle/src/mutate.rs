//! More statements out of those there are: the same with a twist, and mostly still SQL.

use fastrand::Rng;

const BLANKS: &[&str] = &[
    " /* x */ ",
    "/* ' */",
    "/* /* \" */ */",
    " -- it's\n",
    "--\r",
    "\n",
    "\t",
    "\r\n",
    " /* ; */ ",
    "/**/",
    "/* $$ */",
];
const KEYWORDS: &[&str] = &[
    "select",
    "from",
    "where",
    "as",
    "on",
    "for",
    "into",
    "update",
    "delete",
    "insert",
    "merge",
    "with",
    "recursive",
    "values",
    "table",
    "lateral",
    "join",
    "left",
    "ilike",
    "like",
    "over",
    "filter",
    "by",
    "group",
    "order",
    "cube",
    "rollup",
    "sets",
    "grouping",
    "distinct",
    "all",
    "any",
    "in",
    "exists",
    "not",
    "null",
    "materialized",
    "no",
    "key",
    "share",
    "between",
    "and",
    "or",
    "case",
    "when",
    "then",
    "else",
    "end",
    "fetch",
    "first",
    "limit",
    "offset",
    "only",
    "row",
    "rows",
    "array",
    "cast",
    "operator",
    "using",
    "collate",
    "time",
    "zone",
    "interval",
    "varying",
    "character",
    "analyze",
    "explain",
    "show",
    "union",
    "json_value",
    "columns",
    "nested",
    "default",
    "window",
    "partition",
    "within",
];
const FRAGMENTS: &[&str] = &[
    "nextval('s')",
    ", nextval('s')",
    "+ book(1)",
    "book(1)",
    "\"book\"(1)",
    "farm.book(1)",
    "pg_catalog.nextval('s')",
    "farm.lower('a')",
    "FOR UPDATE",
    "FOR NO KEY UPDATE",
    "INTO t",
    "DISTINCT ON (a)",
    "::numeric(3)",
    "::farm.vec(3)",
    "AS x(a)",
    "v(x)",
    "OVER (ORDER BY book(1))",
    "FILTER (WHERE book(1))",
    "OPERATOR(pg_catalog.+)",
    "join('a')",
    "ilike(a, b)",
    "by(1)",
    "cube(1)",
    "CYCLE a SET b USING c",
    "SEARCH DEPTH FIRST BY a SET b",
    "WITH w(a) AS (SELECT 1)",
    "TABLESAMPLE book(1)",
    "pg_temp.t",
    "'a\\'",
    "E'a\\''",
    "U&'\\0061'",
    "$q$ ; $q$",
    "$1",
    "1.5e3",
    "0x1f",
    ";",
    "; DELETE FROM t",
    "AT TIME ZONE book('a')",
    "LIMIT book(1)",
    "FETCH FIRST (book(1)) ROWS ONLY",
    "(",
    ")",
    "[1]",
    ".a",
];

/// A statement made from one of `all`, with one or two twists.
pub fn mutant(rng: &mut Rng, all: &[String]) -> String {
    let any = |rng: &mut Rng| {
        all.get(rng.usize(..all.len().max(1))).map_or("", String::as_str).to_owned()
    };
    let mut sql = any(rng);
    for _ in 0..rng.usize(1..=2) {
        sql = match rng.u8(..12) {
            0 => respaced(rng, &sql),
            1 => recased(rng, &sql),
            2 => explained(rng, &sql),
            3 | 4 => nested(rng, &sql),
            5 => format!("{sql};{}{}", rng.choice(BLANKS).unwrap_or(&""), any(rng)),
            6 | 7 => replaced(rng, &sql),
            8 => {
                let other = any(rng);
                crossed(rng, &sql, &other)
            }
            9 => format!(
                "{sql}{}",
                rng.choice(["", ";", " ;;", "; -- x", "/*", "'", "\""]).unwrap_or_default()
            ),
            _ => inserted(rng, &sql),
        };
    }
    sql
}

/// The tokens of a text, each with the blanks before it; nothing if it has no proper tokens.
fn tokens(sql: &str) -> Vec<(&str, &str)> {
    let mut end = 0;
    // Not `scan_tokens`, which aborts on a text without tokens (pg_query 18.1.0).
    let scanned = pg_query::scan(sql).map(|scanned| scanned.tokens).unwrap_or_default();
    let token = |token: &pg_query::protobuf::ScanToken| {
        let (from, to) = (usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?);
        let pair = (sql.get(end..from)?, sql.get(from..to)?);
        end = to;
        Some(pair)
    };
    scanned.iter().map_while(token).collect()
}

fn joined<'a>(tokens: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    tokens.into_iter().flat_map(|(blank, token)| [blank, token]).collect()
}

fn respaced(rng: &mut Rng, sql: &str) -> String {
    let glue = rng.u8(..8) == 0;
    joined(tokens(sql).into_iter().map(|(blank, token)| match rng.u8(..4) {
        0 => (*rng.choice(BLANKS).unwrap_or(&" "), token),
        1 if glue => ("", token),
        _ => (blank, token),
    }))
}

fn recased(rng: &mut Rng, sql: &str) -> String {
    let change = |(blank, token): (&str, &str)| {
        let plain = !token.contains(['\'', '"', '$']) && !token.starts_with(['-', '/']);
        let token = match rng.u8(..3) {
            0 if plain => token.to_ascii_uppercase(),
            1 if plain => token.to_ascii_lowercase(),
            _ => token.to_owned(),
        };
        format!("{blank}{token}")
    };
    tokens(sql).into_iter().map(change).collect()
}

fn explained(rng: &mut Rng, sql: &str) -> String {
    let explain = [
        "EXPLAIN",
        "EXPLAIN ANALYZE",
        "explain analyse verbose",
        "EXPLAIN VERBOSE",
        "EXPLAIN (COSTS off)",
        "EXPLAIN (ANALYZE, BUFFERS)",
        "EXPLAIN (\"analyze\")",
        "EXPLAIN (ANALYZE off)",
        "EXPLAIN (format json, analyse 1)",
    ];
    format!("{} {sql}", rng.choice(explain).unwrap_or_default())
}

fn nested(rng: &mut Rng, sql: &str) -> String {
    match rng.u8(..12) {
        0 => format!("WITH w AS ({sql}) SELECT * FROM w"),
        1 => format!(
            "WITH w(a) AS NOT MATERIALIZED ({sql}), v(b) AS MATERIALIZED (SELECT 1) SELECT 1, lower(b) FROM v"
        ),
        2 => format!("WITH w(a) AS (SELECT 1), v(b) AS ({sql}) (TABLE v) ORDER BY 1, book(1)"),
        3 => format!("WITH RECURSIVE w(a) AS ({sql}) SELECT 1, book(2)"),
        4 => format!("SELECT ({sql})"),
        5 => format!("SELECT * FROM ({sql}) s(a, b)"),
        6 => format!("SELECT EXISTS({sql})"),
        7 => format!("SELECT lower(({sql}))"),
        8 => format!("({sql}) UNION ALL (SELECT 1)"),
        9 => format!("SELECT ARRAY({sql})"),
        10 => format!("SELECT * FROM a JOIN ({sql}) b ON true"),
        _ => format!("PREPARE p AS {sql}"),
    }
}

fn piece(rng: &mut Rng) -> &'static str {
    let pieces = if rng.u8(..3) == 0 { KEYWORDS } else { FRAGMENTS };
    rng.choice(pieces).copied().unwrap_or_default()
}

fn replaced(rng: &mut Rng, sql: &str) -> String {
    let mut tokens = tokens(sql);
    for _ in 0..rng.usize(1..=2) {
        let at = rng.usize(..tokens.len().max(1));
        if let Some((blank, token)) = tokens.get_mut(at) {
            *token = piece(rng);
            *blank = if blank.is_empty() && rng.bool() { " " } else { blank };
        }
    }
    joined(tokens)
}

/// The beginning of one and the end of another.
fn crossed(rng: &mut Rng, one: &str, other: &str) -> String {
    let (one, other) = (tokens(one), tokens(other));
    let (keep, skip) = (rng.usize(..=one.len()), rng.usize(..=other.len()));
    joined(one.into_iter().take(keep).chain(other.into_iter().skip(skip)))
}

fn inserted(rng: &mut Rng, sql: &str) -> String {
    let mut tokens = tokens(sql);
    let at = rng.usize(..=tokens.len());
    tokens.insert(at, (" ", piece(rng)));
    if let Some((blank, _)) = tokens.get_mut(at + 1)
        && blank.is_empty()
    {
        *blank = " ";
    }
    joined(tokens)
}
