use crate::program::{Folder, ended};

const COMMANDS: [&str; 17] = [
    "run",
    "check",
    "import",
    "doctor",
    "explain",
    "status",
    "top",
    "primary",
    "stream",
    "mesh",
    "ledger",
    "switchover",
    "hold",
    "resume",
    "sandbox",
    "completions",
    "manual",
];

#[test]
fn help_explains_the_program_on_one_screen() {
    let help = Folder::new().herdsman(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.lines().count() <= 24, "{}", help.stdout);
    for line in help.stdout.lines() {
        assert!(line.chars().count() <= 100, "too wide: {line}");
    }
    for word in COMMANDS.iter().chain(&["primary", "HTTP", "manual"]) {
        assert!(help.stdout.contains(word), "{word} is missing");
    }
    assert_eq!(Folder::new().herdsman(&["-h"]).stdout, help.stdout);
}

#[test]
fn every_command_has_examples() {
    let folder = Folder::new();
    let with_examples = |args: &[&str]| {
        let help = folder.herdsman(args).stdout;
        assert!(help.contains("\nExamples:\n  herdsman "), "{args:?}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{args:?}: {help}");
        help
    };
    for command in COMMANDS {
        let help = with_examples(&[command, "--help"]);
        let below = help.split("Commands:\n").nth(1).unwrap_or_default();
        for line in below.lines().take_while(|line| !line.is_empty()) {
            let subcommand = line.split_whitespace().next().unwrap();
            if subcommand != "help" {
                with_examples(&[command, subcommand, "--help"]);
            }
        }
    }
}

#[test]
fn the_version_is_printed_by_its_old_letter_too() {
    let folder = Folder::new();
    for flag in ["-V", "-v", "--version"] {
        assert_eq!(
            folder.herdsman(&[flag]).stdout,
            concat!("herdsman ", env!("CARGO_PKG_VERSION"), "\n")
        );
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    let folder = Folder::new();
    let config = folder.file("herdsman.yml", "hosts: {a: {host: a}}\n");
    for args in [
        &["--nonsense"][..],
        &["chekc"],
        &["run", "--nonsense"],
        &["run", "x.yml", "-c", "y.yml"],
        &[&config, "check"],
        &["status", "--url", "nonsense"],
        &["status", "--url", "http://a", "--direct"],
        &["completions", "nosuchshell"],
        &["status", "--watch", "0"],
        &["top", "--interval", "never"],
    ] {
        let ended = folder.herdsman(args);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{args:?}: {}",
            ended.stderr
        );
    }
    let ended = folder.herdsman(&["chekc"]);
    assert_eq!(ended.stderr, "`chekc` is neither a command nor a file; see `herdsman --help`\n");
}

#[test]
fn completions_exist_for_the_usual_shells() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = folder.herdsman(&["completions", shell]);
        assert_eq!(script.code, Some(0));
        assert!(script.stdout.contains("primary") && script.stdout.len() > 1000, "{shell}");
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let folder = Folder::new();
    let main = folder.herdsman(&["manual"]).stdout;
    for part in [
        "EXIT STATUS",
        "explain H0004",
        "FILES",
        "ENVIRONMENT",
        "PGROUTE66CONFIG",
        "/etc/herdsman/herdsman.yml",
    ] {
        assert!(main.contains(part), "{part} is missing");
    }
    assert_eq!(folder.herdsman(&["manual", "--dir", "man"]).code, Some(0));
    for command in COMMANDS {
        let page = folder.path().join(format!("man/herdsman-{command}.1"));
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains("EXAMPLES"), "{command}");
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("man/herdsman.1")).unwrap(), main);
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let folder = Folder::new();
    let mut shell = std::process::Command::new("sh");
    let script = "{ \"$0\" completions bash; echo \"code $?\" >&2; } | head -c 10";
    let ended = ended(
        shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_herdsman")).current_dir(folder.path()),
    );
    assert_eq!((ended.stdout.len(), ended.stderr.as_str()), (10, "code 0\n"));
}
