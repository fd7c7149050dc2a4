//! The configurations that service manager, containers and orchestrator are given, with the secrets that they provide.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{file, read, yaml};
use crate::cluster::open_temp_dir;
use crate::program::{Ended, Folder, closed_port, fake_herdsman, get};

/// Checks a configuration whose files are in `secrets`, a folder that holds what is named and nothing else.
#[track_caller]
fn is_good(config: &str, secrets: &str, names: &[String]) {
    let folder = Folder::within(&open_temp_dir());
    let mut text = config.to_owned();
    for (place, here) in [(secrets, "secrets"), ("/run/herdsman", "run"), ("/var/lib", "lib")] {
        let here = folder.path().join(here);
        fs::create_dir_all(&here).unwrap();
        text = text.replace(place, &here.display().to_string());
    }
    assert!(!names.is_empty());
    for name in names {
        fs::write(folder.path().join("secrets").join(name), "secret-of-a-test\n").unwrap();
        assert!(config.contains(&format!("{secrets}/{name} ")), "nothing uses `{name}`");
    }
    let ended = folder.herdsman(&["check", &folder.file("herdsman.yml", &text)]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("gateway on "), "{}", ended.stdout);
}

/// What a unit says of a key, in order.
fn of_unit<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(found, _)| *found == key).map(|(_, value)| value).collect()
}

#[test]
fn the_unit_gives_the_example_what_it_asks_for() {
    let (unit, config) = (read("systemd/herdsman.service"), read("systemd/herdsman.yml"));
    let names = of_unit(&unit, "LoadCredential");
    let names: Vec<_> = names.iter().map(|one| one.split(':').next().unwrap().to_owned()).collect();
    is_good(&config, "/run/credentials/herdsman.service", &names);
    assert_eq!(of_unit(&unit, "ExecStart"), ["/usr/bin/herdsman run /etc/herdsman/herdsman.yml"]);
    assert_eq!(of_unit(&unit, "Type"), ["notify-reload"]);
    let kept = |key| format!("/{}", of_unit(&unit, key)[0]);
    assert!(config.contains(&format!("state_file: /var/lib{}/", kept("StateDirectory"))));
    assert!(config.contains(&format!("unix_socket_dir: /run{}\n", kept("RuntimeDirectory"))));
}

#[test]
fn the_containers_give_their_configuration_what_it_asks_for() {
    let compose = yaml("compose/compose.yaml");
    let herdsman = &compose["services"]["herdsman"];
    let names: Vec<String> = serde_json::from_value(herdsman["secrets"].clone()).unwrap();
    is_good(&read("compose/herdsman.yml"), "/run/secrets", &names);
    let all = compose["services"].as_object().unwrap().values();
    for secret in all.flat_map(|service| service["secrets"].as_array().unwrap()) {
        assert!(compose["secrets"][secret.as_str().unwrap()].is_object(), "{secret}");
    }
    let mounted = all_texts(&compose).into_iter().filter(|text| text.starts_with("./"));
    for source in mounted.filter_map(|text| text.split(':').next().map(str::to_owned)) {
        let made = source.starts_with("./secrets/");
        assert!(made || file("compose").join(&source).exists(), "{source} is not there");
    }
}

#[test]
fn the_pods_give_their_configuration_what_it_asks_for_and_probes_are_answered() {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&read("kubernetes/herdsman.yaml")).unwrap();
    let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();
    let config = of_kind("ConfigMap")["data"]["herdsman.yml"].as_str().unwrap();
    let pod = &of_kind("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mounts = container["volumeMounts"].as_array().unwrap();
    let secrets = mounts.iter().find(|mount| mount["name"] == "secrets").unwrap();
    let names = ["watcher", "app", "boss"].map(str::to_owned);
    is_good(config, secrets["mountPath"].as_str().unwrap(), &names);

    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].to_string()
    };
    assert!(config.contains(&format!("\nport: {}\n", port("api"))));
    assert!(config.contains(&format!("listen: \"*:{}\"\n", port("postgresql"))));

    let folder = Folder::new();
    let node = format!("{{host: 127.0.0.1, port: {}, sslmode: disable}}", closed_port());
    let text = format!("hosts: {{n1: {node}}}\nbind: 127.0.0.1\nport: 0\n");
    let running = folder.start(&["run", &folder.file("h.yml", &text)]);
    for (probe, answers) in
        [("startup", &["200"][..]), ("liveness", &["200"]), ("readiness", &["200", "503"])]
    {
        let path = container[format!("{probe}Probe")]["httpGet"]["path"].as_str().unwrap();
        let told = get(&running.url(), path);
        let status = told.split(' ').nth(1).unwrap();
        assert!(answers.contains(&status), "{probe}: {told}");
    }
    assert!(container["lifecycle"]["preStop"].is_object());
}

#[test]
fn the_image_asks_the_program_whether_it_is_well() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Dockerfile");
    let text = fs::read_to_string(path).unwrap().replace("\\\n", " ");
    let words = |key: &str, before: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        serde_json::from_str(line.split_once(before).unwrap().1).unwrap()
    };
    assert_eq!(words("ENTRYPOINT", "ENTRYPOINT"), ["herdsman"]);
    assert_eq!(words("CMD", "CMD"), ["run", "/etc/herdsman/herdsman.yml"]);
    let check = words("HEALTHCHECK", "CMD");
    assert_eq!(check[0], "herdsman");
    let ask = |url: &str| -> Ended {
        let url = check[1..].iter().map(|word| word.replace("http://127.0.0.1:8080", url));
        let args: Vec<_> = url.collect();
        Folder::new().herdsman(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let folder = Folder::new();
    let text = format!("hosts: {{n1: {{host: 127.0.0.1, port: {}}}}}\nport: 0\n", closed_port());
    let running = folder.start(&["run", &folder.file("h.yml", &text)]);
    assert_eq!(ask(&running.url()).code, Some(0), "{}", running.stderr());
    for ill in [
        format!("http://127.0.0.1:{}", closed_port()),
        fake_herdsman("500 Internal Server Error", "{}".to_owned()),
    ] {
        assert_ne!(ask(&ill).code, Some(0), "{ill}");
    }
}

/// Every text in a document.
fn all_texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(all) => all.iter().flat_map(all_texts).collect(),
        Value::Object(all) => all.values().flat_map(all_texts).collect(),
        _ => Vec::new(),
    }
}
