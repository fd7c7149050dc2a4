//! PostgreSQL's regression SQL, from the folder of a package that carries it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The package whose folder holds the SQL, and the folders in it.
const PACKAGE: &str = "pg_raw_parse";
const FOLDERS: [&str; 2] =
    ["libpg_query/test/sql/postgres_regress", "libpg_query/test/sql/plpgsql_regress"];

/// The distinct statements of all files.
///
/// # Errors
/// Cargo cannot say where the package is (it downloads it if need be), or a file cannot be read.
pub fn statements() -> Result<Vec<String>, String> {
    let package = folder()?;
    let mut files = Vec::new();
    for folder in FOLDERS {
        let folder = package.join(folder);
        let entries =
            std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        files.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    files.sort();
    let (mut seen, mut statements) = (HashSet::new(), Vec::new());
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "sql")) {
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        for statement in split(&String::from_utf8_lossy(&bytes)) {
            if seen.insert(statement.clone()) {
                statements.push(statement);
            }
        }
    }
    Ok(statements)
}

fn folder() -> Result<PathBuf, String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version=1", "--locked", "--features=corpus"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    let manifest = packages
        .filter(|package| package.get("name").is_some_and(|name| name == PACKAGE))
        .find_map(|package| package.get("manifest_path")?.as_str())
        .ok_or_else(|| format!("cargo does not know the package {PACKAGE}"))?;
    PathBuf::from(manifest)
        .parent()
        .map(PathBuf::from)
        .ok_or_else(|| format!("{PACKAGE} has no folder"))
}

/// The statements of a psql script.
fn split(script: &str) -> Vec<String> {
    let sql = without_psql(script);
    let statements = pg_query::split_with_scanner(&sql).unwrap_or_default();
    statements
        .into_iter()
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// A psql script without what only psql understands: lines with its commands, and the rows of `COPY … FROM stdin`.
fn without_psql(script: &str) -> String {
    let (mut sql, mut rows) = (String::with_capacity(script.len()), false);
    for line in script.lines() {
        if rows {
            rows = line != "\\.";
            continue;
        }
        if line.trim_start().starts_with('\\') {
            continue;
        }
        // `SELECT 1 \gset` ends with a command in place of a semicolon.
        let commands = [" \\g", " \\bind", " \\parse", " \\crosstabview", " \\;"];
        let ends = commands.iter().filter_map(|command| line.find(command)).min();
        let (kept, end) = match ends.and_then(|at| line.split_at_checked(at)) {
            Some((kept, _)) => (kept, ";\n"),
            None => (line, "\n"),
        };
        sql.push_str(kept);
        sql.push_str(end);
        let lower = line.to_ascii_lowercase();
        rows = lower.starts_with("copy ")
            && lower.contains("from stdin")
            && line.trim_end().ends_with(';');
    }
    sql
}

/// The names of functions, procedures and aggregates that the statements create.
#[must_use]
pub fn created_functions(statements: &[String]) -> HashSet<String> {
    let created = |statement: &String| {
        let mut words = statement.split(|letter: char| letter.is_whitespace() || letter == '(');
        let mut words = words.by_ref().filter(|word| !word.is_empty()).map(str::to_ascii_lowercase);
        if words.next()? != "create" {
            return None;
        }
        let kind = words.find(|word| !matches!(word.as_str(), "or" | "replace"))?;
        let name = words.next()?;
        let name = name.rsplit('.').next()?.trim_matches('"').to_owned();
        matches!(kind.as_str(), "function" | "procedure" | "aggregate").then_some(name)
    };
    statements.iter().filter_map(created).collect()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn what_only_psql_understands_is_left_out() {
        let script =
            "SELECT 1;\n\\d t\nCOPY t FROM stdin;\n1;2\n\\.\nSELECT ';', $$;$$ \\gset\nSELECT 2";
        assert_eq!(
            split(script),
            ["SELECT 1", "COPY t FROM stdin", "SELECT ';', $$;$$", "SELECT 2"]
        );
    }
}
