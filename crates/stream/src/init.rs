//! What `herdsman stream init` writes: a commented configuration, and a program with handlers that compiles.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the program gets the library from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Library {
    /// The public repository.
    Git,
    /// A working copy: the folder that holds `crates`.
    Path(PathBuf),
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there, and is now.
    Added,
    /// It was there, and is as it was.
    Skipped,
}

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The files, in the order in which a reader should look at them.
const FILES: [(&str, &str); 4] = [
    ("herdsman.yml", include_str!("../templates/herdsman.yml")),
    ("Cargo.toml", include_str!("../templates/Cargo.toml")),
    ("src/main.rs", include_str!("../templates/main.rs")),
    (".gitignore", include_str!("../templates/gitignore")),
];

/// Writes the files that are not there yet into `folder`, which is made where it is missing. Looks at no server.
///
/// # Errors
/// The first file that could not be written, and why; those before it are there.
pub fn write(
    folder: &Path,
    library: &Library,
) -> Result<Vec<(&'static str, Outcome)>, (PathBuf, io::Error)> {
    let mut outcomes = Vec::new();
    for (name, template) in FILES {
        let path = folder.join(name);
        let text = filled_in(template, library);
        let outcome = add(&path, &text).map_err(|error| (path, error))?;
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

fn add(path: &Path, text: &str) -> io::Result<Outcome> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // The system itself refuses where there is one: nothing can come between a look and the writing.
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| Outcome::Added),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Outcome::Skipped),
        Err(error) => Err(error),
    }
}

fn filled_in(template: &str, library: &Library) -> String {
    let from = match library {
        Library::Git => format!("{{ git = \"{REPOSITORY}\" }}"),
        Library::Path(root) => {
            let path = root.join("crates/stream").display().to_string();
            // JSON and TOML quote a backslash and a quote the same way.
            format!("{{ path = {} }}", serde_json::Value::from(path))
        }
    };
    template.replace("@stream@", &from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("a/project");
        let first = write(&project, &Library::Git).unwrap();
        assert!(first.iter().all(|(_, outcome)| *outcome == Outcome::Added), "{first:?}");
        fs::write(project.join("herdsman.yml"), "mine").unwrap();
        fs::remove_file(project.join("Cargo.toml")).unwrap();
        let again = write(&project, &Library::Path("/a \"copy\"".into())).unwrap();
        assert_eq!(
            again[..3],
            [
                ("herdsman.yml", Outcome::Skipped),
                ("Cargo.toml", Outcome::Added),
                ("src/main.rs", Outcome::Skipped),
            ]
        );
        assert_eq!(fs::read_to_string(project.join("herdsman.yml")).unwrap(), "mine");
        let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
        let expected = r#"herdsman-stream = { path = "/a \"copy\"/crates/stream" }"#;
        assert!(manifest.contains(expected), "{manifest}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let (path, _) = write(&file, &Library::Git).unwrap_err();
        assert_eq!(path, file.join("herdsman.yml"));
    }
}
