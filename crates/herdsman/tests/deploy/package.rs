//! The Debian package and what makes a release.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::read;
use crate::program::Folder;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What `cargo deb` is told.
fn metadata() -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = all["packages"].as_array().unwrap();
    let ours = packages.iter().find(|package| package["name"] == "herdsman-cli").unwrap();
    ours["metadata"]["deb"].clone()
}

#[test]
fn everything_that_the_package_takes_is_there() {
    let metadata = metadata();
    let pages = Folder::new();
    let made = Command::new(root().join("scripts/pages"))
        .args([Path::new(env!("CARGO_BIN_EXE_herdsman")), pages.path()])
        .status();
    assert!(made.unwrap().success());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut targets = Vec::new();
    for asset in metadata["assets"].as_array().unwrap() {
        let [source, target] = [0, 1].map(|index| asset[index].as_str().unwrap());
        targets.push(target.to_owned());
        let path = match source.strip_prefix("target/release/pages/") {
            Some(page) => pages.path().join(page),
            None if source == "target/release/herdsman" => continue,
            None => manifest.join(source),
        };
        let folder = path.parent().unwrap().read_dir().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (start, end) = name.split_once('*').unwrap_or((name, ""));
        let fits = |found: &str| found.starts_with(start) && found.ends_with(end);
        let mut found = folder.flatten().map(|entry| entry.file_name().into_string().unwrap());
        assert!(found.any(|found| fits(&found)), "{source} is not there");
    }
    // The unit starts this program with this file, which is kept when it was changed.
    let unit = read("systemd/herdsman.service");
    assert!(unit.contains("ExecStart=/usr/bin/herdsman run /etc/herdsman/herdsman.yml\n"));
    assert!(targets.contains(&"usr/bin/".to_owned()));
    assert_eq!(metadata["conf-files"], serde_json::json!(["/etc/herdsman/herdsman.yml"]));
    assert!(targets.contains(&"etc/herdsman/herdsman.yml".to_owned()));
    for key in ["maintainer-scripts", "license-file"] {
        let path = metadata[key].as_str().or(metadata[key][0].as_str()).unwrap();
        assert!(manifest.join(path).exists(), "{path} is not there");
    }
}

#[test]
fn scripts_of_release_and_deployment_are_shell() {
    let workflow = std::fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap();
    let workflow: Value = serde_saphyr::from_str(&workflow).unwrap();
    let jobs = workflow["jobs"].as_object().unwrap().values();
    let steps = jobs.flat_map(|job| job["steps"].as_array().unwrap());
    let mut scripts: Vec<_> =
        steps.filter_map(|step| step["run"].as_str().map(str::to_owned)).collect();
    assert!(scripts.len() > 4, "steps are missed");
    for script in ["compose/primary.sh", "compose/standby.sh", "debian/postinst", "debian/postrm"] {
        scripts.push(read(script));
    }
    for script in scripts {
        let checked = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
