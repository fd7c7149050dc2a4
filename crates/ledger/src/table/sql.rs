//! Changes of tables in PostgreSQL's words.
//!
//! Little is understood: tables that every engine can hold, and nothing that one of them does alone. What is not
//! understood is refused, never passed on.

use super::{Column, OnDelete, Reference, Table, TableChange};
use crate::{
    node::SqlError,
    value::{Decimal, Kind},
};

/// What a column may hold, for who asks for something else.
const KINDS: &str = "boolean, integer, bigint, numeric(p,s), double precision, text, varchar(n), bytea, bytea(n), date, \
                     timestamptz, uuid and jsonb";

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A name or a key word, in small letters.
    Word(String),
    /// A name in quotes, as it is.
    Quoted(String),
    Number(u32),
    Sign(char),
}

impl TableChange {
    /// Reads `CREATE TABLE`, `ALTER TABLE … ADD COLUMN` or `DROP TABLE`; `None` if the statement is no such thing.
    ///
    /// ```
    /// use herdsman_ledger::table::TableChange;
    /// let sql = "CREATE TABLE account (id bigint PRIMARY KEY, mail varchar(40) UNIQUE)";
    /// let Ok(Some(TableChange::Create(table))) = TableChange::of_sql(sql) else { panic!() };
    /// assert_eq!((table.columns.len(), table.key, table.uniques), (2, vec![0], vec![vec![1]]));
    /// assert_eq!(TableChange::of_sql("SELECT 1"), Ok(None));
    /// assert!(TableChange::of_sql("CREATE TABLE t (id serial PRIMARY KEY)").is_err());
    /// ```
    ///
    /// # Errors
    /// It is one, and not understood: SQLSTATE 42601 or 0A000.
    pub fn of_sql(sql: &str) -> Result<Option<Self>, SqlError> {
        let first: String =
            sql.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
        if !["create", "alter", "drop"].iter().any(|it| first.eq_ignore_ascii_case(it)) {
            return Ok(None);
        }
        let mut rest = Rest { tokens: tokens(sql)?, at: 0 };
        let kind = rest.word()?;
        if !rest.is("table") {
            return unsupported(format!(
                "a ledger knows CREATE TABLE, ALTER TABLE … ADD COLUMN and DROP TABLE, not {} {}",
                kind.to_uppercase(),
                rest.shown().to_uppercase()
            ));
        }
        let change = match kind.as_str() {
            "create" => Self::Create(rest.table()?),
            "alter" => rest.added()?,
            _ => Self::Drop { table: rest.name()? },
        };
        rest.end()?;
        Ok(Some(change))
    }
}

/// What has not been read yet.
struct Rest {
    tokens: Vec<Token>,
    at: usize,
}

impl Rest {
    fn table(&mut self) -> Result<Table, SqlError> {
        let mut table = Table {
            name: self.name()?,
            columns: Vec::new(),
            key: Vec::new(),
            uniques: Vec::new(),
            references: Vec::new(),
        };
        self.sign('(')?;
        loop {
            match self.peek_word() {
                Some("primary") => {
                    self.primary_key()?;
                    let key = self.places(&table)?;
                    set_key(&mut table, key)?;
                }
                Some("unique") => {
                    self.at += 1;
                    let unique = self.places(&table)?;
                    table.uniques.push(unique);
                }
                Some("foreign") => {
                    self.at += 1;
                    self.expect("key")?;
                    let columns = self.places(&table)?;
                    self.expect("references")?;
                    let reference = self.reference(columns)?;
                    table.references.push(reference);
                }
                Some(word @ ("constraint" | "check" | "exclude" | "like")) => {
                    return unsupported(format!(
                        "{} is not supported; a ledger's table has columns, PRIMARY KEY, UNIQUE and FOREIGN KEY",
                        word.to_uppercase()
                    ));
                }
                _ => self.column_of(&mut table)?,
            }
            if !self.is_sign(',') {
                break;
            }
        }
        self.sign(')')?;
        for at in &table.key {
            if let Some(column) = table.columns.get_mut(*at) {
                column.nullable = false;
            }
        }
        Ok(table)
    }

    fn column_of(&mut self, table: &mut Table) -> Result<(), SqlError> {
        let (column, at) = (self.column()?, table.columns.len());
        table.columns.push(column);
        loop {
            match self.peek_word() {
                Some("not") => {
                    self.at += 1;
                    self.expect("null")?;
                    if let Some(column) = table.columns.get_mut(at) {
                        column.nullable = false;
                    }
                }
                Some("null") => self.at += 1,
                Some("primary") => {
                    self.primary_key()?;
                    set_key(table, vec![at])?;
                }
                Some("unique") => {
                    self.at += 1;
                    table.uniques.push(vec![at]);
                }
                Some("references") => {
                    self.at += 1;
                    let reference = self.reference(vec![at])?;
                    table.references.push(reference);
                }
                Some(word) => return self.refuse(word),
                None => return Ok(()),
            }
        }
    }

