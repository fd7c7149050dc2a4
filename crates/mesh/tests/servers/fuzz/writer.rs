//! A session that writes at random and keeps the books.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Error};

use super::ledger::{Ledger, Truncated, Written};
use super::{Run, TABLE};
use crate::proof::{Mesh, Version};

/// One writer on one node.
pub(crate) struct Writer {
    mesh: Arc<Mesh>,
    ledger: Arc<Ledger>,
    node: String,
    /// `n1`, `n2`, … of which each has two sessions: for values.
    who: String,
    keys: u32,
    truncate_every: u32,
    random: fastrand::Rng,
}

impl Writer {
    pub(crate) fn new(
        mesh: &Arc<Mesh>,
        ledger: &Arc<Ledger>,
        run: &Run,
        node: &str,
        number: usize,
        seed: u64,
    ) -> Self {
        Self {
            mesh: Arc::clone(mesh),
            ledger: Arc::clone(ledger),
            node: node.to_owned(),
            who: format!("{node}.{number}"),
            keys: run.keys,
            truncate_every: run.truncate_every,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Writes until then, through whatever happens to the node.
    pub(crate) async fn write(mut self, until: Instant) {
        while Instant::now() < until {
            let Ok(client) = self.mesh.sandbox.sql(&self.node, "app").await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            while Instant::now() < until && !client.is_closed() {
                self.transaction(&client).await;
                sleep(Duration::from_millis(self.random.u64(0..8))).await;
            }
        }
    }

    async fn transaction(&mut self, client: &Client) {
        let mut written = Vec::new();
        let mut truncated = None;
        let work = async {
            client.batch_execute("BEGIN").await?;
            if self.truncate_every > 0 && self.random.u32(..self.truncate_every) == 0 {
                truncated = Some(self.truncate(client).await?);
            }
            for _ in 0..self.random.u32(1..=5) {
                self.something(client, &mut written).await?;
            }
            Ok::<(), Error>(())
        };
        if timeout(Duration::from_secs(20), work).await.is_ok_and(|done| done.is_ok()) {
            match client.batch_execute("COMMIT").await {
                Ok(()) => {
                    self.ledger.truncated.lock().unwrap().extend(truncated);
                    self.ledger.acknowledged(written);
                }
                Err(_) => self.ledger.unknown(written),
            }
            return;
        }
        self.ledger.failed.fetch_add(1, Ordering::Relaxed);
        // Where that fails too the session is gone, which the caller sees.
        drop(client.batch_execute("ROLLBACK").await);
    }

    async fn truncate(&mut self, client: &Client) -> Result<Truncated, Error> {
        let table = self.random.usize(..TABLE.len());
        let name = TABLE[table].name;
        client.batch_execute(&format!("TRUNCATE {name}")).await?;
        let question = format!(
            "SELECT _herdsman_stamp, _herdsman_node, _herdsman_knew::text FROM herdsman.truncates WHERE rel = 'public.{name}'"
        );
        let row = client.query_one(&question, &[]).await?;
        let knew: std::collections::BTreeMap<String, i64> =
            serde_json::from_str(row.get(2)).unwrap();
        let knew = knew.into_iter().map(|(node, time)| (node.parse().unwrap(), time)).collect();
        Ok(Truncated { table, stamp: (row.get(0), row.get(1)), knew })
    }

    async fn something(
        &mut self,
        client: &Client,
        written: &mut Vec<Written>,
    ) -> Result<(), Error> {
        let place = self.random.usize(..TABLE.len());
        let key = self.random.u32(1..=self.keys);
        if self.random.u32(..12) == 0 {
            return self.update_many(client, place, key, written).await;
        }
        let Some(seen) = version(client, place, key).await? else {
            self.insert(client, place, key, written).await?;
            return match self.random.u32(..10) {
                0 => self.delete(client, place, key, written).await,
                1 | 2 => self.update(client, place, key, written).await,
                _ => Ok(()),
            };
        };
        match self.random.u32(..20) {
            0..=2 => self.delete(client, place, key, written).await,
            3 | 4 => {
                self.delete(client, place, key, written).await?;
                self.insert(client, place, key, written).await
            }
            5 => {
                let to = self.random.u32(1..=self.keys);
                self.change_key(client, place, (key, to), seen, written).await
            }
            6 => {
                self.update(client, place, key, written).await?;
                self.update(client, place, key, written).await
            }
            _ => self.update(client, place, key, written).await,
        }
    }

    async fn insert(
        &mut self,
        client: &Client,
        place: usize,
        key: u32,
        written: &mut Vec<Written>,
    ) -> Result<(), Error> {
        let table = &TABLE[place];
        let seen = deletion(client, place, key).await?;
        let val = self.ledger.value(&self.who);
        let statement = format!(
            "INSERT INTO {} ({}, val) VALUES ({}, '{val}') ON CONFLICT DO NOTHING
             RETURNING _herdsman_stamp, _herdsman_node",
            table.name,
            table.key,
            key_values(place, key)
        );
        if let Some(row) = client.query_opt(&statement, &[]).await? {
            let stamp = (row.get(0), row.get(1));
            written.push(Written {
                table: place,
                key: key.to_string(),
                stamp,
                seen,
                val: Some(val),
                inserted: true,
            });
        }
        Ok(())
    }

    async fn update(
        &mut self,
        client: &Client,
        place: usize,
        key: u32,
        written: &mut Vec<Written>,
    ) -> Result<(), Error> {
        let Some(seen) = version(client, place, key).await? else { return Ok(()) };
        let table = &TABLE[place];
        let val = self.ledger.value(&self.who);
        let large = if table.large && self.random.u32(..4) == 0 {
            format!(", big = repeat('{}', {})", self.random.alphabetic(), self.random.u32(1..9000))
        } else {
            String::new()
        };
        let statement = format!(
            "UPDATE {} SET val = '{val}', n = n + 1{large} WHERE {}
             RETURNING _herdsman_stamp, _herdsman_node",
            table.name,
            condition(place, key)
        );
        let row = client.query_one(&statement, &[]).await?;
        let stamp = (row.get(0), row.get(1));
        written.push(Written {
            table: place,
            key: key.to_string(),
            stamp,
            seen: Some(seen),
            val: Some(val),
            inserted: false,
        });
        Ok(())
    }

    async fn delete(
        &mut self,
        client: &Client,
        place: usize,
        key: u32,
        written: &mut Vec<Written>,
    ) -> Result<(), Error> {
        let Some(seen) = version(client, place, key).await? else { return Ok(()) };
        let statement =
            format!("DELETE FROM {} WHERE {}", TABLE[place].name, condition(place, key));
        client.batch_execute(&statement).await?;
        deleted(client, place, key, seen, written).await
    }

    async fn change_key(
        &mut self,
        client: &Client,
        place: usize,
        (key, to): (u32, u32),
        seen: Version,
        written: &mut Vec<Written>,
    ) -> Result<(), Error> {
        if key == to || version(client, place, to).await?.is_some() {
            return Ok(());
        }
        let table = &TABLE[place];
        let seen_there = deletion(client, place, to).await?;
        let val = self.ledger.value(&self.who);
        let statement = format!(
            "UPDATE {} SET ({}, val) = ROW({}, '{val}') WHERE {} RETURNING _herdsman_stamp, _herdsman_node",
            table.name,
            table.key,
            key_values(place, to),
            condition(place, key)
        );
        let row = client.query_one(&statement, &[]).await?;
        let stamp = (row.get(0), row.get(1));
        deleted(client, place, key, seen, written).await?;
        written.push(Written {
            table: place,
            key: to.to_string(),
            stamp,
            seen: seen_there,
            val: Some(val),
            inserted: true,
        });
        Ok(())
    }

    /// Ten keys in one statement.
    async fn update_many(
        &mut self,
        client: &Client,
        place: usize,
        from: u32,
        written: &mut Vec<Written>,
    ) -> Result<(), Error> {
        let table = &TABLE[place];
        let range = format!("{} BETWEEN {from} AND {}", table.shown, from + 9);
        let lock = format!(
            "SELECT ({})::text, _herdsman_stamp, _herdsman_node FROM {} WHERE {range} ORDER BY {} FOR UPDATE",
            table.shown, table.name, table.shown
        );
        let before = client.query(&lock, &[]).await?;
        let common = self.ledger.value(&self.who);
        for row in before {
            let (key, seen): (String, Version) = (row.get(0), (row.get(1), row.get(2)));
            let val = format!("{common}/{key}");
            let statement = format!(
                "UPDATE {} SET val = '{val}' WHERE {} RETURNING _herdsman_stamp, _herdsman_node",
                table.name,
                condition(place, key.parse().unwrap())
            );
            let row = client.query_one(&statement, &[]).await?;
            let stamp = (row.get(0), row.get(1));
            written.push(Written {
                table: place,
                key,
                stamp,
                seen: Some(seen),
                val: Some(val),
                inserted: false,
            });
        }
        Ok(())
    }
}

fn condition(place: usize, key: u32) -> String {
    if place == 0 { format!("id = {key}") } else { format!("a = 'k{}' AND b = {key}", key % 7) }
}

fn key_values(place: usize, key: u32) -> String {
    if place == 0 { key.to_string() } else { format!("'k{}', {key}", key % 7) }
}

/// The row's version, locked; `None` where there is none.
async fn version(client: &Client, place: usize, key: u32) -> Result<Option<Version>, Error> {
    let question = format!(
        "SELECT _herdsman_stamp, _herdsman_node FROM {} WHERE {} FOR UPDATE",
        TABLE[place].name,
        condition(place, key)
    );
    let row = client.query_opt(&question, &[]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// The tombstone of a key.
async fn deletion(client: &Client, place: usize, key: u32) -> Result<Option<Version>, Error> {
    let question = format!(
        "SELECT _herdsman_stamp, _herdsman_node FROM herdsman_gone.\"public.{}\" WHERE {}",
        TABLE[place].name,
        condition(place, key)
    );
    let row = client.query_opt(&question, &[]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

async fn deleted(
    client: &Client,
    place: usize,
    key: u32,
    seen: Version,
    written: &mut Vec<Written>,
) -> Result<(), Error> {
    if let Some(stamp) = deletion(client, place, key).await? {
        let key = key.to_string();
        written.push(Written {
            table: place,
            key,
            stamp,
            seen: Some(seen),
            val: None,
            inserted: false,
        });
    }
    Ok(())
}
