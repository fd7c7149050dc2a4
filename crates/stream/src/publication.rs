//! From the configuration to the publication: which tables and rows the server sends.

use herdsman_wal::inspect::Session;
use herdsman_wal::publication::{
    Outcome, PublicationError, PublicationSpec, TableFacts, TableSpec, create_or_alter,
    list_tables, matching,
};
use herdsman_wal::{Glob, WalError};

use crate::StreamConfig;

/// The publication that the configuration asks for, among the tables there are.
///
/// Columns are left out on our side, never by the publication: a column list that misses a part of a key makes the
/// application's own updates fail, and would have to be changed with every key.
#[must_use]
pub fn wanted(config: &StreamConfig, tables: &[TableFacts]) -> PublicationSpec {
    let globs =
        |patterns: &[String]| patterns.iter().filter_map(|p| Glob::new(p).ok()).collect::<Vec<_>>();
    let tables = matching(tables, &globs(&config.tables), &globs(&config.exclude));
    let tables = tables.into_iter().map(|facts| TableSpec {
        row_filter: row_filter(config, &facts.schema, &facts.name),
        ..TableSpec::whole(&facts.schema, &facts.name)
    });
    PublicationSpec {
        // A reader thinks of the table it named, not of the partition a row is in.
        via_partition_root: true,
        ..PublicationSpec::of(config.publication.clone(), tables.collect())
    }
}

/// Makes the publication what the configuration asks for, by the smallest change.
///
/// # Errors
/// [`PublicationError`]; nothing was changed then.
pub async fn make(
    session: &mut Session,
    config: &StreamConfig,
) -> Result<Outcome, PublicationError> {
    let tables = list_tables(session).await?;
    let spec = wanted(config, &tables);
    if spec.tables.is_empty() {
        return Err(PublicationError::Wal(nothing_to_publish(session, config)));
    }
    create_or_alter(session, &spec).await
}

/// A row is sent where every condition on its table holds.
fn row_filter(config: &StreamConfig, schema: &str, name: &str) -> Option<String> {
    let matching = config
        .transform
        .iter()
        .filter(|(pattern, _)| Glob::new(pattern).is_ok_and(|glob| glob.matches(schema, name)));
    let conditions: Vec<_> =
        matching.filter_map(|(_, transform)| transform.condition.as_deref()).collect();
    match conditions.as_slice() {
        [] => None,
        [only] => Some((*only).to_owned()),
        // The line ends keep a comment at a condition's end from swallowing the rest.
        several => Some(format!("({}\n)", several.join("\n) AND ("))),
    }
}

fn nothing_to_publish(session: &Session, config: &StreamConfig) -> WalError {
    WalError::Server {
        endpoint: session.endpoint().to_owned(),
        what: format!("publish {}", config.tables.join(", ")),
        message: "no table of this database matches".to_owned(),
        sqlstate: "42P01".to_owned(),
        advice: "; check `stream.tables` and the database that is read (`stream.login.dbname`)"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use herdsman_wal::ReplicaIdentity;

    use super::*;
    use crate::config::TransformConfig;

    fn table(schema: &str, name: &str) -> TableFacts {
        TableFacts {
            schema: schema.to_owned(),
            name: name.to_owned(),
            partitioned: false,
            partition_of: None,
            has_primary_key: true,
            deferrable_key: false,
            identity: ReplicaIdentity::Default,
            identity_columns: vec!["id".to_owned()],
            unidentified: Vec::new(),
        }
    }

    fn only_rows_where(condition: &str) -> TransformConfig {
        TransformConfig { condition: Some(condition.to_owned()), ..TransformConfig::default() }
    }

    #[test]
    fn tables_are_those_asked_for_with_every_condition_on_them() {
        let transform = [
            ("public.*".to_owned(), only_rows_where("tenant = 1")),
            ("public.orders".to_owned(), only_rows_where("amount > 0 -- paid")),
        ];
        let config = StreamConfig {
            exclude: vec!["public.secret*".to_owned()],
            transform: transform.into(),
            ..StreamConfig::default()
        };
        let tables = [
            table("other", "orders"),
            table("public", "orders"),
            table("public", "secrets"),
            table("public", "users"),
        ];
        let spec = wanted(&config, &tables);
        let filters: Vec<_> =
            spec.tables.iter().map(|t| (t.name.as_str(), t.row_filter.as_deref())).collect();
        assert_eq!(
            filters,
            [
                ("orders", Some("(tenant = 1\n) AND (amount > 0 -- paid\n)")),
                ("users", Some("tenant = 1")),
            ]
        );
    }
}
