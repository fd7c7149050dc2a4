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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_a_missing_file_is_nothing_and_a_broken_one_is_told() {
        let folder =
            std::env::temp_dir().join(format!("herdsman-state-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("state.json");
        assert_eq!(load(&file), Ok(Memory::default()));
        save(&file, &Memory::default()).unwrap();
        assert_eq!(load(&file), Ok(Memory::default()));
        std::fs::write(&file, "{\"term\": 1").unwrap();
        assert!(load(&file).unwrap_err().contains("it is not a Herdsman state file"));
        assert!(load(&folder).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
