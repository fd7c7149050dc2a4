//! Connecting before the first statement, to see what is wrong early.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::ReplicaSet;
use crate::Error;
use crate::error::ConnectErrors;
use crate::health::Health;
use crate::member::Member;
use crate::policy::Want;

impl ReplicaSet {
    /// Connects to the writer, so that a wrong address or password shows now rather than at the first statement.
    ///
    /// # Errors
    /// [`Error`] when there is no writer, or it cannot be connected to. Where roles are discovered, one is waited for.
    pub async fn connect_writer(&self) -> Result<(), Error> {
        let mut attempt = self.attempt(Want::Write);
        if !self.inner.roles.is_empty() {
            attempt.patience = Duration::ZERO;
        }
        self.lease(&mut attempt).await.map(crate::lease::Lease::done)
    }

    /// Connects to every node that is to be read: those given as readers, or all but the primary.
    ///
    /// # Errors
    /// [`ConnectErrors`] with each node that could not be connected to; the others are connected.
    pub async fn connect_readers(&self) -> Result<(), ConnectErrors> {
        let inner = &self.inner;
        let plan = inner.plan.load_full();
        let given = |index| inner.roles.get(index).map(|&(_, reader)| reader);
        let wanted =
            (0..inner.members.len()).filter(|&index| given(index).unwrap_or(!plan.writes(index)));
        let each = wanted.filter_map(|index| inner.member(index)).map(|member| async move {
            self.connect_to(member).await.err().map(|error| (member.name.clone(), error))
        });
        let errors: Vec<_> = join_all(each).await.into_iter().flatten().collect();
        if errors.is_empty() { Ok(()) } else { Err(ConnectErrors(errors)) }
    }

    async fn connect_to(&self, member: &Arc<Member>) -> Result<(), Error> {
        self.inner.start()?;
        let lost = |source| Error::Lost { node: member.name.clone(), source: Box::new(source) };
        let seen = member.pulse.seen();
        if let (Health::Offline { .. }, Some(error)) = (seen.health, seen.error) {
            return Err(lost(sqlx::Error::Io(std::io::Error::other(error))));
        }
        match member.lease().await {
            Ok(lease) => {
                lease.done();
                Ok(())
            }
            Err(_) if self.is_closed() => Err(Error::Closed),
            Err(error) => Err(lost(match member.pulse.seen().error {
                // What the pulse met says more than that the node is gone.
                Some(seen) => sqlx::Error::Io(std::io::Error::other(seen)),
                None => error,
            })),
        }
    }
}
