//! A real Chromium without a window, told what to do over its own protocol through a pipe: no port, no library.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::cluster::{PATIENCE, until};
use crate::program::Folder;

const PROGRAMS: [&str; 2] = ["/usr/bin/chromium", "/usr/bin/google-chrome"];

/// How long one answer of the browser may take on a loaded machine.
const ANSWER: Duration = Duration::from_secs(60);

/// One browser with one tab.
pub struct Browser {
    child: Child,
    pipe: RefCell<Pipe>,
    tab: String,
    _profile: Folder,
}

struct Pipe {
    to: ChildStdin,
    from: Receiver<Value>,
    last: u64,
    /// What the browser told unasked.
    told: Vec<Value>,
}

impl Browser {
    pub fn start() -> Self {
        let program = PROGRAMS.into_iter().find(|path| Path::new(path).exists());
        let program = program.expect("Chromium is not installed; ./test installs it");
        let profile = Folder::new();
        let mut child = Command::new("sh")
            // It reads from descriptor 3 and writes to 4.
            .args(["-c", r#"exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null"#, "sh", program])
            // Without its sandbox, which cannot be had in a container or as root; it loads this program's page only, and
            // nothing else can be found.
            .args(["--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu"])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-first-run"])
            .args(["--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-extensions", "--hide-scrollbars"])
            .args(["--force-color-profile=srgb", "--lang=en-GB"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while pipe.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let told = serde_json::from_slice(&message).unwrap_or_default();
                message.clear();
                if sender.send(told).is_err() {
                    break;
                }
            }
        });
        let to = child.stdin.take().unwrap();
        let pipe = RefCell::new(Pipe { to, from, last: 0, told: Vec::new() });
        let mut browser = Self { child, pipe, tab: String::new(), _profile: profile };
        let target = browser.tell("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.tell("Target.attachToTarget", &attach);
        browser.tab = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.tell(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// One command, and its result.
    #[track_caller]
    pub fn tell(&self, method: &str, params: &Value) -> Value {
        let mut pipe = self.pipe.borrow_mut();
        pipe.last += 1;
        let id = pipe.last;
        let mut command = json!({"id": id, "method": method, "params": params});
        if !self.tab.is_empty() {
            command["sessionId"] = json!(self.tab);
        }
        pipe.to.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let mut told = pipe.from.recv_timeout(ANSWER).expect("the browser does not answer");
            if told["id"] != id {
                pipe.told.push(told);
                continue;
            }
            assert!(told["error"].is_null(), "{method}: {}", told["error"]);
            return told["result"].take();
        }
    }

    #[track_caller]
    pub fn open(&self, url: &str) {
        let opened = self.tell("Page.navigate", &json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        let ready = "document.readyState === 'complete' && location.href !== 'about:blank'";
        until("the page is loaded", || self.value(ready), |ready| *ready == json!(true));
    }

    /// What an expression of JavaScript is.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut told = self.tell("Runtime.evaluate", &asked);
        assert!(told["exceptionDetails"].is_null(), "{expression}: {}", told["exceptionDetails"]);
        told["result"]["value"].take()
    }

    /// What a person reads there; nothing, where nothing is shown.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let text = self.value(&format!("document.querySelector({selector})?.innerText ?? ''"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// What a screen reader is told of a node's card.
    #[track_caller]
    pub fn card(&self, node: &str) -> String {
        let card = json!(format!("[data-node={}]", json!(node)));
        let label = format!("document.querySelector({card})?.ariaLabel ?? ''");
        self.value(&label).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until all of `words` stand there.
    #[track_caller]
    pub fn wait(&self, selector: &str, words: &[&str]) {
        let what = format!("{selector} shows {words:?}");
        until(&what, || self.text(selector), |text| words.iter().all(|word| text.contains(word)));
    }

    /// Waits until a node's card says all of `words`.
    #[track_caller]
    pub fn wait_for_card(&self, node: &str, words: &[&str]) {
        let what = format!("the card of {node} says {words:?}");
        until(&what, || self.card(node), |text| words.iter().all(|word| text.contains(word)));
    }

    pub fn key(&self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "text": text});
            self.tell("Input.dispatchKeyEvent", &event);
        }
    }

    /// The size of the window, and whether the system is dark.
    pub fn look(&self, width: u32, height: u32, dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.tell("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.tell("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Writes a picture of the window.
    pub fn photograph(&self, file: &Path) {
        let picture = self.tell("Page.captureScreenshot", &json!({"format": "png"}));
        let picture = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, picture).unwrap();
    }

    /// Errors and warnings, from the page or about it.
    pub fn complaints(&self) -> Vec<String> {
        // Whatever was told before this answer has arrived with it.
        self.value("1");
        let pipe = self.pipe.borrow();
        let complaints = pipe.told.iter().filter(|told| match told["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                ["error", "warning", "assert"].iter().any(|kind| told["params"]["type"] == *kind)
            }
            Some("Log.entryAdded") => {
                ["error", "warning"].iter().any(|level| told["params"]["entry"]["level"] == *level)
            }
            _ => false,
        });
        complaints.map(ToString::to_string).collect()
    }

    /// The addresses of everything that was asked for.
    pub fn requests(&self) -> Vec<String> {
        self.value("1");
        let pipe = self.pipe.borrow();
        let sent = pipe.told.iter().filter(|told| told["method"] == "Network.requestWillBeSent");
        let urls = sent.filter_map(|told| told["params"]["request"]["url"].as_str());
        urls.map(str::to_owned).collect()
    }

    /// That nothing was complained about, and nothing asked of anybody but these.
    #[track_caller]
    pub fn is_content(&self, servers: &[&str]) {
        assert_eq!(self.complaints(), Vec::<String>::new());
        let requests = self.requests();
        let ours = |url: &String| servers.iter().any(|server| url.starts_with(server));
        assert!(!requests.is_empty() && requests.iter().all(ours), "{requests:?}");
    }

    /// That nothing reaches over the edge at the right.
    #[track_caller]
    pub fn fits(&self) {
        let wide = "[...document.querySelectorAll('body *')].filter(one => \
                    one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('svg')).map(one => one.outerHTML.slice(0, 200))";
        let wider = "document.documentElement.scrollWidth - innerWidth";
        let over = self.value(wider).as_i64().unwrap();
        assert!(over <= 0, "{over} pixels too wide: {}", self.value(wide));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers are children of its own.
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _reaped = self.child.wait();
    }
}

const _: () = assert!(PATIENCE.as_secs() < ANSWER.as_secs());
