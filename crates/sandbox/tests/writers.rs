//! Writers: servers that have nothing to do with each other.

use std::collections::BTreeSet;

use herdsman_sandbox::{Fault, ProcessState, Sandbox, SandboxError, postgres, tested_versions};

async fn ask(sandbox: &Sandbox, node: &str, role: &str, question: &str) -> String {
    let client = sandbox.sql(node, role).await.unwrap();
    client.query_one(&format!("SELECT ({question})::text"), &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_several_versions_are_servers_of_their_own() {
    let majors = tested_versions();
    let sandbox = Sandbox::builder().versions(majors.clone()).start().await.unwrap();
    let mut identifiers = BTreeSet::new();
    for (node, major) in sandbox.node_names().iter().zip(&majors) {
        let version = ask(&sandbox, node, "app", "current_setting('server_version_num')").await;
        assert_eq!(version.parse::<u32>().unwrap() / 10_000, *major);
        assert_eq!(ask(&sandbox, node, "app", "current_setting('wal_level')").await, "logical");
        let system = "SELECT system_identifier FROM pg_control_system()";
        identifiers.insert(ask(&sandbox, node, "postgres", system).await);
    }
    assert_eq!(identifiers.len(), majors.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_has_its_rights_without_being_superuser() {
    let sandbox = Sandbox::builder().writers(1).start().await.unwrap();
    let app = sandbox.sql("n1", "app").await.unwrap();
    app.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let mesh = sandbox.sql("n1", "mesh").await.unwrap();
    mesh.batch_execute(
        "CREATE SCHEMA herdsman; ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t;
         SET session_replication_role = replica; SELECT pg_replication_origin_create('o');
         SELECT pg_replication_origin_session_setup('o')",
    )
    .await
    .unwrap();
    // Not in a transaction that has written.
    mesh.batch_execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await.unwrap();
    assert_eq!(ask(&sandbox, "n1", "mesh", "current_setting('is_superuser')").await, "off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_are_killed_and_cut_off_but_never_follow_each_other() {
    let sandbox = Sandbox::builder().writers(2).start().await.unwrap();
    sandbox.kill("n1").await.unwrap();
    assert_eq!(sandbox.state("n1").unwrap(), ProcessState::Stopped);
    sandbox.start("n1").await.unwrap();
    sandbox.freeze("n2").await.unwrap();
    sandbox.thaw("n2").await.unwrap();
    sandbox.cut_off("n2").unwrap();
    assert_eq!(sandbox.client_proxy("n2").unwrap().fault(), Fault::Stall);
    sandbox.heal();
    let refused = [
        sandbox.rejoin("n2").await.map(drop),
        sandbox.promote("n2").await,
        sandbox.follow("n2", "n1").await,
        sandbox.clone_promoted("n2").await,
        sandbox.partition("n1", "n2"),
        sandbox.primary().await.map(drop),
    ];
    for refused in refused {
        let reason = refused.unwrap_err().one_line();
        assert!(reason.contains("of writers, each a server of its own"), "{reason}");
    }
    let config = sandbox.config_yaml(8080).unwrap();
    assert!(config.contains("mesh:\n  nodes: [n1, n2]\n"), "{config}");
}

#[tokio::test]
async fn what_makes_no_sense_together_is_refused() {
    let major = *postgres::available_majors().first().unwrap();
    let builders = [
        (Sandbox::builder().writers(2).standbys(1), "has no standbys"),
        (Sandbox::builder().writers(3).versions([major, major]), "as many versions"),
        (Sandbox::builder().writers(10), "at most 9 writers, 10 were asked for"),
        (Sandbox::builder().standbys(9), "at most 8 standbys, 9 were asked for"),
    ];
    for (builder, why) in builders {
        let error: SandboxError = builder.start().await.unwrap_err();
        assert!(error.one_line().contains(why), "{}", error.one_line());
    }
}
