//! The mesh as an orchestrator tells it something, with `curl`.

use serde_json::{Value, json};

use super::{TOKEN, Yard};
use crate::cluster::until;

/// Status and body.
fn curl(api: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> (String, Value) {
    let mut command = std::process::Command::new("curl");
    command.args(["-s", "-w", "\n%{http_code}", &format!("{api}{path}")]);
    if let Some(token) = token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    if let Some(body) = body {
        command.args(["-d", &body.to_string()]);
    }
    let out = command.output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn an_orchestrator_makes_a_mesh_and_asks_how_far_it_is() {
    let yard = Yard::new();
    let (_running, api) = yard.run();
    let rpc = |method: &str, params: &Value| {
        let request = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        curl(&api, "/rpc", Some(TOKEN), Some(&request)).1
    };
    let done = |id: &Value| -> Value {
        until(
            "the job has ended",
            || rpc("mesh.job", &json!({"id": id}))["result"].clone(),
            |job: &Value| job["state"] != "running",
        )
    };
    let (status, _) = curl(&api, "/v2/mesh/up", Some("wrong-token"), Some(&json!({})));
    assert_eq!(status, "401");
    let (status, begun) = curl(&api, "/v2/mesh/up", Some(TOKEN), Some(&json!({})));
    assert_eq!((status.as_str(), &begun["job"]), ("202", &json!(1)), "{begun}");
    let job = done(&begun["job"]);
    assert_eq!(job["state"], "done", "{job}");
    assert!(job["result"]["steps"].as_u64() > Some(0), "{job}");

    let plan = rpc("mesh.plan", &json!({}));
    assert_eq!(done(&plan["result"]["job"])["result"]["steps"], json!([]));
    yard.sql("n1", "insert into t (v) values ('x')");
    yard.all_tell("select v from t", "x");
    let job = done(&rpc("mesh.verify", &json!({"tables": ["public.*"]}))["result"]["job"]);
    assert_eq!(job["result"]["verdict"], "equal", "{job}");
    let wrong = rpc("mesh.verify", &json!({"table": "public.*"}));
    assert_eq!(wrong["error"]["code"], -32602, "{wrong}");
    assert_eq!(rpc("mesh.conflicts", &json!({}))["result"], json!([]));
    let (status, told) = curl(&api, "/v2/mesh", None, None);
    assert_eq!((status.as_str(), &told["mesh"]), ("200", &json!("mesh")), "{told}");
    assert_eq!(told["targets"].as_object().map(serde_json::Map::len), Some(3), "{told}");
    let wrong = rpc("mesh.remove", &json!({"node": "n3", "cancel": true, "keep_writable": true}));
    assert_eq!(wrong["error"]["code"], -32602, "{wrong}");
    let job = done(&rpc("mesh.remove", &json!({"node": "n3", "cancel": true}))["result"]["job"]);
    assert!(job["problem"].as_str().is_some_and(|why| why.contains("does not leave")), "{job}");

    // A removal that waits for what cannot come is called off.
    rpc("mesh.pause", &json!({"link": "n3:n1"}));
    yard.sql("n3", "insert into t (v) values ('y')");
    let removing = rpc("mesh.remove", &json!({"node": "n3"}))["result"]["job"].clone();
    until(
        "it waits for n1",
        || rpc("mesh.job", &json!({"id": removing}))["result"].clone(),
        |job: &Value| job["progress"]["behind"] == json!(["n3 to n1"]),
    );
    let cancel = json!({"node": "n3", "cancel": true});
    let (_, begun) = curl(&api, "/v2/mesh/remove", Some(TOKEN), Some(&cancel));
    assert_eq!(done(&begun["job"])["result"]["state"], "active");
    assert_eq!(done(&removing)["state"], "failed");
    rpc("mesh.resume", &json!({}));
    yard.sql("n3", "insert into t (v) values ('z')");
    yard.all_tell("select string_agg(v, ' ' order by v) from t", "x y z");
}

#[test]
fn without_a_token_in_the_configuration_nobody_changes_anything() {
    let yard = Yard::up();
    let text = std::fs::read_to_string(yard.log("herdsman.yml")).unwrap();
    let (without, _) = text.split_once("  control:").unwrap();
    yard.folder.file("herdsman.yml", without);
    let (_running, api) = yard.run();
    let (status, told) = curl(&api, "/v2/mesh/pause", Some(TOKEN), Some(&json!({})));
    assert_eq!(status, "403", "{told}");
    yard.refuses(&["pause", "--url", &api], 69, "no `mesh.control.token`");
}

#[test]
fn what_somebody_does_is_logged_with_the_name_of_the_token() {
    let yard = Yard::up();
    let text = std::fs::read_to_string(yard.log("herdsman.yml")).unwrap();
    let (without, _) = text.split_once("  control:").unwrap();
    let tokens = "api:\n  tokens:\n  - {name: dash, scope: read, token: r3ading-token}\n  \
                  - {name: ci, scope: operate, token: first-token}\n  \
                  - {name: ada, scope: operate, token: second-token}\n";
    yard.folder.file("herdsman.yml", &format!("{without}{tokens}"));
    let file = yard.folder.file("ada", "second-token\n");
    let (_running, api) = yard.run();
    assert_eq!(yard.prints(&["pause", "--url", &api]), "every link: held\n");
    let resumed = yard.prints(&["resume", "--url", &api, "--token-file", &file]);
    assert_eq!(resumed, "every link: goes on\n");
    let (status, told) = curl(&api, "/v2/mesh/plan", Some("r3ading-token"), Some(&json!({})));
    assert_eq!((status.as_str(), &told["error"]["code"]), ("403", &json!("scope_too_narrow")));
    let (status, begun) = curl(&api, "/v2/mesh/plan", Some("second-token"), Some(&json!({})));
    assert_eq!(status, "202", "{begun}");
    let (status, job) = curl(&api, "/v2/mesh/job?id=1", Some("r3ading-token"), None);
    assert_eq!((status.as_str(), &job["by"]), ("200", &json!("token ada")), "{job}");
    let log = || yard.read("log");
    for logged in [
        "paused=true by=\"token ci\"",
        "paused=false by=\"token ada\"",
        "who=\"token dash\"",
        "verb=\"plan\" by=\"token ada\"",
    ] {
        until(logged, log, |log: &String| log.contains(logged));
    }
}
