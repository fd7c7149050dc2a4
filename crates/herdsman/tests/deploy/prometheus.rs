//! A real Prometheus, for what expressions give when a real Herdsman is asked.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::cluster::until;
use crate::hooks::Daemon;
use crate::program::{Folder, closed_port, get};

/// A Prometheus that asks twice a second.
pub(super) struct Prometheus {
    _daemon: Daemon,
    folder: Folder,
    url: String,
    targets: Vec<String>,
    began: u64,
}

/// The label of what is asked.
const JOB: &str = "herdsman-test";

impl Prometheus {
    /// With these rules.
    pub(super) fn start(rules: &str) -> Self {
        let folder = Folder::new();
        let url = format!("http://127.0.0.1:{}", closed_port());
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}\nrule_files: ['{rules}']\n\
             scrape_configs: [{{job_name: {JOB}, file_sd_configs: [{{files: ['{dir}/targets.json'], refresh_interval: 1s}}]}}]\n",
            dir = folder.path().display(),
        );
        let config = folder.file("prometheus.yml", &config);
        folder.file("targets.json", "[]");
        let daemon = Daemon::start(
            ["/usr/bin/prometheus", "/usr/local/bin/prometheus"],
            "Prometheus",
            |command| {
                command.args(["--log.level=error", "--config.file", &config]);
                command.arg(format!("--web.listen-address={}", url.trim_start_matches("http://")));
                command
                    .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
            },
        );
        let prometheus = Self { _daemon: daemon, folder, url, targets: Vec::new(), began: now() };
        until(
            "Prometheus answers",
            || prometheus.asked("query?query=1").to_string(),
            |told| told.contains("success"),
        );
        prometheus
    }

    /// Has it ask this one too, until there is enough for rates.
    pub(super) fn watches(&mut self, url: &str) {
        self.targets.push(url.trim_start_matches("http://").to_owned());
        let targets = serde_json::json!([{ "targets": self.targets }]);
        let staged = self.folder.file("targets.new", &targets.to_string());
        std::fs::rename(staged, self.folder.path().join("targets.json")).unwrap();
        let up = format!(
            "count_over_time(up{{instance=\"{}\"}}[1h]) > 4",
            self.targets[self.targets.len() - 1]
        );
        let found = || self.asked(&format!("query?query={}", encoded(&up)));
        until("it was asked some times", found, |told| told["data"]["result"][0].is_object());
    }

    /// How many series an expression of the dashboard or of a rule has given at any time.
    ///
    /// # Errors
    /// Why Prometheus does not take it.
    pub(super) fn series(&self, expression: &str) -> Result<usize, String> {
        let mut filled = expression.to_owned();
        for (variable, value) in
            [("$__rate_interval", "5s"), ("$__range", "1m"), ("$job", JOB), ("$instance", ".+")]
        {
            filled = filled.replace(variable, value);
        }
        let (query, began, ended) = (encoded(&filled), self.began, now());
        let told =
            self.asked(&format!("query_range?query={query}&start={began}&end={ended}&step=1"));
        match told["data"]["result"].as_array() {
            Some(series) if told["status"] == "success" => Ok(series.len()),
            _ => Err(told["error"].to_string()),
        }
    }

    /// Rules that were not evaluated, or could not be.
    pub(super) fn ill_rules(&self) -> String {
        let told = self.asked("rules");
        let groups = told["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        let ill = rules.filter(|rule| rule["health"] != "ok");
        ill.fold(String::new(), |mut all, rule| {
            let _infallible =
                write!(all, "{}: {} {}; ", rule["name"], rule["health"], rule["lastError"]);
            all
        })
    }

    fn asked(&self, path: &str) -> Value {
        if std::net::TcpStream::connect(self.url.trim_start_matches("http://")).is_err() {
            return Value::Null;
        }
        let answer = get(&self.url, &format!("/api/v1/{path}"));
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let in_pieces = answer.to_lowercase().contains("transfer-encoding: chunked");
        let body = if in_pieces { joined(body) } else { body.to_owned() };
        serde_json::from_str(&body).unwrap_or_default()
    }
}

/// A long answer comes in pieces, each after a line with its length.
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(rest.get(..length).unwrap());
        body = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// As it stands in a URL.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() {
            all.push(char::from(byte));
        } else {
            let _infallible = write!(all, "%{byte:02X}");
        }
        all
    })
}
