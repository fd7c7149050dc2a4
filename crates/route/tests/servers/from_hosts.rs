//! Sets over the hosts of a libpq connection string, and what their watcher needs to be told by the servers.

use std::time::Duration;

use herdsman::{Error, NodeRole, ReplicaSet};

use crate::herd::{Herd, on_newest_version, until};
use crate::promotions::{admin, tell, until_role};

/// The hosts of a cluster as one libpq connection string, and the names the set has for them.
fn hosts(herd: &Herd, role: &str, more: &str) -> (String, [String; 3]) {
    let ports = ["n1", "n2", "n3"].map(|node| herd.sandbox.endpoint(node).unwrap().1);
    let password = herd.sandbox.credentials().password(role).unwrap();
    let list = ports.map(|port| port.to_string()).join(",");
    let text = format!(
        "host=127.0.0.1,127.0.0.1,127.0.0.1 port={list} user={role} password='{password}' dbname=postgres sslmode=disable \
         load_balance_hosts=random {more}"
    );
    (
        text,
        [
            "127.0.0.1".to_owned(),
            format!("127.0.0.1:{}", ports[1]),
            format!("127.0.0.1:{}", ports[2]),
        ],
    )
}

/// Where a read, and where a write ends.
async fn ends(db: &ReplicaSet) -> [Result<String, sqlx::Error>; 2] {
    let read = sqlx::query_scalar("SELECT current_setting('cluster_name')").fetch_one(db).await;
    let sql =
        "INSERT INTO notes (text) VALUES ('from hosts') RETURNING current_setting('cluster_name')";
    [read, sqlx::query_scalar(sql).fetch_one(db).await]
}

on_newest_version! {
    async fn the_hosts_of_a_libpq_string_are_used_as_it_says(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.notes().await;
        admin(&herd, "n1", &["GRANT ALL ON notes TO herdsman", "GRANT ALL ON SEQUENCE notes_id_seq TO herdsman"]).await;
        herd.sandbox.wait_replayed().await.unwrap();
        let standby = |node: &Result<String, sqlx::Error>| ["n2", "n3"].contains(&node.as_deref().unwrap());
        for target in ["any", "primary", "read-write", "standby", "read-only", "prefer-standby"] {
            let (text, names) = hosts(&herd, "herdsman", &format!("target_session_attrs={target}"));
            let db = ReplicaSet::from_hosts(&text).unwrap();
            until("the roles are found out", async || {
                let nodes = db.statistics().nodes;
                // Nothing is looked at before the first statement.
                drop(ends(&db).await);
                names.iter().zip([NodeRole::Writer, NodeRole::Reader, NodeRole::Reader])
                    .all(|(name, role)| nodes[name.as_str()].role == role)
            }).await;
            for _ in 0..10 {
                let [read, write] = ends(&db).await;
                match target {
                    "any" => assert!(standby(&read) && write.unwrap() == "n1", "{read:?}"),
                    "primary" | "read-write" => assert_eq!([read.unwrap(), write.unwrap()], ["n1", "n1"]),
                    "standby" | "read-only" => {
                        assert!(standby(&read));
                        let code = write.unwrap_err().as_database_error().and_then(|error| error.code().map(String::from));
                        assert_eq!(code.as_deref(), Some("25006"), "{target}");
                    }
                    _ => assert!(standby(&read), "{read:?}"),
                }
            }
        }
        // With both standbys gone, the primary stands in where it may.
        let [prefer, only] = ["prefer-standby", "standby"].map(|target| {
            ReplicaSet::from_hosts(&hosts(&herd, "herdsman", &format!("target_session_attrs={target}")).0).unwrap()
        });
        for db in [&prefer, &only] {
            until("standbys are read", async || ends(db).await[0].as_ref().is_ok_and(|node| node != "n1")).await;
        }
        for node in ["n2", "n3"] {
            herd.sandbox.kill(node).await.unwrap();
        }
        until("the primary is read", async || ends(&prefer).await[0].as_ref().is_ok_and(|node| node == "n1")).await;
        until("it is not", async || {
            let error = ends(&only).await.into_iter().next().and_then(Result::err);
            error.is_some_and(|error| matches!(Error::of(&error), Some(Error::NoReader { .. })))
        }).await;
    }

    async fn a_role_that_may_not_see_who_follows_whom_is_told_what_to_grant(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.notes().await;
        let (text, names) = hosts(&herd, "app", "");
        let db = ReplicaSet::builder().hosts(&text).writer_wait(Duration::from_secs(1)).build().unwrap();
        // As long as one node alone claims to be the primary, its word is enough; standbys may be read.
        assert_eq!(ends(&db).await[1].as_ref().unwrap(), "n1");
        until_role(&db, &names[1], NodeRole::Reader).await;
        // Between two, those that follow decide, and nobody may see them.
        herd.sandbox.promote("n2").await.unwrap();
        herd.sandbox.follow("n3", "n2").await.unwrap();
        until("nobody is the writer", async || {
            let error = ends(&db).await[1].as_ref().err().map(ToString::to_string);
            error.is_some_and(|error| {
                tell(&format!("without pg_monitor: {error}"));
                error.contains("no node may be written to") && error.contains("GRANT pg_monitor TO")
            })
        }).await;
        // A user for the watcher alone will do.
        let password = herd.sandbox.credentials().password("herdsman").unwrap();
        let monitor = format!("user=herdsman password='{password}'");
        let other = ReplicaSet::builder().hosts(&text).monitor(&monitor).build().unwrap();
        assert_eq!(ends(&other).await[1].as_ref().unwrap(), "n2");
        // Or the right itself, whenever it comes.
        admin(&herd, "n2", &["GRANT pg_monitor TO app"]).await;
        until_role(&db, &names[1], NodeRole::Writer).await;
        assert_eq!(ends(&db).await[1].as_ref().unwrap(), "n2");
    }
}
