//! The state file: what must not be forgotten over a restart.

use std::path::Path;

use crate::judge::Memory;

/// Reads the file; nothing where there is none yet.
pub(crate) fn load(path: &Path) -> Result<Memory, String> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| format!("it is not a Herdsman state file: {e}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Memory::default()),
        Err(error) => Err(error.to_string()),
    }
}

/// Replaces the file in one step, so that a crash leaves the old one or the new one.
pub(crate) fn save(path: &Path, memory: &Memory) -> std::io::Result<()> {
    let next = path.with_extension("new");
    let file = std::fs::File::create(&next)?;
    serde_json::to_writer_pretty(&file, memory)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}
