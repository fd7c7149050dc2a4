//! What becomes of the users' tables, what is applied exactly once, and what `verify` says.

use std::sync::Arc;

use herdsman_mesh::install;
use herdsman_mesh::verify::{self, Verdict};

use super::start;
use crate::proof::{Mesh, name, three_of};

/// Everything of a table that the mesh could have changed.
const FORM: &str = "
    SELECT jsonb_build_object(
      'columns', (SELECT jsonb_agg(to_jsonb(a) - 'attrelid' - 'attcacheoff' - 'attstattarget' ORDER BY attnum)
        FROM pg_attribute a WHERE attrelid = c.oid),
      'triggers', (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid),
      'file', c.relfilenode, 'rules', c.relhasrules, 'acl', c.relacl, 'options', c.reloptions)::text
    FROM pg_class c WHERE c.oid = 'orders'::regclass";
const IDENTITY: &str = "SELECT relreplident FROM pg_class WHERE oid = 'orders'::regclass";

async fn forms(mesh: &Mesh) -> Vec<(String, String)> {
    let mut forms = Vec::new();
    for node in mesh.nodes() {
        let form = mesh.ask(&node, FORM).await.unwrap();
        forms.push((form, mesh.ask(&node, IDENTITY).await.unwrap()));
    }
    forms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_untouched_and_changes_are_applied_once_whoever_is_killed() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let table = "CREATE TABLE orders (id int PRIMARY KEY, val text, at timestamptz DEFAULT now())";
    let majors: Vec<u32> = majors.into_iter().take(2).collect();
    let mesh = start(majors, table).await;
    let (a, b) = (mesh.nodes()[0].clone(), mesh.nodes()[1].clone());
    // What it was like before is what it is like on a table that is not in the mesh.
    for (form, identity) in forms(&mesh).await {
        assert!(!form.contains("herdsman") && form.contains("\"triggers\": 0"), "{form}");
        assert_eq!(identity, "f");
    }
    let before = forms(&mesh).await;
    let applied = format!(
        "SELECT rows FROM herdsman.progress WHERE source = (SELECT node FROM herdsman.members WHERE name = '{a}')"
    );
    mesh.settle().await;
    let rows = |text: Option<String>| text.unwrap().parse::<u64>().unwrap();
    let first = rows(mesh.ask(&b, &applied).await);
    for round in 0..8 {
        for number in 0..40 {
            let id = round * 100 + number;
            mesh.on(&a, &format!("INSERT INTO orders VALUES ({id}, 'v')")).await;
            if number == 25 {
                mesh.drop_engine();
                mesh.start_engine();
            }
        }
    }
    mesh.settle().await;
    // 320 of these, and the one mark that `settle` writes on each node.
    assert_eq!(rows(mesh.ask(&b, &applied).await) - first, 321);
    assert_eq!(mesh.differences("orders", "id").await, Vec::<String>::new());
    verified(&mesh).await;
    assert_eq!(forms(&mesh).await, before);

    mesh.stop_engine().await;
    let setup = Arc::new(mesh.setup.clone());
    for node in mesh.nodes() {
        let found = install::look(&setup, &name(&node)).await.unwrap();
        let steps = install::removal(&setup.config.name, &name(&node), &found, false);
        let plan = install::Plan { steps, ..install::Plan::default() };
        install::carry_out(&setup, &plan, |_| {}).await.unwrap();
    }
    for ((form, identity), (was, _)) in forms(&mesh).await.into_iter().zip(before) {
        assert_eq!(form, was);
        assert_eq!(identity, "d");
    }
}

/// `herdsman mesh verify`.
async fn verified(mesh: &Mesh) {
    let options = verify::Options::default();
    let report = verify::run(&Arc::new(mesh.setup.clone()), &options, |_| {}).await.unwrap();
    assert_eq!(report.verdict, Verdict::Equal, "{report:#?}");
}
