//! What an operator does: fencing nodes and bringing them back, backups, trimming the log.

use std::path::Path;

use tokio::{sync::mpsc, time::Instant};

use super::{Condition, Ledger, Member, RequestError, request::random_request};
use crate::{
    ChainHash, Offset,
    entry::{Attempt, Entry},
    node::NodeError,
    snapshot::{self, Backup, NOBODY_TAKES, Part, SnapshotError},
};

/// How many parts of a snapshot wait to be taken, of about a megabyte each.
const PARTS_MOST: usize = 4;

impl Ledger {
    /// Takes a node out of service: it follows the log no further, and serves nobody, until it is joined again.
    ///
    /// # Errors
    /// The node is not there or cannot write it down, or the log does not take the entry that makes it look.
    pub async fn fence(&self, node: &str, why: &str) -> Result<(), RequestError> {
        let member = self.shared.member(node)?;
        member.node.fence(why).await.map_err(|error| about(node, &error))?;
        let attempt = Attempt { request: random_request(), number: 1 };
        let body = self.encode(&Entry::Barrier { attempt })?;
        let at = self.shared.log.append(body).await;
        at.map_err(|error| RequestError::NotTaken(error.to_string()))?;
        let mut status = member.status.subscribe();
        let fenced = status.wait_for(|it| matches!(it.condition, Condition::Fenced(_)));
        let late = |_| RequestError::Node(node.to_owned(), "it has not noticed in time".to_owned());
        tokio::time::timeout(self.shared.settings.deadline, fenced)
            .await
            .map_err(late)?
            .map(|_| ())
            .ok();
        Ok(())
    }

    /// Brings a fenced node, or one for which the log no longer has all, back: it lets go of what it holds, takes what
    /// `from` holds, of whatever make that is, and follows the log from there. Writes go on meanwhile, changes of tables
    /// wait. The place it follows from.
    ///
    /// # Errors
    /// The node follows the log, or waits for an entry to be skipped; the other one is not fit; or one of them fails.
    /// Then the node stays fenced, and may be joined again.
    pub async fn join(&self, node: &str, from: &str) -> Result<Offset, RequestError> {
        let _one = self.shared.upkeep.lock().await;
        let peer = self.healthy(from)?;
        let member = self.fenced(node)?;
        let (to, parts) = mpsc::channel(PARTS_MOST);
        let (given, at) = tokio::join!(peer.node.give(to), self.taken(member, parts));
        given_up(given).map_err(|error| about(from, &error))?;
        let at = at?;
        member.set(Condition::Starting);
        member.again.notify_one();
        Ok(at)
    }

    /// Writes all that a node holds into a file, while it goes on. What is in it is committed, and nothing else.
    ///
    /// # Errors
    /// The node is not fit, or the file cannot be written. What was at its place stays until the new one is whole.
    pub async fn backup(&self, node: &str, path: &Path) -> Result<Backup, RequestError> {
        let member = self.healthy(node)?;
        let (to, parts) = mpsc::channel(PARTS_MOST);
        let file = path.to_path_buf();
        let written = tokio::task::spawn_blocking(move || snapshot::write(&file, parts));
        let (given, written) = tokio::join!(member.node.give(to), written);
        given_up(given).map_err(|error| about(node, &error))?;
        let written = written.map_err(|error| of_file(path, error.to_string()))?;
        written.map_err(|error| of_file(path, error.reason))
    }

    /// Brings a fenced node back from a file of [`Ledger::backup`]: as [`Ledger::join`], where no other node is fit. The
    /// log must still have what came after the backup.
    ///
    /// # Errors
    /// The file is damaged or of another log, and nothing was done; or as of [`Ledger::join`].
    pub async fn restore(&self, node: &str, path: &Path) -> Result<Offset, RequestError> {
        let _one = self.shared.upkeep.lock().await;
        let member = self.fenced(node)?;
        let file = path.to_path_buf();
        let checked = tokio::task::spawn_blocking(move || snapshot::check(&file)).await;
        let backup = checked
            .map_err(|error| of_file(path, error.to_string()))?
            .map_err(|error| of_file(path, error.reason))?;
        if backup.log != self.shared.genesis.log {
            let why = format!("it is of log {}, not {}", backup.log, self.shared.genesis.log);
            return Err(of_file(path, why));
        }
        let (to, parts) = mpsc::channel(PARTS_MOST);
        let file = path.to_path_buf();
        let read = tokio::task::spawn_blocking(move || snapshot::read(&file, &to));
        let (read, at) = tokio::join!(read, self.taken(member, parts));
        let read = read.map_err(|error| of_file(path, error.to_string()))?;
        let at = at?;
        read.map_err(|SnapshotError { reason, .. }| of_file(path, reason))?;
        member.set(Condition::Starting);
        member.again.notify_one();
        Ok(at)
    }

