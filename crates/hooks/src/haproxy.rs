//! An HAProxy whose servers are taken in and out over its runtime API.

mod commands;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::config::HaProxyConfig;
use crate::herd::{Herd, Part};

/// The hook.
#[derive(Debug)]
pub(crate) struct HaProxy {
    pub(crate) config: HaProxyConfig,
}

/// Longest answer that is read: they are a line.
const ANSWER: u64 = 4096;

/// Whether HAProxy takes this for a name of a backend or a server, and nothing else.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    !name.is_empty() && name.len() <= 255 && name.chars().all(plain)
}

/// Whether this is `host:port`.
pub(crate) fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

impl HaProxy {
    /// Makes it so.
    pub(crate) async fn keep(&self, herd: &Herd) -> Result<String, String> {
        let mut complaint = None;
        for command in commands::commands(&self.config, herd) {
            // One server that it does not know must not keep the others as they are.
            complaint = complaint.or(self.tell(&command).await?);
        }
        if let Some(complaint) = complaint {
            return Err(complaint);
        }
        let of = |wanted: Part| {
            let nodes = herd.0.iter().filter(|(_, part)| **part == wanted);
            let nodes: Vec<_> = nodes.map(|(node, _)| node.as_str()).collect();
            if nodes.is_empty() { "nobody".to_owned() } else { nodes.join(", ") }
        };
        Ok(format!("written to: {}; read: {}", of(Part::Writer), of(Part::Reader)))
    }

    /// Whether it can be asked and may be told, and knows the backends: where not, why, and what to do.
    pub(crate) async fn look(&self) -> Result<(), (String, String)> {
        let socket = &self.config.socket;
        let unreached = |error| {
            let fix = "check that it runs, its `stats socket`, and who may open that";
            (format!("failed to ask HAProxy at `{socket}`: {error}"), fix.to_owned())
        };
        let level = self.answer("show cli level").await.map_err(unreached)?;
        // What says something else is too old to say it.
        if matches!(level.trim(), "operator" | "user") {
            let problem = format!("the socket `{socket}` has the level `{}`", level.trim());
            return Err((problem, "give HAProxy's `stats socket` the `level admin`".to_owned()));
        }
        for backend in self.config.writers.iter().chain(&self.config.readers) {
            let command = format!("show servers state {backend}");
            let answer = self.answer(&command).await.map_err(unreached)?;
            // A table begins with the number of its version.
            if !answer.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
                let said = plain(answer.trim());
                let problem = format!("HAProxy at `{socket}` answers `{command}` with: {said}");
                let fix = "correct `writers` and `readers`, or HAProxy's backends";
                return Err((problem, fix.to_owned()));
            }
        }
        Ok(())
    }

    async fn answer(&self, command: &str) -> std::io::Result<String> {
        let socket = &self.config.socket;
        if socket.starts_with('/') {
            ask(UnixStream::connect(socket).await?, command).await
        } else {
            ask(TcpStream::connect(socket.as_str()).await?, command).await
        }
    }

    /// What it has against a command, if anything.
    async fn tell(&self, command: &str) -> Result<Option<String>, String> {
        let socket = &self.config.socket;
        let answer = self.answer(command).await.map_err(|error| {
            format!(
                "failed to ask HAProxy at `{socket}`: {error}; check that it runs, and its `stats socket`"
            )
        })?;
        let answer = answer.trim();
        if answer.is_empty() {
            return Ok(None);
        }
        let said = plain(answer);
        Ok(Some(format!(
            "HAProxy at `{socket}` answers `{command}` with: {said}; check its backends and servers, and that the \
             socket has `level admin`"
        )))
    }
}

/// What it said, in one line that is not too long.
fn plain(answer: &str) -> String {
    answer.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One command, one answer; then HAProxy closes.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    command: &str,
) -> std::io::Result<String> {
    stream.write_all(command.as_bytes()).await?;
    stream.write_all(b"\n").await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_another_command_is_no_name() {
        for (name, expected) in [("n1", true), ("a.b-c_d:1", true), ("", false), ("a b", false)] {
            assert_eq!(is_name(name), expected, "{name}");
        }
        for name in ["a;b", "a/b", "a\nb", "a\\b", "#1", "é"] {
            assert!(!is_name(name), "{name}");
        }
        for (text, expected) in
            [("a:1", true), ("[::1]:9", true), (":1", false), ("a:0", false), ("a", false)]
        {
            assert_eq!(is_address(text), expected, "{text}");
        }
    }
}
