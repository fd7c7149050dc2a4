//! Two rows that claim the same value.

use herdsman_mesh::MeshConfig;
use herdsman_mesh::config::UniquePolicy;
use herdsman_sandbox::on_each_version;

use super::assert_same;
use super::pump::{Both, Pump, applier};
use crate::proof::Mesh;

const TABLES: &str =
    "CREATE TABLE t (id int PRIMARY KEY, mail text UNIQUE, doc json, tags text[]);";
const HELD: &str = "SELECT string_agg(id || '=' || coalesce(mail, '-'), ' ' ORDER BY id) FROM t";
const WAITING: &str = "SELECT string_agg(key ->> 'id', ' ' ORDER BY key) FROM herdsman.evicted";

on_each_version! {
    async fn rows_that_exchange_their_values_do_not_clash(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        mesh.on("n1", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        mesh.on("n1", "BEGIN; UPDATE t SET mail = 'x' WHERE id = 1; UPDATE t SET mail = 'a' WHERE id = 2; UPDATE t SET mail = 'b' WHERE id = 1; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (4, 'c'); COMMIT").await;
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        assert_same(&mesh, "t", "id").await;
        assert_eq!(mesh.ask("n2", "SELECT count(*) FROM herdsman.conflicts").await.unwrap(), "0");
    }

    async fn halt_names_the_rows_and_goes_on_once_they_are_mended(version: u32) {
        let halt = |config: &mut MeshConfig| config.unique = UniquePolicy::Halt;
        let mesh = Mesh::prepared(vec![version; 2], TABLES, halt).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        mesh.on("n2", "INSERT INTO t VALUES (2, 'same')").await;
        mesh.on("n1", "INSERT INTO t VALUES (1, 'same'), (3, 'other')").await;
        let error = pump.carry(&mesh, "n1", &mut at, 100).await.unwrap_err();
        let text = error.to_string();
        for part in ["public.t", "{\"id\": 1}", "{\"id\": 2}", "t_mail_key", "`n1`", "`n2`"] {
            assert!(text.contains(part), "{text}");
        }
        pump.close().await;
        drop(at);
        mesh.on("n2", "UPDATE t SET mail = 'mine' WHERE id = 2").await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=same 2=mine 3=other");
    }

    async fn log_leaves_the_row_out_and_says_so(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |config| config.unique = UniquePolicy::Log).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        mesh.on("n2", "INSERT INTO t VALUES (2, 'same')").await;
        mesh.on("n1", "INSERT INTO t VALUES (1, 'same'), (3, 'other')").await;
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "2=same 3=other");
        let kinds = "SELECT string_agg((key ->> 'id') || ' ' || kind || ' ' || winner, ', ') FROM herdsman.conflicts";
        assert_eq!(mesh.ask("n2", kinds).await.unwrap(), "1 unique held");
    }

    async fn evicted_rows_wait_for_their_value_and_all_members_show_the_same(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |config| config.unique = UniquePolicy::Evict).await;
        let mut both = Both::start(&mesh).await;
        macro_rules! carry {
            () => {
                both.carry(&mesh, 2).await;
                assert_same(&mesh, "t", "id").await;
            };
        }
        macro_rules! assert_on_both {
            ($question:expr, $answer:expr) => {
                for node in ["n1", "n2"] {
                    assert_eq!(mesh.ask(node, $question).await.as_deref(), $answer, "{node}");
                }
            };
        }
        mesh.on("n1", "INSERT INTO t VALUES (1, 'same', '{ \"a\" : 1 }', '{x,\"y z\"}'), (5, 'five', NULL, NULL)").await;
        mesh.on("n2", "INSERT INTO t VALUES (2, 'same'), (6, 'six')").await;
        carry!();
        // The later one stays.
        assert_on_both!(HELD, Some("2=same 5=five 6=six"));
        assert_on_both!(WAITING, Some("1"));
        let kinds = "SELECT string_agg((key ->> 'id') || ' ' || kind, ', ') FROM herdsman.conflicts";
        assert_on_both!(kinds, Some("1 unique"));
        // Others come and go meanwhile; a third one claims it as well.
        mesh.on("n1", "INSERT INTO t VALUES (7, 'seven'); UPDATE t SET mail = 'cinq' WHERE id = 5").await;
        mesh.on("n2", "DELETE FROM t WHERE id = 6").await;
        carry!();
        assert_on_both!(HELD, Some("2=same 5=cinq 7=seven"));
        // The value is free again: the one that waited comes back as it was.
        mesh.on("n2", "UPDATE t SET mail = 'else' WHERE id = 2").await;
        carry!();
        assert_on_both!(HELD, Some("1=same 2=else 5=cinq 7=seven"));
        assert_on_both!(WAITING, None);
        assert_on_both!("SELECT doc::text || tags::text FROM t WHERE id = 1", Some("{ \"a\" : 1 }{x,\"y z\"}"));
        // Updates clash too; a deletion of the one that waits ends it; a deletion of the one that stays lets it in.
        mesh.on("n1", "UPDATE t SET mail = 'both' WHERE id = 5").await;
        mesh.on("n2", "UPDATE t SET mail = 'both' WHERE id = 7").await;
        carry!();
        assert_on_both!(HELD, Some("1=same 2=else 7=both"));
        mesh.on("n1", "DELETE FROM t WHERE id = 7").await;
        carry!();
        assert_on_both!(HELD, Some("1=same 2=else 5=both"));
        assert_on_both!(WAITING, None);
    }
}
