//! The mesh a command is about.

use std::path::Path;
use std::sync::Arc;

use herdsman_mesh::{MeshError, Setup};

use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};

/// The configuration, and what of it the mesh works from.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) setup: Arc<Setup>,
}

impl Target {
    /// Reads the configuration, which must have a mesh.
    pub(super) fn find(file: Option<&Path>) -> Result<Self, Failed> {
        let config = Config::load(file, Depth::Full)?;
        if config.mesh.nodes.is_empty() {
            let problem = format!(
                "{} has no section `mesh`; list the nodes that are to take writes under `mesh.nodes`",
                config.path.display()
            );
            return Err(Exit::Config.with(problem));
        }
        let setup = Arc::new(config.mesh.setup(&config.nodes));
        Ok(Self { config, setup })
    }
}

/// How a command ends that the members did not let succeed.
pub(super) fn failed(error: &MeshError) -> Failed {
    Exit::Failure.with(error)
}
