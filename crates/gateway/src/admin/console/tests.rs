use std::sync::Mutex;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::super::reply::Cell;
use super::*;
use crate::wire::frontend::{put_parse, put_query, put_statement};
use crate::wire::message;

const COLUMNS: &[Column] = &[Column::text("name"), Column::int("number")];

/// An engine that shows `rows` rows, and whose `PAUSE` waits until it is told to go on.
struct Fake {
    rights: Rights,
    rows: i64,
    go_on: Notify,
    leave: Notify,
    cancel: Notify,
    done: Mutex<Vec<Command>>,
}

impl Engine for std::sync::Arc<Fake> {
    fn rights(&self) -> Rights {
        self.rights
    }

    fn columns(&self, _show: Show) -> &'static [Column] {
        COLUMNS
    }

    fn show(&self, _show: Show) -> Table {
        Table::new(COLUMNS, (0..self.rows).map(|number| vec![Cell::from("row"), Cell::Int(number)]))
    }

    async fn act(
        &self,
        command: Command,
        notices: mpsc::Sender<String>,
    ) -> Result<&'static str, Problem> {
        if let Command::Pause(_) = command {
            notices.send("waiting".to_owned()).await.unwrap();
            self.go_on.notified().await;
        }
        self.done.lock().unwrap().push(command);
        Ok("DONE")
    }

    async fn leave(&self, _busy: bool) -> Problem {
        self.leave.notified().await;
        Problem::new(code::SHUTDOWN, "shutting down")
    }

    async fn cancelled(&self) {
        self.cancel.notified().await;
    }
}

struct Talk {
    stream: DuplexStream,
    engine: std::sync::Arc<Fake>,
    served: JoinHandle<io::Result<()>>,
}

fn talk_to(rights: Rights, rows: i64) -> Talk {
    let (stream, theirs) = tokio::io::duplex(4096);
    let engine = std::sync::Arc::new(Fake {
        rights,
        rows,
        go_on: Notify::new(),
        leave: Notify::new(),
        cancel: Notify::new(),
        done: Mutex::default(),
    });
    let console = Console::new(theirs, BytesMut::new(), std::sync::Arc::clone(&engine));
    Talk { stream, engine, served: tokio::spawn(console.serve()) }
}

impl Talk {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn query(&mut self, text: &str) {
        let mut bytes = Vec::new();
        put_query(&mut bytes, text.as_bytes());
        self.send(&bytes).await;
    }

    /// The next message.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let mut head = [0; HEADER];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = header(&head).unwrap().unwrap().len - HEADER;
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.unwrap();
            Some((head[0], body))
        };
        tokio::time::timeout(Duration::from_secs(30), read).await.expect("an answer")
    }

    /// Tags up to and with the next that is `last`.
    async fn tags(&mut self, last: u8) -> String {
        let mut tags = String::new();
        while let Some((tag, _)) = self.next().await {
            tags.push(char::from(tag));
            if tag == last {
                break;
            }
        }
        tags
    }

    async fn expect(&mut self, tag: u8) -> Vec<u8> {
        let (got, body) = self.next().await.expect("a message");
        assert_eq!(char::from(got), char::from(tag), "{}", String::from_utf8_lossy(&body));
        body
    }

    async fn error(&mut self) -> String {
        let body = self.expect(backend::ERROR).await;
        String::from_utf8(backend::field(&body, b'C').unwrap().to_vec()).unwrap()
    }
}

fn bind(out: &mut Vec<u8>, portal: &str, statement: &str, rest: &[u8]) {
    message(out, frontend::BIND, |out| {
        out.extend_from_slice(format!("{portal}\0{statement}\0").as_bytes());
        out.extend_from_slice(rest);
    });
}

fn execute(out: &mut Vec<u8>, portal: &str, most: i32) {
    message(out, frontend::EXECUTE, |out| {
        out.extend_from_slice(format!("{portal}\0").as_bytes());
        out.extend_from_slice(&most.to_be_bytes());
    });
}

/// No parameters, results as text.
const PLAIN: &[u8] = &[0; 6];

