//! `herdsman stream init`: files to begin with. Looks at no server and touches no slot.

use std::path::PathBuf;

use clap::Args;
use herdsman_stream::init::{self, Library, Outcome};

use crate::exit::{Exit, Failed};
use crate::output;

/// `herdsman stream init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Folder to write into
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Take the library from this working copy of Herdsman instead of its repository
    #[arg(long, value_name = "COPY")]
    path: Option<PathBuf>,
}

/// Writes what is missing and says so of each file.
pub(super) fn run(args: &InitArgs) -> Result<Exit, Failed> {
    let library = match &args.path {
        None => Library::Git,
        Some(path) => Library::Path(working_copy(path)?),
    };
    let outcomes = init::write(&args.dir, &library).map_err(|(path, error)| {
        Exit::Failure.with(format!("failed to write `{}`: {error}", path.display()))
    })?;
    for (name, outcome) in outcomes {
        let path = args.dir.join(name);
        let path = path.strip_prefix(".").unwrap_or(&path).display().to_string();
        output::line(&match outcome {
            Outcome::Added => format!("ADDING {path}"),
            Outcome::Skipped => format!("SKIPPING {path} (it is there already)"),
        });
    }
    Ok(Exit::Success)
}

fn working_copy(path: &std::path::Path) -> Result<PathBuf, Failed> {
    let found = path.canonicalize().ok().filter(|path| path.join("crates/stream").is_dir());
    found.ok_or_else(|| {
        Exit::Usage.with(format!(
            "`{}` is no working copy of Herdsman, expected a folder with crates/stream in it",
            path.display()
        ))
    })
}