    /// Has the log forget what no node needs: everything before the window of the node that is furthest behind, and of
    /// `backup`, the place of the oldest backup that is to be of use. Fenced nodes are not waited for; they are joined
    /// from others. The new beginning of the log.
    ///
    /// It is agreed upon: an [`Entry::Trim`] says so in the log, and nothing is forgotten before every node that follows
    /// has applied it. The genesis is repeated before it, so that the log still says what it is.
    ///
    /// # Errors
    /// A node is starting, or has not come to the entry in time; or the log cannot be asked.
    pub async fn trim(&self, backup: Option<Offset>) -> Result<Offset, RequestError> {
        let _one = self.shared.upkeep.lock().await;
        let mut lowest: Option<Offset> = None;
        let mut followers = Vec::new();
        for member in &self.shared.members {
            let status = member.status.borrow().clone();
            let node = member.node.name();
            match status.condition {
                Condition::Fenced(_) => continue,
                // Where it is may not be known yet.
                Condition::Starting | Condition::Troubled(_) => {
                    let why = "it does not follow the log, and needs what would be trimmed; wait for it, or fence it";
                    return Err(RequestError::Node(node.to_owned(), why.to_owned()));
                }
                Condition::Following => {
                    lowest = Some(lowest.map_or(status.applied, |it| it.min(status.applied)));
                    followers.push(node);
                }
            }
        }
        let Some(lowest) = lowest else {
            let why = "none of them follows the log, and what is trimmed could be the last of it";
            return Err(RequestError::Node("all".to_owned(), why.to_owned()));
        };
        let unavailable =
            |error: crate::log::Unavailable| RequestError::NotTaken(error.to_string());
        let start = self.shared.log.start().await.map_err(unavailable)?;
        let below = keeping(lowest, backup, self.shared.genesis.window);
        if below <= start {
            return Ok(start);
        }
        let mut at = Offset::GENESIS;
        for entry in [Entry::Genesis(self.shared.genesis), Entry::Trim { below }] {
            let body = self.encode(&entry)?;
            let done = self.shared.log.append(body).await;
            at = done.map_err(|error| RequestError::NotTaken(error.to_string()))?;
        }
        let deadline = Instant::now() + self.shared.settings.deadline;
        for node in followers {
            self.reached(node, at, deadline.saturating_duration_since(Instant::now())).await?;
        }
        self.shared.log.trim(below).await.map_err(unavailable)?;
        Ok(below)
    }

    async fn taken(
        &self,
        member: &Member,
        parts: mpsc::Receiver<Part>,
    ) -> Result<Offset, RequestError> {
        let first = ChainHash::default().after(Offset::GENESIS, &self.shared.genesis_entry);
        let taken = member.node.take(&self.shared.genesis, first, parts).await;
        taken.map_err(|error| about(member.node.name(), &error))
    }

    /// A node that may be made anew.
    fn fenced(&self, node: &str) -> Result<&Member, RequestError> {
        let member = self.shared.member(node)?;
        let status = member.status.borrow();
        let why = match &status.condition {
            Condition::Fenced(_) if status.waits_for_skip => {
                "it waits for an entry to be skipped, which it would meet again"
            }
            Condition::Fenced(_) => return Ok(member),
            _ => "it is not fenced; fence it first",
        };
        Err(RequestError::Node(node.to_owned(), why.to_owned()))
    }
}

/// The first entry to keep: certification and going on after a restart need the window before where a node is.
fn keeping(lowest: Offset, backup: Option<Offset>, window: u64) -> Offset {
    let lowest = backup.map_or(lowest, |backup| backup.min(lowest));
    Offset(lowest.0.saturating_sub(window))
}

/// What went wrong at the side that gives; that the other side has ended is for that one to explain.
fn given_up(given: Result<(), NodeError>) -> Result<(), NodeError> {
    match given {
        Err(NodeError::Environmental(why)) if why == NOBODY_TAKES => Ok(()),
        other => other,
    }
}

fn about(node: &str, error: &NodeError) -> RequestError {
    RequestError::Node(node.to_owned(), error.to_string())
}

fn of_file(path: &Path, reason: String) -> RequestError {
    RequestError::File { path: path.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_slowest_node_or_the_oldest_backup_needs_is_kept() {
        for (lowest, backup, window, kept) in [
            (100, None, 40, 60),
            (100, Some(70), 40, 30),
            (100, Some(170), 40, 60),
            (30, None, 40, 0),
            (100, Some(0), 40, 0),
        ] {
            assert_eq!(keeping(Offset(lowest), backup.map(Offset), window), Offset(kept));
        }
    }
}