    /// What comes after `REFERENCES`.
    fn reference(&mut self, columns: Vec<usize>) -> Result<Reference, SqlError> {
        let parent = self.name()?;
        let mut key = Vec::new();
        if self.is_sign('(') {
            loop {
                key.push(self.name()?);
                if !self.is_sign(',') {
                    break;
                }
            }
            self.sign(')')?;
        }
        let mut on_delete = OnDelete::Refuse;
        while self.is("on") {
            let deleted = self.is("delete");
            if !deleted {
                self.expect("update")?;
            }
            let action = self.action()?;
            if deleted {
                on_delete = action;
            } else if action != OnDelete::Refuse {
                return unsupported(
                    "ON UPDATE can be NO ACTION or RESTRICT: a key that rows refer to keeps its value",
                );
            }
        }
        Ok(Reference { columns, parent, key, on_delete })
    }

    fn action(&mut self) -> Result<OnDelete, SqlError> {
        if self.is("cascade") {
            return Ok(OnDelete::Cascade);
        }
        if self.is("restrict") {
            return Ok(OnDelete::Refuse);
        }
        if self.is("no") {
            return self.expect("action").map(|()| OnDelete::Refuse);
        }
        self.expect("set")?;
        if self.is("default") {
            return unsupported("SET DEFAULT is not supported: a ledger's columns have no default");
        }
        self.expect("null").map(|()| OnDelete::SetNull)
    }

    fn refuse<T>(&self, word: &str) -> Result<T, SqlError> {
        let hint = match word {
            "default" | "generated" => {
                "; give the value in each INSERT: a node that makes one up would differ from the others"
            }
            "references" => "; a column that is added refers to nothing",
            _ => "",
        };
        unsupported(format!("{} is not supported in a ledger's table{hint}", word.to_uppercase()))
    }

    fn added(&mut self) -> Result<TableChange, SqlError> {
        let table = self.name()?;
        if !self.is("add") {
            return unsupported(format!(
                "ALTER TABLE … {} is not supported; a ledger knows ALTER TABLE … ADD COLUMN",
                self.shown().to_uppercase()
            ));
        }
        let _may_be_left_out = self.is("column");
        let column = self.column()?;
        match self.peek_word() {
            None | Some("null") => {
                self.at += usize::from(self.peek_word().is_some());
                Ok(TableChange::AddColumn { table, column })
            }
            Some("not") => unsupported(
                "a column that is added may be null: the rows that are there have nothing in it",
            ),
            Some(word) => self.refuse(word),
        }
    }

    /// A column that may be null.
    fn column(&mut self) -> Result<Column, SqlError> {
        Ok(Column { name: self.name()?, kind: self.kind()?, nullable: true })
    }

    fn kind(&mut self) -> Result<Kind, SqlError> {
        let word = self.word()?;
        Ok(match word.as_str() {
            "boolean" | "bool" => Kind::Bool,
            "integer" | "int" | "int4" => Kind::Int32,
            "bigint" | "int8" => Kind::Int64,
            "numeric" | "decimal" => self.decimal()?,
            "float8" => Kind::Float,
            "double" => {
                self.expect("precision")?;
                Kind::Float
            }
            "text" => Kind::Text { max: None },
            "varchar" => Kind::Text { max: self.length()? },
            "character" if self.is("varying") => Kind::Text { max: self.length()? },
            "bytea" => Kind::Bytes { max: self.length()? },
            "date" => Kind::Date,
            "timestamptz" => Kind::Timestamp,
            "timestamp" if self.is("with") => {
                self.expect("time")?;
                self.expect("zone")?;
                Kind::Timestamp
            }
            "uuid" => Kind::Uuid,
            "jsonb" => Kind::Json,
            other => {
                return unsupported(format!(
                    "type {other} is not one that every engine has; there are {KINDS}"
                ));
            }
        })
    }

    fn decimal(&mut self) -> Result<Kind, SqlError> {
        if !self.is_sign('(') {
            return unsupported(format!(
                "numeric needs its digits, as in numeric({},2): engines differ in what they are without",
                Decimal::MOST_DIGITS
            ));
        }
        let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        let precision = small(self.number()?);
        let scale = if self.is_sign(',') { small(self.number()?) } else { 0 };
        self.sign(')')?;
        Ok(Kind::Decimal { precision, scale })
    }

    fn length(&mut self) -> Result<Option<u32>, SqlError> {
        if !self.is_sign('(') {
            return Ok(None);
        }
        let length = self.number()?;
        self.sign(')')?;
        Ok(Some(length))
    }

    fn primary_key(&mut self) -> Result<(), SqlError> {
        self.expect("primary")?;
        self.expect("key")
    }

