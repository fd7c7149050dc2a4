//! libpq's password file: `host:port:database:user:password`, `*` matching anything, `\` escaping.

use std::path::Path;

/// Finds the password of the first line that matches; `None` where the file is missing, too open or silent.
pub(super) fn lookup(
    file: &Path,
    host: &str,
    port: u16,
    dbname: &str,
    user: &str,
) -> Option<String> {
    let metadata = std::fs::metadata(file).ok()?;
    if is_open_to_others(&metadata) {
        return None;
    }
    find(&std::fs::read_to_string(file).ok()?, host, port, dbname, user)
}

/// libpq ignores a password file that others may read; so do we.
#[cfg(unix)]
fn is_open_to_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &std::fs::Metadata) -> bool {
    false
}

fn find(text: &str, host: &str, port: u16, dbname: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    // libpq looks a Unix socket in the default directory up as localhost.
    let host = if host.starts_with('/') { "localhost" } else { host };
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line);
        let [h, p, d, u, password] = fields.as_slice() else { return None };
        let matches = |field: &str, value: &str| field == "*" || field == value;
        (matches(h, host) && matches(p, &port) && matches(d, dbname) && matches(u, user))
            .then(|| password.clone())
    })
}

fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields[last].extend(chars.next()),
            c => fields[last].push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_line_gives_the_password() {
        let text = "# note\nother:5432:*:*:no\ndb1:*:app:mon:a\\:b\\\\c:d\n*:*:*:*:last\n";
        assert_eq!(find(text, "db1", 5433, "app", "mon").as_deref(), Some("a:b\\c:d"));
        assert_eq!(find(text, "db2", 5433, "app", "mon").as_deref(), Some("last"));
        assert_eq!(find("broken line", "db2", 5433, "app", "mon"), None);
    }
}
