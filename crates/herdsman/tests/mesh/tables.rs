//! Making a mesh, and what is told of it.

use super::{NODES, Yard};

#[test]
fn up_says_what_it_will_do_asks_and_does_it_once() {
    let yard = Yard::new();
    yard.refuses(&["status", "--direct"], 1, "run `herdsman mesh up` first");
    let plan = yard.prints(&["up", "--plan"]);
    for part in
        ["n1: ", "    CREATE SCHEMA", "_herdsman_stamp", "n3: take table public.t into the mesh"]
    {
        assert!(plan.contains(part), "{part} is missing: {plan}");
    }
    yard.refuses(&["up"], 2, "nothing was changed; to do this, add `--yes`");
    yard.refuses(&["up", "--plan", "--yes"], 2, "cannot be used with");
    let slots = "select count(*) from pg_replication_slots";
    assert_eq!(yard.sql("n1", slots), "0", "a plan must change nothing");
    assert!(yard.prints(&["up", "--yes"]).contains("mesh `mesh`: "));
    assert_eq!(yard.sql("n1", slots), "3");
    assert_eq!(yard.prints(&["up"]), "mesh `mesh`: nothing to do\n");
    yard.refuses(&["status", "--direct"], 1, "");
    assert_eq!(yard.status(&["--direct"])["targets"]["n2"]["state"], "stopped");
}

#[test]
fn a_table_that_does_not_fit_is_named_and_nothing_is_changed() {
    let yard = Yard::new();
    yard.sql("n2", "create table public.keyless (a int)");
    yard.refuses(&["up", "--yes"], 1, "nothing was changed; in the way is:");
    yard.refuses(&["up", "--plan"], 1, "public.keyless");
    assert_eq!(yard.sql("n1", "select count(*) from pg_replication_slots"), "0");
}

#[test]
fn keys_are_kept_apart_and_shown() {
    let yard = Yard::up();
    let shown = yard.prints(&["sequences"]);
    for first in ["2 ", "2147483649 ", "4294967296 "] {
        assert!(shown.contains(first), "{shown}");
    }
    assert_eq!(yard.prints(&["sequences", "--fix"]), "nothing to do\n");
    yard.sql("n2", "alter sequence public.t_id_seq no maxvalue start 1 restart 1");
    let wrong = yard.mesh(&["sequences"]);
    assert_eq!(wrong.code, Some(1), "{}", wrong.stdout);
    assert!(yard.prints(&["sequences", "--plan"]).contains("2147483649"));
    yard.prints(&["sequences", "--fix"]);
    assert_eq!(yard.mesh(&["sequences"]).code, Some(0));
    for node in NODES {
        yard.sql(node, "insert into t (v) values ('x')");
    }
    assert_eq!(yard.sql("n2", "select id from t"), "2147483649");
}

#[test]
fn without_a_mesh_or_with_a_wrong_one_it_is_the_configuration() {
    let folder = crate::program::Folder::new();
    folder.file("herdsman.yml", "hosts: {a: {host: a}, b: {host: b}}\n");
    for args in [&["mesh", "up"][..], &["mesh", "verify"], &["mesh", "run"], &["mesh", "pause"]] {
        let ended = folder.herdsman(args);
        assert_eq!(ended.code, Some(78), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("has no section `mesh`"), "{args:?}: {}", ended.stderr);
    }
    let file = |mode: &str| {
        let text = format!(
            "hosts: {{a: {{host: a}}, b: {{host: b}}}}\nmesh:\n  nodes: [a, c]\n  mode: {mode}\n  \
             control: {{token: hunter2}}\n"
        );
        folder.file("herdsman.yml", &text);
    };
    file("touched");
    for command in [&["check"][..], &["mesh", "up"], &["run"]] {
        let ended = folder.herdsman(command);
        assert_eq!(ended.code, Some(78), "{command:?}: {}", ended.stderr);
        let told = "herdsman.yml:4:9: `mesh.mode` is `touched`, expected columns or untouched";
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
    file("untouched");
    for command in [&["check"][..], &["mesh", "up"], &["run"]] {
        let ended = folder.herdsman(command);
        assert_eq!(ended.code, Some(78), "{command:?}: {}", ended.stderr);
        for place in ["herdsman.yml:3:14: ", "herdsman.yml:5:20: "] {
            assert!(ended.stderr.contains(place), "{place} is missing: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}