    /// `(a, b)`, as places of columns.
    fn places(&mut self, table: &Table) -> Result<Vec<usize>, SqlError> {
        self.sign('(')?;
        let mut places = Vec::new();
        loop {
            let name = self.name()?;
            let at = table.columns.iter().position(|it| it.name == name);
            places.push(at.ok_or_else(|| {
                refused(
                    "42703",
                    format!("a key names column {name:?}, which the table does not have"),
                )
            })?);
            if !self.is_sign(',') {
                break;
            }
        }
        self.sign(')')?;
        Ok(places)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn peek_word(&self) -> Option<&'static str> {
        /// What may stand where a name could.
        const WORDS: [&str; 16] = [
            "not",
            "null",
            "primary",
            "unique",
            "constraint",
            "foreign",
            "check",
            "exclude",
            "like",
            "default",
            "generated",
            "references",
            "collate",
            "cascade",
            "if",
            "storage",
        ];
        let Some(Token::Word(word)) = self.peek() else { return None };
        WORDS.into_iter().find(|it| it == word)
    }

    fn name(&mut self) -> Result<String, SqlError> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) if self.peek_word() == Some("if") => {
                unsupported(format!("{} (NOT) EXISTS is not supported", word.to_uppercase()))
            }
            Some(Token::Word(name) | Token::Quoted(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.expected("a name"),
        }
    }

    fn word(&mut self) -> Result<String, SqlError> {
        let Some(Token::Word(word)) = self.peek().cloned() else { return self.expected("a word") };
        self.at += 1;
        Ok(word)
    }

    fn number(&mut self) -> Result<u32, SqlError> {
        let Some(Token::Number(number)) = self.peek().cloned() else {
            return self.expected("a number");
        };
        self.at += 1;
        Ok(number)
    }

    /// Whether this word comes next; then it is passed.
    fn is(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.at += usize::from(there);
        there
    }

    fn is_sign(&mut self, sign: char) -> bool {
        let there = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.is(word) { Ok(()) } else { self.expected(&word.to_uppercase()) }
    }

    fn sign(&mut self, sign: char) -> Result<(), SqlError> {
        if self.is_sign(sign) { Ok(()) } else { self.expected(&format!("`{sign}`")) }
    }

    fn end(&mut self) -> Result<(), SqlError> {
        let _may_be_left_out = self.is_sign(';');
        match self.peek_word() {
            _ if self.peek().is_none() => Ok(()),
            Some(word) => self.refuse(word),
            None => self.expected("the end"),
        }
    }

    fn expected<T>(&self, what: &str) -> Result<T, SqlError> {
        Err(refused("42601", format!("expected {what} at {}", self.shown())))
    }

    /// What comes next, for a message.
    fn shown(&self) -> String {
        match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Word(text)) => text.clone(),
            Some(Token::Quoted(text)) => format!("\"{text}\""),
            Some(Token::Number(number)) => number.to_string(),
            Some(Token::Sign(sign)) => sign.to_string(),
        }
    }
}

fn set_key(table: &mut Table, key: Vec<usize>) -> Result<(), SqlError> {
    if !table.key.is_empty() {
        return Err(refused("42P16", "a table has one primary key".to_owned()));
    }
    table.key = key;
    Ok(())
}

fn tokens(sql: &str) -> Result<Vec<Token>, SqlError> {
    let mut tokens = Vec::new();
    let mut letters = sql.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut take = |first: char, fits: fn(&char) -> bool| {
            let mut text = String::from(first);
            while let Some(next) = letters.next_if(fits) {
                text.push(next);
            }
            text
        };
        match letter {
            blank if blank.is_whitespace() => {}
            '(' | ')' | ',' | ';' => tokens.push(Token::Sign(letter)),
            '0'..='9' => {
                let text = take(letter, char::is_ascii_digit);
                let number = text.parse().map_err(|_| {
                    refused("42601", format!("{text} is larger than any number here"))
                })?;
                tokens.push(Token::Number(number));
            }
            '"' => {
                let text = take('"', |it| *it != '"');
                if letters.next().is_none() {
                    return Err(refused("42601", "a quoted name does not end".to_owned()));
                }
                tokens.push(Token::Quoted(text.trim_start_matches('"').to_owned()));
            }
            first if first.is_alphabetic() || first == '_' => {
                let text = take(first, |it| it.is_alphanumeric() || *it == '_');
                tokens.push(Token::Word(text.to_ascii_lowercase()));
            }
            other => {
                let message = format!("`{other}` is not supported in a change of a ledger's table");
                return unsupported(message);
            }
        }
    }
    Ok(tokens)
}

fn unsupported<T>(message: impl Into<String>) -> Result<T, SqlError> {
    Err(refused("0A000", message.into()))
}

fn refused(state: &str, message: String) -> SqlError {
    SqlError::Refused { state: state.to_owned(), message }
}

#[cfg(test)]
mod tests;
