//! The sections that this program itself understands: the API's address and certificate, and logging.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use herdsman_api::{ApiConfig, ClientAuth, Listen, Ssl, SslError};
use herdsman_config::{Depth, Reading, quoted};
use tracing::Level;

use super::LogConfig;

pub(super) fn ssl(reading: &mut Reading<'_>) -> Option<Ssl> {
    // pgroute66 takes an empty section for plain HTTP.
    let ssl = reading.section::<Ssl>("ssl").filter(|ssl| !ssl.is_empty())?;
    if reading.depth() == Depth::Full
        && let Err(error) = ssl.load()
    {
        let field = match &error {
            SslError::Half { given: field, .. }
            | SslError::Both { other: field, .. }
            | SslError::File { field, .. }
            | SslError::NoPem { field, .. } => Some(*field),
            SslError::LoneRevocations => Some("client_crl"),
            SslError::NoAuthority => Some("client_auth"),
            SslError::Authority(_) => Some("client_ca"),
            SslError::Empty | SslError::Unusable(_) => None,
        };
        reading.problem_at(&["ssl", field.unwrap_or("key")], error.to_string());
    }
    Some(ssl)
}

/// Who is known by a certificate must be able to show it.
pub(super) fn certificates(reading: &mut Reading<'_>, ssl: Option<&Ssl>, api: &ApiConfig) {
    let asked = ssl.is_some_and(|ssl| ssl.client_auth() != ClientAuth::Off);
    if !api.certificates.is_empty() && !asked {
        let message = "`api.certificates` opens the API to certificates that nobody asks for, expected `ssl.client_ca`, and \
                       `ssl.client_auth` not `off`";
        reading.problem_at(&["api", "certificates"], message);
    }
}

pub(super) fn listen(reading: &mut Reading<'_>, tls: bool) -> Option<Listen> {
    let bind = reading.section::<String>("bind").unwrap_or_else(|| "localhost".to_owned());
    let port = reading.section::<u16>("port").unwrap_or(if tls { 8443 } else { 8080 });
    let bare = bind.trim_start_matches('[').trim_end_matches(']');
    let is_v6 = bare.parse::<Ipv6Addr>().is_ok();
    if bind.contains(char::is_whitespace) || (bind.contains(':') && !is_v6) {
        let message = format!(
            "`bind` is {}, expected a host name or an IP address without a port",
            quoted(&bind)
        );
        reading.problem_at(&["bind"], message);
        return None;
    }
    Some(Listen { bind: if is_v6 { bare.to_owned() } else { bind }, port })
}

pub(super) fn log(reading: &mut Reading<'_>) -> Option<LogConfig> {
    let word = reading.section::<String>("loglevel").unwrap_or_else(|| "info".to_owned());
    let level = match word.to_ascii_lowercase().as_str() {
        "trace" => Level::TRACE,
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" | "warning" => Level::WARN,
        "error" => Level::ERROR,
        _ => {
            let message = format!(
                "`loglevel` is {}, expected trace, debug, info, warn or error",
                quoted(&word)
            );
            reading.problem_at(&["loglevel"], message);
            return None;
        }
    };
    let file = reading.section::<String>("logfile").filter(|file| !file.is_empty());
    let file = file.map(PathBuf::from);
    if let (Some(file), Depth::Full) = (&file, reading.depth()) {
        log_folder(reading, file);
    }
    Some(LogConfig { level, file })
}

/// Opening the file would create it, which a check must not; most mistakes show without.
fn log_folder(reading: &mut Reading<'_>, file: &Path) {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let message = format!(
            "`logfile`: {} is not a directory, expected a file in one that exists",
            quoted(&folder.display().to_string())
        );
        reading.problem_at(&["logfile"], message);
    } else if file.is_dir() {
        reading.problem_at(&["logfile"], "`logfile` is a directory, expected a file");
    }
}
