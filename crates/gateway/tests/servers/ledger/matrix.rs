//! Ordinary statements that leave different tables where each make runs the same text: through a ledger they leave the
//! same on all of them, or are refused in so many words.

use tokio_postgres::Client;

use super::{PATIENCE, Served, state};

/// What is expected of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is done, everywhere alike.
    Done,
    /// It is refused with this SQLSTATE, and nothing has changed.
    Refused(&'static str),
}

use Told::{Done, Refused};

/// Statements about `item (id int, name varchar(10), amount int, price numeric(10,2), ratio double precision, note text,
/// day date, at timestamptz)`.
const MATRIX: [(&str, Told); 57] = [
    // Arithmetic: MariaDB divides otherwise, SQLite rounds otherwise, and has no limits.
    ("UPDATE item SET amount = amount / 2", Done),
    ("UPDATE item SET amount = -7 / 2 WHERE id = 1", Done),
    ("UPDATE item SET amount = amount % 2", Done),
    ("UPDATE item SET amount = -7 % 3 WHERE id = 1", Done),
    ("UPDATE item SET amount = round(2.5::double precision)", Done),
    ("UPDATE item SET amount = round(2.5)", Done),
    ("UPDATE item SET price = 1.005", Done),
    ("UPDATE item SET price = 10 / 3.0", Done),
    ("UPDATE item SET ratio = 1.0 / 3", Done),
    ("UPDATE item SET ratio = 0.1 + 0.2", Done),
    ("UPDATE item SET ratio = sqrt(2.0)", Done),
    ("UPDATE item SET ratio = 'NaN'", Refused("22000")),
    ("UPDATE item SET amount = 2147483647 + id", Refused("22003")),
    ("UPDATE item SET amount = 1 / 0", Refused("22012")),
    ("UPDATE item SET price = 123456789012", Refused("22003")),
    ("UPDATE item SET amount = avg FROM (SELECT avg(amount) FROM item) a", Done),
    ("UPDATE item SET price = (SELECT sum(price) / count(*) FROM item)", Done),
    ("UPDATE item SET amount = 7.9", Done),
    ("UPDATE item SET amount = '12abc'", Refused("22P02")),
    ("UPDATE item SET amount = ' 12 '", Done),
    // Texts: collations, lengths, backslashes, blanks at their end.
    ("UPDATE item SET amount = 1 WHERE name = 'APPLE'", Done),
    ("UPDATE item SET amount = 2 WHERE name = 'apple '", Done),
    ("UPDATE item SET amount = 3 WHERE name LIKE 'AP%'", Done),
    ("UPDATE item SET amount = 4 WHERE name ILIKE 'AP%'", Done),
    ("UPDATE item SET note = 'a\\nb'", Done),
    ("UPDATE item SET note = E'a\\nb'", Done),
    ("UPDATE item SET note = name || 'x'", Done),
    ("UPDATE item SET note = NULL || 'x'", Done),
    ("UPDATE item SET note = concat(NULL, 'x')", Done),
    ("UPDATE item SET note = upper('straße é')", Done),
    ("UPDATE item SET amount = length('é')", Done),
    ("UPDATE item SET note = substr('hello', 0, 3)", Done),
    ("UPDATE item SET note = 'trailing  '", Done),
    ("UPDATE item SET note = ''", Done),
    ("UPDATE item SET name = 'longer than ten letters'", Refused("22001")),
    ("UPDATE item SET note = chr(0)", Refused("54000")),
    ("UPDATE item SET note = max FROM (SELECT max(name) FROM item) a", Done),
    ("UPDATE item SET amount = (SELECT count(DISTINCT lower(name)) FROM item)", Done),
    ("UPDATE item SET note = \"name\"", Done),
    // Moments, chance and numbers that are made up.
    ("UPDATE item SET at = now()", Done),
    ("UPDATE item SET at = CURRENT_TIMESTAMP, day = CURRENT_DATE", Done),
    ("UPDATE item SET at = clock_timestamp()", Done),
    ("UPDATE item SET at = '2024-03-31 02:30:00 Europe/Amsterdam'", Done),
    ("UPDATE item SET day = DATE '2024-01-31' + INTERVAL '1 month'", Done),
    ("UPDATE item SET day = '2024-02-30'", Refused("22008")),
    ("UPDATE item SET at = 'infinity'", Refused("22000")),
    ("UPDATE item SET ratio = random()", Done),
    ("UPDATE item SET note = gen_random_uuid()::text", Done),
    (
        "INSERT INTO item (id, note) SELECT 100 + n, md5(random()::text) FROM generate_series(1, 3) n",
        Done,
    ),
    // Which rows, and in what order they are changed.
    ("DELETE FROM item WHERE id IN (SELECT id FROM item ORDER BY note LIMIT 1)", Done),
    ("DELETE FROM item WHERE id IN (SELECT id FROM item ORDER BY random() LIMIT 1)", Done),
    ("UPDATE item SET amount = price, price = amount", Done),
    ("UPDATE item SET id = id + 1000", Done),
    ("UPDATE item SET id = id + 1", Refused("23505")),
    (
        "INSERT INTO item (id, name) VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name",
        Done,
    ),
    ("INSERT INTO item (id) VALUES (2) ON CONFLICT DO NOTHING", Done),
    (
        "WITH gone AS (DELETE FROM item WHERE id = 3 RETURNING *) INSERT INTO item SELECT id + 50, name, amount, price, ratio, note, day, at FROM gone",
        Done,
    ),
];

pub(super) async fn check(served: &Served) {
    let client = served.client().await;
    client
        .batch_execute("CREATE TABLE item (id int PRIMARY KEY, name varchar(10), amount int, price numeric(10,2), ratio double precision, note text, day date, at timestamptz)")
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for (sql, expected) in MATRIX {
        begin_anew(&client).await;
        let told = match client.batch_execute(sql).await {
            Ok(()) => "done".to_owned(),
            refused => state(refused),
        };
        let fits = match expected {
            Done => told == "done",
            Refused(code) => told == code,
        };
        // Whatever was told: no make may differ from another.
        let verified = served.ledger.verify(PATIENCE).await.unwrap();
        if !fits || !verified.alike() || verified.nodes.len() != 3 {
            wrong.push(format!("{sql}: {told}, alike: {}", verified.alike()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn begin_anew(client: &Client) {
    client
        .batch_execute(
            "BEGIN; DELETE FROM item; \
             INSERT INTO item VALUES (1, 'apple', 7, 1.50, 0.5, NULL, '2024-01-31', '2024-01-31 12:00:00Z'), \
             (2, 'Apple', 8, 2.25, 1.5, 'n', NULL, NULL), (3, 'Ørsted', -9, 3.99, -2.5, 'é', '2024-02-29', now()), \
             (4, 'apple ', NULL, NULL, NULL, '', NULL, NULL); COMMIT",
        )
        .await
        .unwrap();
}
