//! What needs no server.

use std::fs;
use std::process::Command;

use crate::program::Folder;

#[test]
fn init_adds_what_is_missing_and_leaves_what_is_there() {
    let folder = Folder::new();
    let first = folder.herdsman(&["stream", "init", "new"]);
    let expected = "ADDING new/herdsman.yml\nADDING new/Cargo.toml\nADDING new/src/main.rs\nADDING new/.gitignore\n";
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), expected), "{}", first.stderr);
    let config = folder.path().join("new/herdsman.yml");
    fs::write(&config, "mine").unwrap();
    fs::remove_file(folder.path().join("new/src/main.rs")).unwrap();
    let again = folder.herdsman(&["stream", "init", "new"]);
    let expected = "SKIPPING new/herdsman.yml (it is there already)\nSKIPPING new/Cargo.toml (it is there already)\n\
                    ADDING new/src/main.rs\nSKIPPING new/.gitignore (it is there already)\n";
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), expected));
    assert_eq!(fs::read_to_string(&config).unwrap(), "mine");
}

#[test]
fn what_init_writes_is_a_good_configuration_and_a_project_of_its_own() {
    let folder = Folder::new();
    let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let made = folder.herdsman(&["stream", "init", "--path", copy]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let check = folder.herdsman(&["check"]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&cargo.stdout).into_owned();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    assert!(told.contains("\"stream-handlers\"") && told.contains("/crates/stream"), "{told}");
}

#[test]
fn init_refuses_a_folder_that_is_no_working_copy() {
    let folder = Folder::new();
    let refused = folder.herdsman(&["stream", "init", "--path", "."]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    assert!(refused.stderr.contains("is no working copy of Herdsman"), "{}", refused.stderr);
    assert!(!folder.path().join("Cargo.toml").exists());
}

#[test]
fn a_broken_stream_section_ends_every_command_with_78() {
    let folder = Folder::new();
    folder.file("herdsman.yml", "hosts: {a: {host: a}}\nstream: {slott: x}\n");
    for args in [&["run"][..], &["peek"], &["status"], &["diagnose"], &["slots", "list"]] {
        let ended = folder.herdsman(&[&["stream"], args].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(78), ""), "{args:?}");
        let expected =
            "herdsman.yml:2:10: unknown key `slott` in `stream`, expected slot, publication, ";
        assert!(ended.stderr.starts_with(expected), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn a_wrong_slot_in_the_gems_variable_is_told_by_the_variables_name() {
    let folder = Folder::new();
    folder.file("herdsman.yml", "hosts: {a: {host: a}}\n");
    let mut command = folder.command(&["check"]);
    let ended = crate::program::ended(command.env("KOYO_REPL_SLOT", "My-Slot"));
    assert_eq!(ended.code, Some(78));
    assert!(
        ended
            .stderr
            .contains("the variable `KOYO_REPL_SLOT`: `My-Slot` is no name for a replication slot"),
        "{}",
        ended.stderr
    );
}
