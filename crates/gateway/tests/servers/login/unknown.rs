//! Databases, roles and users that only the servers know, or not even they.

use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::time::timeout;
use tokio_postgres::error::DbError;

use crate::harness::{self, Running, connect};

/// What somebody is told who does not get in.
async fn told(running: &Running, database: &str, user: &str) -> DbError {
    let refused = connect(&running.conninfo(database, user)).await.err().unwrap();
    refused.as_db_error().unwrap().clone()
}

herdsman_sandbox::on_each_version! {
    async fn what_the_servers_do_not_have_is_told_as_they_would(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        let problem = told(&running, "nosuch", "app").await;
        assert_eq!(problem.code().code(), "3D000");
        assert_eq!(problem.message(), "database \"nosuch\" does not exist");
        // The gateway knows it and its password, the servers do not.
        let problem = told(&running, "postgres", harness::ADMIN.0).await;
        assert!(problem.code().code().starts_with("28"), "{problem:?}");
        assert!(!format!("{problem:?}").contains("127.0.0.1"), "{problem:?}");
        // Nobody else is kept from anything by that.
        running.connect("postgres", "app").await.batch_execute("SELECT 1").await.unwrap();
        running.stop().await;
    }

    async fn who_has_to_be_looked_up_is_once_there_is_a_node(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let password = cluster.credentials().password("postgres").unwrap();
        let extra = format!(
            "users: {{}}\nadmins: []\nstats_users: []\nhold: 60s\nlogin_timeout: 60s\n\
             auth_query: {{ user: postgres, password: {password:?} }}"
        );
        let running = harness::gateway(&cluster, &extra).await;
        cluster.stop("n1").await.unwrap();
        running.until(|topology| topology.primary().is_none()).await;
        let conninfo = running.conninfo("postgres", "app");
        let conninfo = conninfo.replace("connect_timeout=10", "connect_timeout=60");
        let mut comes = Box::pin(connect(&conninfo));
        let at_once = timeout(Duration::from_millis(300), &mut comes).await;
        assert!(at_once.is_err(), "it was not held: {:?}", at_once.map(|login| login.err()));
        cluster.start("n1").await.unwrap();
        comes.await.unwrap().batch_execute("SELECT 1").await.unwrap();
        running.stop().await;
    }
}
