//! What the sink may and may not do at the target, and what it says then.

use herdsman_sandbox::on_each_version;
use herdsman_stream::{DeliveryError, Sink};
use herdsman_wal::ReplicaIdentity::Default as ByKey;
use serde_json::json;

use super::fixture::{Does, INT8, Maker, TEXT, Target, deliver, table};

/// A table that refers to another, with a trigger that nobody should notice.
const GUARDED: &str = "
    CREATE TABLE parents (id int8 PRIMARY KEY);
    CREATE TABLE orders (id int8 PRIMARY KEY, what text, parent int8 DEFAULT 1 REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.what := upper(NEW.what); RETURN NEW; END $$;
    CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION shout();
    GRANT ALL ON parents, orders TO app; GRANT CREATE ON DATABASE postgres TO app;";

on_each_version! {
    async fn rows_are_written_as_a_replica_writes_them_where_that_is_allowed(version: u32) {
        for (role, settings, shown) in [
            ("postgres", json!({}), "a"),
            ("postgres", json!({"replica_role": "never"}), "A"),
            ("app", json!({}), "A"),
        ] {
            let target = Target::start(version, GUARDED).await;
            let sink = target.sink(role, &settings);
            sink.open().await.unwrap();
            let t = table("orders", ByKey, &[("id", INT8, true), ("what", TEXT, false)]);
            let p = table("parents", ByKey, &[("id", INT8, true)]);
            // The child comes before its parent: only the end of the transaction decides.
            let batch = Maker::new().batch(&[
                (&t, Does::Insert(&[Some("1"), Some("a")])),
                (&p, Does::Insert(&[Some("1")])),
            ]);
            assert_eq!(deliver(&sink, &batch).await, [0; 0]);
            assert_eq!(target.text("SELECT what FROM orders").await, shown, "{role} {settings}");
            let origins = "SELECT count(*)::text FROM pg_replication_origin WHERE roname = 'herdsman_copy'";
            assert_eq!(target.text(origins).await, if role == "app" { "0" } else { "1" });
        }
    }

    async fn a_constraint_that_fails_at_the_end_rejects_its_row_only(version: u32) {
        let target = Target::start(version, GUARDED).await;
        let sink = target.sink("app", &json!({}));
        sink.open().await.unwrap();
        let t = table("orders", ByKey, &[("id", INT8, true), ("parent", INT8, false)]);
        let p = table("parents", ByKey, &[("id", INT8, true)]);
        let batch = Maker::new().batch(&[
            (&p, Does::Insert(&[Some("1")])),
            (&t, Does::Insert(&[Some("1"), Some("1")])),
            (&t, Does::Insert(&[Some("2"), Some("99")])),
            (&t, Does::Insert(&[Some("3"), None])),
        ]);
        assert_eq!(deliver(&sink, &batch).await, [2]);
        assert_eq!(target.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders").await, "1 3");
    }

    async fn a_missing_table_or_right_stops_the_sink_and_says_what_to_do(version: u32) {
        let target = Target::start(version, GUARDED).await;
        let sink = target.sink("app", &json!({}));
        sink.open().await.unwrap();
        let mut maker = Maker::new();
        let mut problem = async |name: &str| {
            let t = table(name, ByKey, &[("id", INT8, true)]);
            match sink.deliver(&maker.batch(&[(&t, Does::Insert(&[Some("1")]))])).await {
                Err(DeliveryError::Unavailable(error)) => {
                    if error.reopen {
                        sink.open().await.unwrap();
                    }
                    error.to_string()
                }
                outcome => panic!("{outcome:?}"),
            }
        };
        let missing = problem("missing").await;
        assert!(missing.contains("there is no table public.missing; create it there"), "{missing}");
        target.admin.batch_execute("REVOKE ALL ON orders FROM app").await.unwrap();
        let forbidden = problem("orders").await;
        assert!(forbidden.contains("(SQLSTATE 42501); grant"), "{forbidden}");
        // Whatever happens, the password is not told.
        let password = target.sandbox.credentials().password("app").unwrap();
        for text in [missing, forbidden, format!("{sink:?}")] {
            assert!(!text.contains(password), "{text}");
        }
    }

    async fn changes_of_another_cluster_are_refused(version: u32) {
        let target = Target::start(version, GUARDED).await;
        let sink = target.opened(json!({})).await;
        let p = table("parents", ByKey, &[("id", INT8, true)]);
        let mut maker = Maker::new();
        assert_eq!(deliver(&sink, &maker.batch(&[(&p, Does::Insert(&[Some("1")]))])).await, [0; 0]);
        target.admin.batch_execute("UPDATE herdsman_stream.position SET system_id = '8'").await.unwrap();
        sink.open().await.unwrap();
        let outcome = sink.deliver(&maker.batch(&[(&p, Does::Insert(&[Some("2")]))])).await;
        let Err(DeliveryError::Unavailable(error)) = outcome else { panic!("{outcome:?}") };
        assert!(error.to_string().contains("its position belongs to cluster 8, and the changes to 7"), "{error}");
    }

    async fn two_sessions_of_one_sink_never_apply_the_same_batch(version: u32) {
        let target = Target::start(version, "CREATE TABLE list (n int8)").await;
        let settings = json!({"origin": "never"});
        let (one, other) = (target.opened(settings.clone()).await, target.opened(settings).await);
        let t = table("list", herdsman_wal::ReplicaIdentity::Full, &[("n", INT8, false)]);
        let mut maker = Maker::new();
        for n in 0..20_u32 {
            let n = n.to_string();
            let batch = maker.batch(&[(&t, Does::Insert(&[Some(&n)]))]);
            tokio::join!(deliver(&one, &batch), deliver(&other, &batch));
        }
        assert_eq!(target.text("SELECT count(*) || ' ' || count(DISTINCT n) FROM list").await, "20 20");
    }
}
