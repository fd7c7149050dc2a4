//! A request as a client writes it: JSON, read strictly.

mod statement;

use serde::Deserialize;
use serde_json::{Value, error::Category};

pub(super) use statement::Statement;

use crate::{Offset, RequestId, codec::Writer, identity::sha256_half, node::Sql};
use statement::Params;

/// The largest request. Kafka's own limit is about as much, unless a topic says otherwise.
pub(super) const REQUEST_BYTES_MOST: usize = 1024 * 1024;
/// The longest `messageId` and `clientId`: they come back in every answer.
const ID_BYTES_MOST: usize = 200;
/// More statements than a transaction of people's making has.
const STATEMENTS_MOST: usize = 100;

/// Which topic a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Topic {
    /// The ledger's log: the request has a place in it.
    All,
    /// Requests that read, each taken by one program.
    One,
}

impl Topic {
    /// What it is called in answers, whatever the topic's own name is.
    pub(super) fn role(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::One => "ONE",
        }
    }
}

/// Whose request it is, and how the client finds the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) message: String,
    pub(super) client: Option<String>,
}

impl Ids {
    /// The same for the same client's same message, and in all likelihood for no other.
    pub(super) fn request(&self) -> RequestId {
        let mut text = Writer::default();
        text.raw(b"herdsman request by message ");
        text.bytes(self.client.as_deref().unwrap_or_default().as_bytes());
        text.bytes(self.message.as_bytes());
        RequestId(sha256_half(&text.0))
    }
}

/// How fresh a read is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Read {
    /// What the node has.
    Eventual,
    /// At least what is at `after`, which the client knows from answers.
    #[default]
    Session,
    /// Everything that had committed anywhere when the request was made.
    Linearizable,
}

/// Which of the two forms a request has; the answer has the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Kluster's: one statement.
    One(Statement),
    /// Statements of one transaction.
    Many(Vec<Statement>),
}

impl Text {
    pub(super) fn statements(&self) -> Vec<Sql<'_>> {
        let all = match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all.as_slice(),
        };
        all.iter().map(Statement::sql).collect()
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) ids: Ids,
    pub(super) text: Text,
    pub(super) node: Option<String>,
    pub(super) read: Read,
    pub(super) after: Option<Offset>,
}

/// A message that asks for nothing that could be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The client can be told.
    Told(Ids, String),
    /// Nobody can be told: there is no id. Says nothing of what was in it.
    Lost(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    message_id: Option<Value>,
    client_id: Option<Value>,
}

/// The keys of a request; no others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "messageId")]
    _message: String,
    #[serde(rename = "clientId")]
    _client: Option<String>,
    sql_string: Option<String>,
    params: Option<Params>,
    statements: Option<Vec<Statement>>,
    node: Option<String>,
    #[serde(default)]
    read: Option<Read>,
    after: Option<u64>,
}

/// Reads a request.
pub(super) fn read(body: &[u8]) -> Result<Asked, Unfit> {
    let ids = ids(body).map_err(Unfit::Lost)?;
    let told = |why: String| Unfit::Told(ids.clone(), why);
    if body.len() > REQUEST_BYTES_MOST {
        let most = REQUEST_BYTES_MOST;
        return Err(told(format!(
            "the request has {} bytes, at most {most} are taken",
            body.len()
        )));
    }
    let document: Document = serde_json::from_slice(body)
        .map_err(|error| told(format!("the request cannot be read: {error}")))?;
    let text = match (document.sql_string, document.statements) {
        (Some(sql), None) => Text::One(Statement::new(sql, document.params)),
        (None, Some(_)) if document.params.is_some() => {
            let why = "`params` is of `sqlString`; one of `statements` has its own: {\"sql\": …, \"params\": […]}";
            return Err(told(why.to_owned()));
        }
        (None, Some(all)) if (1..=STATEMENTS_MOST).contains(&all.len()) => Text::Many(all),
        (None, Some(all)) => {
            let found = all.len();
            let why = format!("`statements` has {found}, expected 1 to {STATEMENTS_MOST}");
            return Err(told(why));
        }
        _ => {
            let why = "expected one of `sqlString` (one statement) and `statements` (a list)";
            return Err(told(why.to_owned()));
        }
    };
    Ok(Asked {
        ids,
        text,
        node: document.node,
        read: document.read.unwrap_or_default(),
        after: document.after.map(Offset),
    })
}

/// What an answer needs, wherever else the message is wrong.
fn ids(body: &[u8]) -> Result<Ids, &'static str> {
    let outline: Outline =
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            Category::Syntax | Category::Eof | Category::Io => "it is not JSON",
            Category::Data => "it is not a JSON object with each key once",
        })?;
    let fits = |id: &String| (1..=ID_BYTES_MOST).contains(&id.len());
    let Some(Value::String(message)) = outline.message_id else {
        return Err("it has no text `messageId`");
    };
    let client = match outline.client_id {
        None | Some(Value::Null) => None,
        Some(Value::String(client)) => Some(client),
        Some(_) => return Err("its `clientId` is no text"),
    };
    if !fits(&message) || !client.iter().all(fits) {
        return Err("its `messageId` or `clientId` is empty or longer than 200 bytes");
    }
    Ok(Ids { message, client })
}

/// Whether a statement by its first word only reads. What may write, such as `WITH`, does not.
pub(super) fn only_reads(sql: &str) -> bool {
    let mut rest = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    loop {
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            break;
        };
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    ["SELECT", "VALUES", "TABLE"].iter().any(|it| word.eq_ignore_ascii_case(it))
}

#[cfg(test)]
mod tests;
