//! The unix socket beside TCP, where libpq looks for it.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::StartError;
use super::bind::Passed;

/// A unix socket; its file is removed when this is dropped.
#[derive(Debug)]
pub(super) struct UnixSocket {
    /// Taken when accepting begins.
    pub(super) listener: Option<UnixListener>,
    pub(super) path: PathBuf,
    /// Device and inode: who else has put a socket there since keeps it.
    file: Option<(u64, u64)>,
}

impl UnixSocket {
    /// Listens there, on the socket that `passed` has where it has one.
    pub(super) fn bind_with(
        folder: &Path,
        port: u16,
        passed: &mut dyn Passed,
    ) -> Result<Self, StartError> {
        let path = folder.join(format!(".s.PGSQL.{port}"));
        let failed = |source| StartError::Socket { path: path.clone(), source };
        if let Some(listener) = passed.unix(&path) {
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            let file = identity(&path);
            return Ok(Self { listener: Some(listener), path, file });
        }
        make_room(&path).map_err(failed)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        // As PostgreSQL's own: who may connect is a matter of passwords and of the folder's permissions.
        fs::set_permissions(&path, Permissions::from_mode(0o777)).map_err(failed)?;
        let file = identity(&path);
        Ok(Self { listener: Some(listener), path, file })
    }

    /// Its file is another's from now on.
    pub(super) fn leave_behind(&mut self) {
        self.file = None;
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            // Nothing can be done about one that stays; the next start removes it.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket that nobody listens on any more, as after a crash.
fn make_room(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) => metadata.file_type(),
    };
    if !kind.is_socket() {
        let problem = "something that is no socket is there: remove it or set another folder";
        return Err(io::Error::new(ErrorKind::AlreadyExists, problem));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => {
            let problem = "another program listens there: stop it or set another port";
            Err(io::Error::new(ErrorKind::AddrInUse, problem))
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::bind::NonePassed;
    use super::*;

    #[tokio::test]
    async fn the_socket_of_a_dead_process_is_replaced_and_ours_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        // Dropping a std listener leaves its file, as a crash does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let ours = UnixSocket::bind_with(folder.path(), 6432, &mut NonePassed).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(ours);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_live_process_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = UnixSocket::bind_with(folder.path(), 6432, &mut NonePassed).unwrap();
        let error =
            UnixSocket::bind_with(folder.path(), 6432, &mut NonePassed).unwrap_err().to_string();
        let path = folder.path().join(".s.PGSQL.6432");
        let expected = format!(
            "failed to listen on {}: another program listens there: stop it or set another port",
            path.display()
        );
        assert_eq!(error, expected);
        assert!(UnixStream::connect(&path).is_ok());
        drop(theirs);
    }

    struct One(Option<std::os::unix::net::UnixListener>);

    impl Passed for One {
        fn tcp(&mut self, _: std::net::SocketAddr) -> Option<std::net::TcpListener> {
            None
        }

        fn unix(&mut self, _: &Path) -> Option<std::os::unix::net::UnixListener> {
            self.0.take()
        }
    }

    #[tokio::test]
    async fn a_socket_that_is_handed_over_outlives_who_listened_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        let mut first = UnixSocket::bind_with(folder.path(), 6432, &mut NonePassed).unwrap();
        let listener = first.listener.as_ref().unwrap().as_fd().try_clone_to_owned().unwrap();
        let mut passed = One(Some(listener.into()));
        let second = UnixSocket::bind_with(folder.path(), 6432, &mut passed).unwrap();
        first.leave_behind();
        drop(first);
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists(), "who listens last takes the file along");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        fs::write(&path, "precious").unwrap();
        assert!(UnixSocket::bind_with(folder.path(), 6432, &mut NonePassed).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_another_process_has_put_there_since_stays() {
        let folder = tempfile::tempdir().unwrap();
        let ours = UnixSocket::bind_with(folder.path(), 6432, &mut NonePassed).unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        fs::remove_file(&path).unwrap();
        // Another inode for sure: the first is still held open by nobody, so take two.
        fs::write(folder.path().join("between"), "").unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }
}
