//! Connections that are nobody's: a stack per worker, so that a few stay warm and the rest can grow old.

use super::server::{Server, Servers, Use};

/// How many of the newest are looked at for one with the right settings.
const LOOKED_AT: usize = 4;

/// Idle connections of one pool.
#[derive(Debug, Default)]
pub(super) struct Idle {
    by_worker: Vec<Servers>,
    len: usize,
}

impl Idle {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The newest that `suits`, of `worker` first: one with these settings if there is one among the newest few.
    #[inline]
    pub(super) fn pop(
        &mut self,
        worker: usize,
        settings: u64,
        suits: impl Fn(&Server) -> bool,
    ) -> Option<Box<Server>> {
        if self.len == 0 {
            return None;
        }
        let workers = self.by_worker.len();
        let found = (0..workers).find_map(|step| {
            let stack = self.by_worker.get_mut((worker % workers + step) % workers)?;
            take(stack, settings, &suits)
        })?;
        self.len -= 1;
        found.identity.enter(Use::Taken);
        Some(found)
    }

    /// Puts one on top.
    #[inline]
    pub(super) fn push(&mut self, worker: usize, server: Box<Server>) {
        server.identity.enter(Use::Idle);
        if self.by_worker.len() <= worker {
            self.by_worker.resize_with(worker + 1, Vec::new);
        }
        if let Some(stack) = self.by_worker.get_mut(worker) {
            stack.push(server);
            self.len += 1;
        }
    }

    /// Takes out those that are not to be kept, the oldest first. They have to be dropped without the pool's lock.
    pub(super) fn sort_out(&mut self, mut keep: impl FnMut(&mut Server) -> bool) -> Servers {
        let mut out = Vec::new();
        for stack in &mut self.by_worker {
            out.extend(stack.extract_if(.., |server| !keep(server)));
        }
        self.len -= out.len();
        for server in &out {
            server.identity.enter(Use::Taken);
        }
        out
    }
}

#[inline]
fn take(
    stack: &mut Servers,
    settings: u64,
    suits: &impl Fn(&Server) -> bool,
) -> Option<Box<Server>> {
    let mut place = None;
    for (index, server) in stack.iter().enumerate().rev().take(LOOKED_AT) {
        if suits(server) {
            if server.settings.id == settings {
                place = Some(index);
                break;
            }
            place = place.or(Some(index));
        }
    }
    Some(stack.remove(place?))
}
