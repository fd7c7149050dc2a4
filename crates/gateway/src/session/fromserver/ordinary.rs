//! The answer that nearly every simple query has, all there at once: seen in one look, and passed on as it is.
//!
//! Code that ran long ago is fetched anew after each system call, so that what counts here is how little of it there is. All it
//! decides is what [`Session::receive`] would have; everything else is left to that.

use super::super::expect::{Expect, Of};
use super::super::{Outputs, Session};
use crate::wire::backend::{self, Status};
use crate::wire::{HEADER, header};

/// `ReadyForQuery` outside of a transaction.
const READY: [u8; 6] = [backend::READY, 0, 0, 0, 5, b'I'];

impl Session {
    /// Takes the whole answer to a simple query of the client's that leaves nothing behind, if that is what this is.
    #[inline]
    pub(super) fn receive_ordinary(&mut self, input: &[u8], out: &mut Outputs) -> bool {
        if !input.ends_with(&READY) || !self.expects_ordinary() || !is_ordinary(input) {
            return false;
        }
        out.to_client.extend_from_slice(input);
        self.expects.pop();
        self.queries += 1;
        self.shown = true;
        self.rolled_back = false;
        self.prefix = 0;
        self.ended();
        true
    }

    /// Whether the end of what is under way changes nothing but that.
    fn expects_ordinary(&self) -> bool {
        let odd = self.muted
            | self.copying
            | self.unsynced
            | self.skipping
            | self.unconfirmed
            | self.refused_commit
            | self.unsure
            | self.guarded
            | self.fresh;
        let within = self.pass | self.server_pass | self.server_discard | self.instead.len();
        !odd && within == 0
            && self.status == Status::Idle
            && self.expects.only() == Some(Expect::Query { of: Of::Client, effect: false })
            && self.added.is_empty()
    }
}

/// Rows, perhaps what they look like, and one end of a statement that took no transaction back.
fn is_ordinary(input: &[u8]) -> bool {
    let mut rest = input;
    while let Ok(Some(head)) = header(rest) {
        let Some(behind) = rest.get(head.len..) else { return false };
        match head.tag {
            backend::ROW_DESCRIPTION | backend::DATA_ROW => rest = behind,
            backend::COMPLETE => return behind == READY && rest.get(HEADER) != Some(&b'R'),
            _ => return false,
        }
    }
    false
}
