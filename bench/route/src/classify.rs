//! What it costs to tell a read from a write.

use std::hint::black_box;

use herdsman::classify::{Class, Classifier, Functions, classify};
use serde::Serialize;

use crate::clock;
use crate::error::BenchError;
use crate::figures::{Middle, spread, table};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    statements: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    what: &'static str,
    bytes: usize,
    class: String,
    /// Nanoseconds per call, by batch.
    uncached: Vec<f64>,
    cached: Vec<f64>,
}

const POINT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";
const INSERT: &str = "INSERT INTO \"orders\" (\"item\", \"pieces\", \"customer_id\", \"created_at\") VALUES ($1, $2, $3, $4) RETURNING \"id\", \"item\", \"pieces\", \"customer_id\", \"created_at\"";
const JOIN: &str = "SELECT o.id, o.created_at, c.name, c.email, count(l.id) AS lines, sum(l.pieces * l.price) AS total \
     FROM orders o JOIN customers c ON c.id = o.customer_id LEFT JOIN order_lines l ON l.order_id = o.id \
     WHERE o.created_at >= $1 AND o.created_at < $2 AND c.country = 'NL' AND o.state <> 'cancelled' \
     GROUP BY o.id, o.created_at, c.name, c.email HAVING sum(l.pieces * l.price) > 100 \
     ORDER BY total DESC NULLS LAST LIMIT 50 OFFSET $3";

/// Calls per batch and kind.
const CALLS: u32 = 20_000;

pub(crate) async fn run(batches: u32) -> Result<Report, BenchError> {
    Ok(tokio::task::spawn_blocking(move || measure(batches)).await?)
}

fn measure(batches: u32) -> Report {
    let (functions, classifier) = (Functions::builtin(), Classifier::new());
    let generated = generated();
    let statements = [
        ("point select", POINT),
        ("insert", INSERT),
        ("join", JOIN),
        ("ORM's select", generated.as_str()),
    ];
    let mut measured: Vec<Measured> = statements
        .iter()
        .map(|(what, sql)| Measured {
            what,
            bytes: sql.len(),
            class: format!("{:?}", classify(sql, &functions).kind),
            uncached: Vec::new(),
            cached: Vec::new(),
        })
        .collect();
    for _ in 0..batches {
        for ((_, sql), measured) in statements.iter().zip(&mut measured) {
            measured.uncached.push(nanos(|| classify(black_box(sql), &functions)));
            measured.cached.push(nanos(|| classifier.classify(black_box(sql))));
        }
    }
    Report { statements: measured }
}

fn nanos(call: impl Fn() -> Class) -> f64 {
    let begun = clock::of_thread();
    for _ in 0..CALLS {
        black_box(call());
    }
    (clock::of_thread() - begun).as_secs_f64() * 1e9 / f64::from(CALLS)
}

/// As an ORM writes it: every column quoted, qualified and renamed.
fn generated() -> String {
    let columns = |table: &str, prefix: &str| -> String {
        let names = [
            "id",
            "created_at",
            "updated_at",
            "name",
            "description",
            "state",
            "position",
            "owner_id",
            "parent_id",
            "closed_at",
            "priority",
        ];
        let column = |name: &&str| format!("\"{table}\".\"{name}\" AS \"{prefix}_{name}\"");
        names.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    format!(
        "SELECT {}, {}, {} FROM \"projects\" LEFT JOIN \"tasks\" ON \"projects\".\"id\" = \"tasks\".\"project_id\" \
         LEFT JOIN \"comments\" ON \"tasks\".\"id\" = \"comments\".\"task_id\" \
         WHERE \"projects\".\"state\" IN ($1, $2, $3) AND \"projects\".\"owner_id\" = $4 \
         AND \"tasks\".\"created_at\" > $5 ORDER BY \"projects\".\"id\" ASC, \"tasks\".\"position\" ASC LIMIT $6 OFFSET $7",
        columns("projects", "A"),
        columns("tasks", "B"),
        columns("comments", "C"),
    )
}

impl Report {
    pub(crate) fn text(&self) -> String {
        table(
            "Classification: nanoseconds per statement, median (quartiles)",
            &["STATEMENT", "BYTES", "IS A", "LOOKED AT", "REMEMBERED"],
            self.statements.iter().map(|measured| {
                vec![
                    measured.what.to_owned(),
                    measured.bytes.to_string(),
                    measured.class.clone(),
                    spread(Middle::of(measured.uncached.iter().copied())),
                    spread(Middle::of(measured.cached.iter().copied())),
                ]
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use herdsman::classify::Kind;

    use super::*;

    #[test]
    fn the_statements_are_what_the_table_says() {
        let functions = Functions::builtin();
        for read in [POINT, JOIN, &generated()] {
            assert_eq!(classify(read, &functions).kind, Kind::Read, "{read}");
        }
        assert_eq!(classify(INSERT, &functions).kind, Kind::Write);
        assert!((1_300..1_700).contains(&generated().len()), "{}", generated().len());
    }
}
