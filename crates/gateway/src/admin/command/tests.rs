use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Vec<Command> {
    parse(text).unwrap_or_else(|problem| panic!("{text}: {}", problem.message))
}

fn refused(text: &str) -> String {
    let problem = parse(text).expect_err(text);
    assert_eq!(problem.code, "42601", "{text}");
    problem.message.into_owned()
}

#[test]
fn every_command_is_read_in_any_case_with_blanks_comments_and_a_semicolon() {
    let app = || Some("app".to_owned());
    let table = [
        ("pause", Command::Pause(None)),
        ("PAUSE app", Command::Pause(app())),
        ("Resume;", Command::Resume(None)),
        ("resume app ; ", Command::Resume(app())),
        ("hold", Command::Hold),
        ("SWITCHOVER n2", Command::Switchover { node: "n2".into(), force: false }),
        ("switchover \"n 2\" Force", Command::Switchover { node: "n 2".into(), force: true }),
        ("switchover force", Command::Switchover { node: "force".into(), force: false }),
        ("reload -- now\n", Command::Reload),
        ("kill app", Command::Kill(app())),
        ("kill", Command::Kill(None)),
        ("kill_client 18446744073709551615", Command::KillClient(u64::MAX)),
        ("DISABLE App", Command::Disable("App".into())),
        ("enable \"a\"\"b\"", Command::Enable("a\"b".into())),
        ("enable 'it''s'", Command::Enable("it's".into())),
        ("/* a /* b */ c */reconnect/**/app", Command::Reconnect(app())),
        ("wait_close", Command::WaitClose(None)),
        ("wait_close my-app_1.eu", Command::WaitClose(Some("my-app_1.eu".into()))),
        ("shutdown", Command::Shutdown(Ending::AtOnce)),
        ("SHUTDOWN WAIT_FOR_SERVERS;", Command::Shutdown(Ending::Transactions)),
        ("shutdown wait_for_clients", Command::Shutdown(Ending::Clients)),
        ("suspend", Command::Suspend),
        ("SET extra_float_digits = 3", Command::Ignored("SET")),
        ("set application_name='a;b'", Command::Ignored("SET")),
        ("DISCARD ALL", Command::Ignored("DISCARD ALL")),
        ("START TRANSACTION READ ONLY", Command::Ignored("BEGIN")),
    ];
    for (text, command) in table {
        assert_eq!(read(text), [command], "{text}");
    }
}

#[test]
fn everything_that_can_be_shown_is_read() {
    for (name, show) in SHOWS {
        assert_eq!(read(&format!("SHOW {name}")), [Command::Show(show)]);
        assert_eq!(read(&format!("\tshow\n{};", name.to_uppercase())), [Command::Show(show)]);
    }
    assert_eq!(read("show"), [Command::Show(Show::Help)]);
    for asked in ["SHOW TRANSACTION ISOLATION LEVEL", "show transaction_isolation"] {
        let shown = Show::Parameter("transaction_isolation", "read committed");
        assert_eq!(read(asked), [Command::Show(shown)]);
    }
    assert!(matches!(read("show DateStyle")[..], [Command::Show(Show::Parameter("datestyle", _))]));
}

#[test]
fn several_commands_are_read_in_order_and_empty_ones_left_out() {
    assert_eq!(read(""), []);
    assert_eq!(read(" ; -- nothing\n;/* */"), []);
    assert_eq!(read("pause;;resume"), [Command::Pause(None), Command::Resume(None)]);
    let quoted = Command::Pause(Some("a;b".into()));
    assert_eq!(read("pause \"a;b\"; reload"), [quoted, Command::Reload]);
}

#[test]
fn what_is_no_command_is_refused_with_the_list_of_those_that_are() {
    let problem = parse("DROP TABLE users").unwrap_err();
    assert_eq!(problem.message, "unknown command `DROP TABLE users`");
    assert!(problem.hint.unwrap().contains("KILL_CLIENT id"));
    assert_eq!(refused("show secrets"), "unknown command `show secrets`");
    assert_eq!(refused("\"show\" pools"), "unknown command `show pools`");
    assert_eq!(refused("show pools now"), "`now` does not belong to SHOW");
    assert_eq!(refused("pause a b"), "`b` does not belong to PAUSE");
    assert_eq!(refused("switchover n2 please"), "`please` does not belong to SWITCHOVER");
    assert_eq!(refused("switchover"), "a name is missing; expected SWITCHOVER node [FORCE]");
    assert_eq!(refused("disable;"), "a name is missing; expected DISABLE database");
    assert_eq!(refused("kill_client -1"), "`-1` is no client's id; see `id` in SHOW CLIENTS");
    assert_eq!(refused("pause \"app"), "a quoted name does not end");
    assert_eq!(refused("pause /* app"), "a comment does not end");
    assert_eq!(refused("pause; nonsense"), "unknown command `nonsense`");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_read_for_ever(text in "[;'\"/* \\-a-zé=(]{0,40}") {
        let _either = parse(&text);
    }

    #[test]
    fn any_name_can_be_quoted(name in "[^\0]{1,20}") {
        let text = format!("PAUSE \"{}\"", name.replace('"', "\"\""));
        prop_assert_eq!(read(&text), [Command::Pause(Some(name))]);
    }
}
