//! The questions of prometheus-community's `pgbouncer_exporter`, asked as it asks them: which columns it looks for by
//! name, which of them it takes for labels, and which must be numbers.

use herdsman_sandbox::Sandbox;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness;

/// What it shows, the columns that become labels, and those that become numbers.
const TABLES: [(&str, &str, &str); 3] = [
    (
        "databases",
        "name host port database force_user pool_mode",
        "pool_size reserve_pool_size max_connections current_connections paused disabled",
    ),
    (
        "stats_totals",
        "database",
        "query_count query_time bytes_received bytes_sent wait_time xact_count xact_time client_parse_count \
         server_parse_count bind_count server_assignment_count",
    ),
    (
        "pools",
        "database user",
        "cl_active cl_active_cancel_req cl_waiting cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled \
         sv_idle sv_used sv_tested sv_login maxwait",
    ),
];

/// The rows of `SHOW LISTS` and `SHOW CONFIG` that it has metrics for.
const LISTS: &str = "databases users pools free_clients used_clients login_clients free_servers used_servers dns_names \
                     dns_zones dns_queries";
const CONFIG: &str = "max_client_conn max_user_connections";

/// Every row as texts, by the simple protocol, which Go's driver uses where a query has no parameters.
async fn table(console: &Client, query: &str) -> Vec<Vec<(String, Option<String>)>> {
    let messages = console.simple_query(query).await.unwrap_or_else(|e| panic!("{query}: {e:?}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let cell = |(index, column): (usize, &tokio_postgres::SimpleColumn)| {
                (column.name().to_owned(), row.get(index).map(ToOwned::to_owned))
            };
            Some(row.columns().iter().enumerate().map(cell).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

fn get<'r>(row: &'r [(String, Option<String>)], name: &str) -> Option<&'r str> {
    let cell = row.iter().find(|(column, _)| column == name);
    cell.unwrap_or_else(|| panic!("no column {name}: {row:?}")).1.as_deref()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exporter_of_pgbouncer_finds_every_name_it_looks_for_and_numbers_where_it_counts() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "databases: { postgres: , '*': }").await;
    let client = running.connect("postgres", "app").await;
    client.batch_execute("SELECT 1").await.unwrap();
    // It may only look, in the database that it names, and asks this first.
    let console = running.connect("pgbouncer", harness::STATS.0).await;
    assert!(!table(&console, "SHOW STATS").await.is_empty());
    console.simple_query(";").await.unwrap();

    let version = table(&console, "SHOW VERSION;").await;
    assert_eq!(version.len(), 1);
    assert_eq!(version[0].len(), 1, "{version:?}");
    assert!(get(&version[0], "version").is_some());

    for (name, labels, numbers) in TABLES {
        // The types are those that the same columns have in the extended protocol.
        let statement = console.prepare(&format!("SHOW {name}")).await.unwrap();
        let is = |column: &str, types: &[Type]| {
            let found = statement.columns().iter().find(|found| found.name() == column);
            let found = found.unwrap_or_else(|| panic!("SHOW {name} has no {column}"));
            assert!(types.contains(found.type_()), "SHOW {name}: {column} is {}", found.type_());
        };
        let rows = table(&console, &format!("SHOW {name};")).await;
        assert!(!rows.is_empty(), "SHOW {name} is empty");
        for label in labels.split_whitespace() {
            // Its driver gives any other type as bytes, which it refuses as a label.
            is(label, &[Type::TEXT, Type::INT8, Type::INT4]);
        }
        for number in numbers.split_whitespace() {
            is(number, &[Type::INT8, Type::INT4]);
            for row in &rows {
                let value = get(row, number).map(str::parse::<f64>);
                assert!(
                    value.is_none_or(|value| value.is_ok()),
                    "SHOW {name}: {number} in {row:?}"
                );
            }
        }
    }
    let pools = table(&console, "SHOW POOLS;").await;
    let of_client = pools.iter().find(|row| get(row, "database") == Some("postgres")).unwrap();
    assert_eq!((get(of_client, "user"), get(of_client, "cl_active")), (Some("app"), Some("1")));

    for (query, columns, names) in
        [("SHOW LISTS;", &[2][..], LISTS), ("SHOW CONFIG;", &[3, 4], CONFIG)]
    {
        let rows = table(&console, query).await;
        assert!(rows.iter().all(|row| columns.contains(&row.len())), "{query}: {rows:?}");
        for name in names.split_whitespace() {
            let row = rows.iter().find(|row| row[0].1.as_deref() == Some(name));
            let row = row.unwrap_or_else(|| panic!("{query} has no {name}"));
            assert!(row[1].1.as_deref().unwrap().parse::<f64>().is_ok(), "{query} {row:?}");
        }
    }

    let clients = table(&console, "SHOW CLIENTS;").await;
    let of_client = clients.iter().find(|row| get(row, "database") == Some("postgres")).unwrap();
    for column in ["user", "state", "application_name"] {
        get(of_client, column);
    }
    running.stop().await;
}
