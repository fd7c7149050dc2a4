//! Which topic a table's changes go to.

use herdsman_wal::Relation;

/// A topic's name with places for the table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Schema,
    Table,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what in it is not allowed.
    pub(super) fn read(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("the topic `{pattern}` has a `{{` without its `}}`"))?;
            parts.push(Part::Text(allowed(text, pattern)?));
            parts.push(match name {
                "schema" => Part::Schema,
                "table" => Part::Table,
                _ => {
                    return Err(format!(
                        "the topic `{pattern}` has an unknown place `{{{name}}}`; there are {{schema}} and {{table}}"
                    ));
                }
            });
            rest = after;
        }
        parts.push(Part::Text(allowed(rest, pattern)?));
        if pattern.is_empty() {
            return Err("the topic is empty".to_owned());
        }
        Ok(Self(parts))
    }

    /// The topic of a table.
    pub(super) fn of(&self, table: &Relation) -> String {
        let mut topic = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Schema => push_name(&mut topic, &table.schema),
                Part::Table => push_name(&mut topic, &table.name),
            }
        }
        topic
    }
}

/// A topic's name as it is.
pub(super) fn plain(name: &str) -> Result<String, String> {
    if name.is_empty() { Err("the topic is empty".to_owned()) } else { allowed(name, name) }
}

fn allowed(text: &str, pattern: &str) -> Result<String, String> {
    match text.chars().find(|character| !is_legal(*character)) {
        None => Ok(text.to_owned()),
        Some(character) => Err(format!(
            "the topic `{pattern}` holds {character:?}; Kafka allows letters, digits, `.`, `_` and `-`"
        )),
    }
}

fn push_name(topic: &mut String, name: &str) {
    topic.extend(name.chars().map(|it| if is_legal(it) { it } else { '_' }));
}

fn is_legal(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use herdsman_wal::ReplicaIdentity;

    use super::*;

    fn topic(pattern: &str, schema: &str, name: &str) -> String {
        let table = Relation {
            oid: 1,
            schema: schema.into(),
            name: name.into(),
            identity: ReplicaIdentity::Default,
            columns: Vec::new(),
        };
        Pattern::read(pattern).unwrap().of(&table)
    }

    #[test]
    fn places_are_filled_and_what_kafka_does_not_allow_is_replaced() {
        assert_eq!(topic("herdsman.{schema}.{table}", "public", "words"), "herdsman.public.words");
        assert_eq!(topic("{table}", "public", "größe & Maß"), "gr__e___Ma_");
        assert_eq!(topic("all", "public", "words"), "all");
    }

    #[test]
    fn a_pattern_that_cannot_be_a_topic_is_refused() {
        for (pattern, said) in
            [("", "empty"), ("a{tabel}", "{tabel}"), ("a{table", "without"), ("a b{table}", "' '")]
        {
            let problem = Pattern::read(pattern).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
        assert!(plain("herdsman/messages").is_err());
    }
}
