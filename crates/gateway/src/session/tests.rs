//! Stories of messages: what the client and the server say, and what comes out for either.
//!
//! Messages are written as a letter and words: `Q select 1`, `P name text`, `B portal statement`, `D S name`, `E portal`,
//! `C S name`, `S`, `H`, `X`; from servers `1`, `2`, `3`, `n`, `T`, `D row`, `C tag`, `Z I`, `E code words`, `N routine`,
//! `S name value`, `G`, `A`. `-` is an empty name.

mod counts;
mod stories;

use super::*;
use crate::wire::{backend, frontend, header, message};

/// A session, and the server connection it may have.
pub(super) struct Story {
    pub(super) session: Session,
    classifier: Classifier,
    pub(super) target: Target,
    pub(super) mode: PoolMode,
    pub(super) session_state: SessionState,
    pub(super) prepared: usize,
    pub(super) guard: bool,
    pub(super) server: Option<FakeServer>,
    out: Outputs,
    input: Vec<u8>,
    from_server: Vec<u8>,
}

#[derive(Default)]
pub(super) struct FakeServer {
    pub(super) settings: Settings,
    pub(super) statements: ServerStatements,
    pub(super) reported: Vec<(Box<str>, Box<str>)>,
}

fn held(server: &mut FakeServer) -> Held<'_> {
    Held {
        settings: &mut server.settings,
        statements: &mut server.statements,
        reported: &mut server.reported,
    }
}

impl Story {
    pub(super) fn new() -> Self {
        Self {
            session: Session::new(Settings::default(), false),
            classifier: Classifier::new(),
            target: Target::Split,
            mode: PoolMode::Transaction,
            session_state: SessionState::Pin,
            prepared: 100,
            guard: false,
            server: None,
            out: Outputs::default(),
            input: Vec::new(),
            from_server: Vec::new(),
        }
    }

    /// The client says these; returns what comes next.
    #[track_caller]
    pub(super) fn client(&mut self, said: &[&str]) -> Fed {
        for text in said {
            put_frontend(&mut self.input, text);
        }
        self.go_on()
    }

    /// What the client has said and was not taken is looked at again.
    pub(super) fn go_on(&mut self) -> Fed {
        let cx = Context {
            classifier: &self.classifier,
            target: &self.target,
            mode: self.mode,
            session_state: self.session_state,
            prepared: self.prepared,
            guard: self.guard.then_some(Guard { sql: "guard", oid: 20, value: "7" }),
        };
        let held = self.server.as_mut().map(held);
        let (taken, fed) = self.session.feed(&self.input, held, &cx, &mut self.out);
        self.input.drain(..taken);
        fed
    }

    /// A server is attached, and what waited goes to it.
    #[track_caller]
    pub(super) fn attach(&mut self, server: FakeServer) -> Fed {
        self.server = Some(server);
        self.session.attach(self.out.to_client.len());
        self.go_on()
    }

    /// Said by the client, needing a server of this kind, which it gets.
    #[track_caller]
    pub(super) fn needs(&mut self, want: Want, said: &[&str]) {
        assert_eq!(self.client(said), Fed::Need, "{said:?}");
        assert_eq!(self.session.needs().want, want, "{said:?}");
        self.attach(FakeServer::default());
    }

    /// The server says these; where it is done, it is taken away, as the edge does.
    #[track_caller]
    pub(super) fn server(&mut self, said: &[&str]) -> Received {
        for text in said {
            put_backend(&mut self.from_server, text);
        }
        let server = self.server.as_mut().expect("a server");
        let (taken, received) =
            self.session.receive(&self.from_server, &mut held(server), &mut self.out);
        self.from_server.drain(..taken);
        received
    }

    #[track_caller]
    pub(super) fn done(&mut self, said: &[&str]) -> FakeServer {
        assert_eq!(self.server(said), Received::Done, "{said:?}");
        assert!(self.from_server.is_empty());
        self.session.detach();
        self.server.take().expect("a server")
    }

    #[track_caller]
    pub(super) fn sent_to_server(&mut self, expected: &[&str]) {
        let said = tell(&std::mem::take(&mut self.out.to_server), true);
        assert_eq!(said, expected);
    }

    #[track_caller]
    pub(super) fn sent_to_client(&mut self, expected: &[&str]) {
        let said = tell(&std::mem::take(&mut self.out.to_client), false);
        assert_eq!(said, expected);
    }

    #[track_caller]
    pub(super) fn lose(&mut self, words: &str) -> After {
        let told = Told { code: None, words: words.to_owned(), unsent: false };
        self.server = None;
        self.from_server.clear();
        self.session.lose("n1", &told, &mut self.out)
    }
}

