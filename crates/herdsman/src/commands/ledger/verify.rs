//! `herdsman ledger verify`: whether all nodes hold the same.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use super::target;
use super::work::{self, Answer, Request, TableSums, Verdict};
use crate::cli::{ConfigFile, Global, time};
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, clean};

/// `herdsman ledger verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// How long it may take; transactions wait meanwhile
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    within: Duration,
    /// Print the sums as JSON
    #[arg(long)]
    json: bool,
}

/// Compares and tells.
pub(super) async fn run(args: &VerifyArgs, global: &Global) -> Result<Exit, Failed> {
    let (_, setup) = target::find(args.file.file.as_deref().or(global.config.as_deref()))?;
    let request = Request::Verify { within: args.within };
    let Answer::Verified(verdict) = work::ask(&setup, &request).await? else {
        return Err(Exit::Unavailable.with("the running program answers something else than sums"));
    };
    output::line(&if args.json {
        serde_json::to_string_pretty(&verdict).unwrap_or_default()
    } else {
        text(&verdict, setup.config.nodes.keys())
    });
    Ok(if verdict.alike { Exit::Success } else { Exit::Failure })
}

fn text<'n>(verdict: &Verdict, nodes: impl Iterator<Item = &'n String>) -> String {
    let rows = verdict.tables.iter().map(|table| {
        let most = table.nodes.values().flatten().map(|sum| sum.rows).max().unwrap_or_default();
        let verdict = if table.alike { "equal" } else { "differs" };
        [clean(&table.table), most.to_string(), verdict.to_owned(), parties(table)]
    });
    let mut lines =
        vec![show::table(["TABLE", "ROWS", "VERDICT", "WHO HOLDS WHAT"], rows.collect())];
    lines.push(String::new());
    for (node, why) in &verdict.absent {
        lines.push(clean(&format!("{node} could not be looked at: {why}")));
    }
    let present = nodes.filter(|node| !verdict.absent.contains_key(*node)).cloned();
    let present: Vec<String> = present.collect();
    let alike = if verdict.tables.iter().all(|table| table.alike) { "hold" } else { "do not hold" };
    let who = match present.as_slice() {
        [] => return lines.join("\n"),
        [one] => format!("{one} alone was looked at"),
        all => format!("{} {alike} the same", herdsman_config::and(all)),
    };
    lines.push(format!("{who}, at entry {}", verdict.entry));
    lines.join("\n")
}

/// Nodes that hold the same together, where not all do.
fn parties(table: &TableSums) -> String {
    if table.alike {
        return String::new();
    }
    let mut parties: BTreeMap<_, (Vec<&str>, Option<u64>)> = BTreeMap::new();
    for (node, sum) in &table.nodes {
        let key = sum.as_ref().map(|sum| sum.sum.as_str());
        let party = parties.entry(key).or_insert((Vec::new(), sum.as_ref().map(|sum| sum.rows)));
        party.0.push(node);
    }
    let shown = parties.into_iter().map(|(sum, (nodes, rows))| {
        let held = match (rows, sum) {
            (Some(rows), Some(sum)) => {
                format!("{rows} rows, {}", sum.chars().take(8).collect::<String>())
            }
            _ => "no such table".to_owned(),
        };
        format!("{}: {held}", nodes.join(", "))
    });
    clean(&shown.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::ledger::work::Sum;

    #[test]
    fn who_differs_is_told_by_table() {
        let sum = |rows, sum: &str| Some(Sum { rows, sum: sum.repeat(8) });
        let nodes = |a, b, c| {
            [("a", a), ("b", b), ("c", c)].map(|(name, sum)| (name.to_owned(), sum)).into()
        };
        let mut verdict = Verdict {
            entry: 9,
            alike: false,
            tables: vec![
                TableSums {
                    table: "account".to_owned(),
                    alike: true,
                    nodes: nodes(sum(2, "0a"), sum(2, "0a"), sum(2, "0a")),
                },
                TableSums {
                    table: "orders".to_owned(),
                    alike: false,
                    nodes: nodes(sum(3, "0b"), sum(3, "0c"), sum(3, "0b")),
                },
            ],
            absent: BTreeMap::new(),
        };
        let names = ["a", "b", "c"].map(str::to_owned);
        let expected = "\
TABLE    ROWS  VERDICT  WHO HOLDS WHAT
account  2     equal
orders   3     differs  a, c: 3 rows, 0b0b0b0b; b: 3 rows, 0c0c0c0c

a, b and c do not hold the same, at entry 9";
        assert_eq!(text(&verdict, names.iter()), expected);
        verdict.absent.insert("c".to_owned(), "away".to_owned());
        verdict.tables.truncate(1);
        let told = text(&verdict, names.iter());
        assert!(
            told.ends_with("c could not be looked at: away\na and b hold the same, at entry 9"),
            "{told}"
        );
    }
}