#[tokio::test]
async fn several_commands_of_a_text_are_answered_in_order_up_to_the_first_that_fails() {
    let mut talk = talk_to(Rights::Everything, 2);
    talk.query("show pools; reload").await;
    assert_eq!(talk.tags(b'Z').await, "TDDCCZ");
    talk.query(" -- nothing").await;
    assert_eq!(talk.tags(b'Z').await, "IZ");
    talk.query("reload; nonsense").await;
    assert_eq!(talk.tags(b'Z').await, "EZ");
    assert_eq!(
        *talk.engine.done.lock().unwrap(),
        [Command::Reload],
        "what cannot be read whole is not begun"
    );
    talk.query("kill app; shutdown").await;
    assert_eq!(talk.tags(b'Z').await, "CCZ");
}

#[tokio::test]
async fn who_may_only_look_is_refused_everything_else_in_both_protocols() {
    let mut talk = talk_to(Rights::Look, 0);
    talk.query("kill_client 1").await;
    assert_eq!(talk.error().await, "42501");
    assert_eq!(talk.tags(b'Z').await, "Z");
    let mut bytes = Vec::new();
    put_parse(&mut bytes, b"", b"KILL_CLIENT 1", &[0, 0]);
    bind(&mut bytes, "", "", PLAIN);
    execute(&mut bytes, "", 0);
    bytes.extend(frontend::SYNC_MESSAGE);
    talk.send(&bytes).await;
    assert_eq!(talk.tags(b'2').await, "12");
    assert_eq!(talk.error().await, "42501");
    talk.query("show pools").await;
    assert_eq!(talk.tags(b'Z').await, "Z");
    assert_eq!(talk.tags(b'Z').await, "TCZ");
    assert!(talk.engine.done.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_extended_protocol_describes_fetches_and_closes() {
    let mut talk = talk_to(Rights::Everything, 5);
    let mut bytes = Vec::new();
    put_parse(&mut bytes, b"s", b"SHOW POOLS", &[0, 0]);
    put_statement(&mut bytes, frontend::DESCRIBE, b"s");
    bind(&mut bytes, "p", "s", PLAIN);
    for most in [2, 2, 2, 2] {
        execute(&mut bytes, "p", most);
    }
    put_statement(&mut bytes, frontend::CLOSE, b"s");
    bytes.extend(frontend::SYNC_MESSAGE);
    bind(&mut bytes, "", "s", PLAIN);
    execute(&mut bytes, "", 0);
    bytes.extend(frontend::SYNC_MESSAGE);
    talk.send(&bytes).await;
    assert_eq!(talk.tags(b'Z').await, "1tT2DDsDDsDCC3Z");
    assert_eq!(talk.error().await, "26000", "it was closed");
    assert_eq!(talk.tags(b'Z').await, "Z", "the rest is left out up to the next sync");
}

#[tokio::test]
async fn numbers_are_binary_where_the_client_wants_them_so() {
    let mut talk = talk_to(Rights::Everything, 1);
    let mut bytes = Vec::new();
    put_parse(&mut bytes, b"", b"SHOW POOLS", &[0, 0]);
    // One format for all columns: binary.
    bind(&mut bytes, "", "", &[0, 0, 0, 0, 0, 1, 0, 1]);
    execute(&mut bytes, "", 0);
    // One for each column: text.
    bind(&mut bytes, "", "", &[0, 0, 0, 0, 0, 2, 0, 1, 0, 0]);
    execute(&mut bytes, "", 0);
    bytes.extend(frontend::SYNC_MESSAGE);
    talk.send(&bytes).await;
    assert_eq!(talk.tags(b'2').await, "12");
    assert_eq!(talk.expect(b'D').await, b"\0\x02\0\0\0\x03row\0\0\0\x08\0\0\0\0\0\0\0\0");
    assert_eq!(talk.tags(b'2').await, "C2");
    assert_eq!(talk.expect(b'D').await, b"\0\x02\0\0\0\x03row\0\0\0\x010");
}

#[tokio::test]
async fn what_cannot_be_bound_or_prepared_is_refused() {
    let mut talk = talk_to(Rights::Everything, 0);
    let step = |name: &str, text: &str, rest: &[u8]| {
        let mut bytes = Vec::new();
        put_parse(&mut bytes, name.as_bytes(), text.as_bytes(), &[0, 0]);
        bind(&mut bytes, "", name, rest);
        bytes.extend(frontend::SYNC_MESSAGE);
        bytes
    };
    let table: [(&str, &str, &[u8], &str); 6] = [
        ("", "reload; reload", PLAIN, "42601"),
        ("", "reload", &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], "08P01"),
        ("", "reload", &[0, 9], "08P01"),
        ("", "reload", &[0, 0, 0, 0, 0, 1, 0, 7], "08P01"),
        ("", "select 1", PLAIN, "42601"),
        ("twice", "reload", PLAIN, "none"),
    ];
    for (name, text, rest, expected) in table {
        talk.send(&step(name, text, rest)).await;
        let tags = talk.tags(b'Z').await;
        assert_eq!(tags.contains('E'), expected != "none", "{text} {rest:?}: {tags}");
    }
    talk.send(&step("twice", "reload", PLAIN)).await;
    assert_eq!(talk.error().await, "42P05");
}

#[tokio::test]
async fn a_command_that_takes_long_says_so_and_can_be_cancelled() {
    let mut talk = talk_to(Rights::Everything, 0);
    talk.query("pause").await;
    assert_eq!(talk.tags(b'N').await, "N");
    talk.engine.cancel.notify_one();
    assert_eq!(talk.error().await, "57014");
    assert_eq!(talk.tags(b'Z').await, "Z");
    talk.query("pause").await;
    assert_eq!(talk.tags(b'N').await, "N");
    talk.engine.go_on.notify_one();
    assert_eq!(talk.tags(b'Z').await, "CZ");
    assert_eq!(*talk.engine.done.lock().unwrap(), [Command::Pause(None)]);
}

#[tokio::test]
async fn a_client_that_goes_while_its_command_is_carried_out_has_it_given_up() {
    let mut talk = talk_to(Rights::Everything, 0);
    talk.query("pause").await;
    assert_eq!(talk.tags(b'N').await, "N");
    let Talk { stream, engine, served } = talk;
    drop(stream);
    served.await.unwrap().unwrap_err();
    assert!(engine.done.lock().unwrap().is_empty());
}

#[tokio::test]
async fn many_rows_go_out_bit_by_bit() {
    let mut talk = talk_to(Rights::Everything, 10_000);
    talk.query("show clients").await;
    let tags = talk.tags(b'Z').await;
    assert_eq!(tags.len(), 10_003);
    assert_eq!(tags.matches('D').count(), 10_000);
}

#[tokio::test]
async fn drivers_that_open_transactions_are_told_what_they_expect() {
    let mut talk = talk_to(Rights::Everything, 0);
    let mut seen = Vec::new();
    for text in ["begin", "reload", "nonsense", "commit", "BEGIN", "ROLLBACK", "set a = b"] {
        talk.query(text).await;
        let (_, body) = talk.next().await.unwrap();
        let status = talk.expect(b'Z').await;
        let tag = body.strip_suffix(b"\0").filter(|tag| !tag.contains(&0)).unwrap_or(b"(error)");
        seen.push(format!("{} {}", String::from_utf8_lossy(tag), char::from(status[0])));
    }
    let expected =
        ["BEGIN T", "DONE T", "(error) E", "ROLLBACK I", "BEGIN T", "ROLLBACK I", "SET I"];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_is_no_protocol_ends_the_session_with_an_error() {
    let broken: [&[u8]; 4] = [
        &[b'Q', 0, 0, 0, 3],
        &[b'Q', 0x7f, 0, 0, 0],
        &[b'Q', 0, 0, 0, 5, b'x'],
        &[b'!', 0, 0, 0, 4],
    ];
    for bytes in broken {
        let mut talk = talk_to(Rights::Everything, 0);
        talk.send(bytes).await;
        assert_eq!(talk.error().await, "08P01", "{bytes:?}");
        assert_eq!(talk.next().await, None);
        talk.served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_is_sent_away_when_the_gateway_stops_and_may_leave_itself() {
    let mut talk = talk_to(Rights::Everything, 0);
    talk.engine.leave.notify_one();
    assert_eq!(talk.error().await, "57P01");
    assert_eq!(talk.next().await, None);

    let mut talk = talk_to(Rights::Everything, 0);
    talk.send(&[b'X', 0, 0, 0, 4]).await;
    assert_eq!(talk.next().await, None);
    talk.served.await.unwrap().unwrap();
}