fn name(word: &str) -> &[u8] {
    if word == "-" { b"" } else { word.as_bytes() }
}

fn put_frontend(out: &mut Vec<u8>, text: &str) {
    let (tag, rest) = text.split_once(' ').unwrap_or((text, ""));
    let tag = tag.as_bytes()[0];
    let mut words = rest.splitn(2, ' ');
    let (one, two) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    message(out, tag, |out| match tag {
        frontend::QUERY => {
            out.extend_from_slice(rest.as_bytes());
            out.push(0);
        }
        frontend::PARSE => {
            out.extend_from_slice(name(one));
            out.push(0);
            out.extend_from_slice(two.as_bytes());
            out.extend_from_slice(&[0, 0, 0]);
        }
        frontend::BIND => {
            out.extend_from_slice(name(one));
            out.push(0);
            out.extend_from_slice(name(two));
            out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0]);
        }
        frontend::DESCRIBE | frontend::CLOSE => {
            out.extend_from_slice(one.as_bytes());
            out.extend_from_slice(name(two));
            out.push(0);
        }
        frontend::EXECUTE => {
            out.extend_from_slice(name(one));
            out.extend_from_slice(&[0, 0, 0, 0, 0]);
        }
        _ => out.extend_from_slice(rest.as_bytes()),
    });
}

fn put_backend(out: &mut Vec<u8>, text: &str) {
    let (tag, rest) = text.split_once(' ').unwrap_or((text, ""));
    let tag = tag.as_bytes()[0];
    let (one, two) = rest.split_once(' ').unwrap_or((rest, ""));
    let field = |out: &mut Vec<u8>, letter: u8, text: &str| {
        out.push(letter);
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    };
    message(out, tag, |out| match tag {
        backend::ERROR => {
            field(out, b'V', if two == "fatal" { "FATAL" } else { "ERROR" });
            field(out, b'C', one);
            field(out, b'M', two);
            out.push(0);
        }
        backend::NOTICE => {
            field(out, b'V', "WARNING");
            field(out, b'R', one);
            out.push(0);
        }
        backend::PARAMETER_STATUS => {
            out.extend_from_slice(one.as_bytes());
            out.push(0);
            out.extend_from_slice(two.as_bytes());
            out.push(0);
        }
        backend::COMPLETE => {
            out.extend_from_slice(rest.as_bytes());
            out.push(0);
        }
        _ => out.extend_from_slice(rest.as_bytes()),
    });
}

/// Messages as text.
fn tell(bytes: &[u8], to_server: bool) -> Vec<String> {
    let (mut at, mut told) = (0, Vec::new());
    while let Some(head) = header(&bytes[at..]).unwrap() {
        let body = &bytes[at + 5..at + head.len];
        at += head.len;
        let tag = char::from(head.tag);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let or_dash = |bytes: &[u8]| if bytes.is_empty() { "-".into() } else { text(bytes) };
        told.push(match (to_server, head.tag) {
            (true, frontend::QUERY) => format!("Q {}", text(frontend::query(body).unwrap())),
            (true, frontend::PARSE) => {
                let parse = frontend::parse(body).unwrap();
                format!("P {} {}", or_dash(parse.name), text(parse.query))
            }
            (true, frontend::BIND) => {
                let bind = frontend::bind(body).unwrap();
                if bind.statement != b"hm_guard" {
                    assert_eq!(bind.rest, [0, 0, 0, 0, 0, 0]);
                }
                format!("B {} {}", or_dash(bind.portal), or_dash(bind.statement))
            }
            (true, frontend::DESCRIBE | frontend::CLOSE) => match frontend::named(body).unwrap() {
                frontend::Named::Statement(name) => format!("{tag} S {}", or_dash(name)),
                frontend::Named::Portal(name) => format!("{tag} P {}", or_dash(name)),
            },
            (true, frontend::EXECUTE) => format!("E {}", or_dash(frontend::execute(body).unwrap())),
            (false, backend::ERROR) => {
                let field = |letter| text(backend::field(body, letter).unwrap_or_default());
                let fatal = if field(b'V') == "FATAL" { " fatal" } else { "" };
                format!("E {}{fatal}", field(b'C'))
            }
            (false, backend::COMPLETE) => format!("C {}", text(&body[..body.len() - 1])),
            (false, backend::PARAMETER_STATUS) => {
                let (name, value) = backend::parameter(body).unwrap();
                format!("S {} {}", text(name), text(value))
            }
            _ if body.is_empty() => tag.to_string(),
            _ => format!("{tag} {}", text(body)),
        });
    }
    assert_eq!(at, bytes.len(), "a message is cut off");
    told
}
