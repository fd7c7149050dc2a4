//! The configuration files of one server, as text.
//!
//! They live beside the data folder, not in it, so that copying or rewinding a cluster never carries one node's settings
//! to another.

use std::path::PathBuf;

/// Everything a node's configuration is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) hba_file: PathBuf,
    pub(crate) passfile: PathBuf,
    pub(crate) tls: Option<TlsFiles>,
    /// Where it streams from when it is a standby.
    pub(crate) upstream_port: Option<u16>,
    /// Of the server.
    pub(crate) major: u32,
    /// Whether it is one of several that all take writes.
    pub(crate) writer: bool,
    /// Settings asked for on top; they win.
    pub(crate) extra: Vec<(String, String)>,
}

/// The server's certificate and key.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What every node is set to. `fsync=off` is safe here: a killed process loses nothing of what it handed to the system,
/// only a crash of the whole machine could, and a sandbox does not outlive one. Segments kept for standbys are bounded
/// (`max_slot_wal_keep_size`), else the slot of a node that never returns would fill the disk. Shared memory of parallel
/// queries is kept in files below the data folder, where a killed server cannot leave it behind.
const COMMON: [(&str, &str); 24] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("wal_level", "logical"),
    ("wal_log_hints", "on"),
    ("hot_standby", "on"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_connections", "60"),
    ("shared_buffers", "16MB"),
    ("fsync", "off"),
    ("synchronous_commit", "on"),
    ("wal_keep_size", "128MB"),
    ("max_wal_size", "256MB"),
    ("max_slot_wal_keep_size", "256MB"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "200ms"),
    ("dynamic_shared_memory_type", "mmap"),
    ("jit", "off"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("log_statement", "none"),
    ("log_min_error_statement", "panic"),
    ("password_encryption", "scram-sha-256"),
];

/// What a writer is set to besides: room for subscriptions, should somebody compare with them.
const WRITER: [(&str, &str); 3] = [
    ("max_worker_processes", "24"),
    ("max_logical_replication_workers", "16"),
    ("max_sync_workers_per_subscription", "2"),
];
/// Versions from this one on bound the replication origins in use by themselves, not by the slots.
const BOUNDS_ORIGINS: u32 = 18;

impl Settings {
    /// The text of the node's `postgresql.conf`.
    pub(crate) fn server_conf(&self) -> String {
        let mut text =
            String::from("# Written by the sandbox; changed when the node follows another one.\n");
        let mut line = |name: &str, value: &str| {
            text.push_str(&format!("{name} = {}\n", quoted(value)));
        };
        for (name, value) in COMMON {
            line(name, value);
        }
        if self.writer {
            for (name, value) in WRITER {
                line(name, value);
            }
            if self.major >= BOUNDS_ORIGINS {
                line("max_active_replication_origins", "20");
            }
        }
        line("port", &self.port.to_string());
        line("cluster_name", &self.name);
        line("hba_file", &self.hba_file.to_string_lossy());
        if let Some(tls) = &self.tls {
            line("ssl", "on");
            line("ssl_cert_file", &tls.certificate.to_string_lossy());
            line("ssl_key_file", &tls.key.to_string_lossy());
        }
        line("recovery_target_timeline", "latest");
        if let Some(port) = self.upstream_port {
            line("primary_conninfo", &self.primary_conninfo(port));
            line("primary_slot_name", &self.name);
        }
        for (name, value) in &self.extra {
            line(name, value);
        }
        text
    }

    /// The text of the node's `pg_hba.conf`: passwords everywhere, loopback only.
    pub(crate) fn hba(&self) -> String {
        let mut text = String::new();
        for kind in if self.tls.is_some() { &["hostssl", "host"][..] } else { &["host"][..] } {
            for database in ["all", "replication"] {
                text.push_str(&format!("{kind} {database} all 127.0.0.1/32 scram-sha-256\n"));
            }
        }
        text
    }

    fn primary_conninfo(&self, port: u16) -> String {
        let passfile = self.passfile.to_string_lossy().replace('\\', "\\\\").replace('\'', "\\'");
        let name = &self.name;
        format!(
            "host=127.0.0.1 port={port} user=replicator passfile='{passfile}' application_name={name} sslmode=prefer connect_timeout=5"
        )
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            name: "n2".to_owned(),
            port: 5001,
            hba_file: "/x/it's/hba.conf".into(),
            passfile: "/x/it's/passfile".into(),
            tls: None,
            upstream_port: None,
            major: 15,
            writer: false,
            extra: vec![("fsync".to_owned(), "on".to_owned())],
        }
    }

    #[test]
    fn a_quote_in_the_path_stays_inside_its_value() {
        let mut settings = settings();
        settings.upstream_port = Some(6001);
        let text = settings.server_conf();
        assert!(text.contains("hba_file = '/x/it''s/hba.conf'\n"), "{text}");
        assert!(text.contains(r"passfile=''/x/it\\''s/passfile'' application_name=n2"), "{text}");
    }

    #[test]
    fn settings_asked_for_come_last_and_so_win() {
        let text = settings().server_conf();
        assert!(text.ends_with("fsync = 'on'\n"), "{text}");
        assert!(!text.contains("primary_conninfo"), "{text}");
    }

    #[test]
    fn a_version_is_not_told_what_it_does_not_know() {
        let mut settings = settings();
        settings.writer = true;
        assert!(!settings.server_conf().contains("max_active_replication_origins"));
        settings.major = BOUNDS_ORIGINS;
        assert!(settings.server_conf().contains("max_active_replication_origins = '20'\n"));
    }

    #[test]
    fn access_needs_a_password_from_everywhere() {
        let mut settings = settings();
        settings.tls = Some(TlsFiles { certificate: "/c".into(), key: "/k".into() });
        let hba = settings.hba();
        assert_eq!(hba.lines().count(), 4);
        assert!(hba.lines().all(|line| line.ends_with("127.0.0.1/32 scram-sha-256")), "{hba}");
    }
}
