//! Servers that become a mesh.

use std::sync::Arc;

use herdsman_mesh::install::{self, Options, Plan, Survey};
use herdsman_mesh::{MeshConfig, Setup};
use herdsman_sandbox::Sandbox;
use tokio_postgres::Client;

use crate::proof::setup;

/// Servers that are no mesh yet.
pub(crate) struct Nodes {
    pub(crate) sandbox: Sandbox,
    pub(crate) setup: Arc<Setup>,
}

impl Nodes {
    pub(crate) async fn start(versions: Vec<u32>, change: impl FnOnce(&mut MeshConfig)) -> Self {
        let sandbox = Sandbox::builder().versions(versions).start().await.unwrap();
        let setup = Arc::new(setup(&sandbox, change));
        Self { sandbox, setup }
    }

    pub(crate) async fn sql(&self, node: &str, role: &str) -> Client {
        self.sandbox.sql(node, role).await.unwrap()
    }

    /// Statements of a role.
    pub(crate) async fn run(&self, node: &str, role: &str, statements: &str) {
        let done = self.sql(node, role).await.batch_execute(statements).await;
        done.unwrap_or_else(|error| panic!("{node}: {statements}: {error:?}"));
    }

    pub(crate) async fn run_everywhere(&self, statements: &str) {
        for node in self.sandbox.node_names() {
            self.run(&node, "app", statements).await;
        }
    }

    /// A question's one value as text, asked by the superuser.
    pub(crate) async fn ask(&self, node: &str, question: &str) -> Option<String> {
        let client = self.sql(node, "postgres").await;
        let row = client.query_opt(&format!("SELECT ({question})::text"), &[]).await;
        row.unwrap_or_else(|error| panic!("{node}: {question}: {error:?}"))
            .and_then(|row| row.get(0))
    }

    pub(crate) async fn look(&self, options: &Options) -> (Survey, Plan) {
        install::prepare(&self.setup, options).await.unwrap()
    }

    pub(crate) async fn plan(&self) -> Plan {
        self.look(&Options::default()).await.1
    }

    /// Prepares everything, after which nothing is left to prepare.
    pub(crate) async fn up(&self) -> Plan {
        let plan = self.plan().await;
        assert_eq!(plan.problems, Vec::<String>::new());
        install::carry_out(&self.setup, &plan, |_| {}).await.unwrap();
        let again = self.plan().await;
        assert_eq!((&again.problems, &again.steps), (&vec![], &vec![]));
        plan
    }

    /// The one problem there is.
    pub(crate) async fn problem(&self) -> String {
        let problems = self.plan().await.problems;
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.into_iter().next().unwrap()
    }

    /// Makes a table on the first node, expects one problem that says all of `words`, and drops it.
    pub(crate) async fn expect(&self, make: &str, words: &[&str]) {
        self.run("n1", "app", make).await;
        let problem = self.problem().await;
        for word in words {
            assert!(problem.contains(word), "{problem} does not say {word}");
        }
        self.run("n1", "app", "DROP TABLE IF EXISTS t, parent CASCADE").await;
    }
}
