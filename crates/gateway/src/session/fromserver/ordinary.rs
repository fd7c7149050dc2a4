//! The answer that nearly every simple query and every batch of extended messages has, all there at once: seen in one look, and
//! passed on as it is.
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
    /// Takes the whole answer to all that is under way, if that leaves nothing behind and is for the client as it is.
    #[inline]
    pub(super) fn receive_ordinary(&mut self, input: &[u8], out: &mut Outputs) -> bool {
        let Some(before) = input.strip_suffix(&READY).filter(|_| self.expects_ordinary()) else {
            return false;
        };
        let Some(ended) = self.ordinary(before) else { return false };
        out.to_client.extend_from_slice(input);
        self.expects.clear();
        self.queries += ended;
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
        !odd && within == 0 && self.status == Status::Idle && self.added.is_empty()
    }

    /// How many statements end in `input`, if it is all that is expected before the last `ReadyForQuery`: rows, perhaps what
    /// they look like, ends of statements that took no transaction back, and what confirms each other message of the client's.
    #[inline]
    fn ordinary(&self, input: &[u8]) -> Option<u64> {
        let mut expects = self.expects.iter();
        let mut expected = expects.next()?;
        let (mut rest, mut ended) = (input, 0);
        while let Some(head) = header(rest).ok()? {
            let answered = match (head.tag, expected) {
                (
                    backend::DATA_ROW,
                    Expect::Query { of: Of::Client, effect: false }
                    | Expect::Execute { shown: true, effect: false },
                )
                | (backend::ROW_DESCRIPTION, Expect::Query { of: Of::Client, effect: false })
                | (backend::PARAMETER_DESCRIPTION, Expect::Describe) => false,
                (
                    backend::COMPLETE,
                    Expect::Query { of: Of::Client, effect: false }
                    | Expect::Execute { shown: true, effect: false },
                ) if rest.get(HEADER) != Some(&b'R') => {
                    ended += 1;
                    matches!(expected, Expect::Execute { .. })
                }
                (backend::PARSE_COMPLETE, Expect::Parse { shown: true, .. })
                | (backend::BIND_COMPLETE, Expect::Bind { shown: true })
                | (backend::ROW_DESCRIPTION | backend::NO_DATA, Expect::Describe)
                | (backend::CLOSE_COMPLETE, Expect::Close { shown: true, .. }) => true,
                _ => return None,
            };
            if answered {
                expected = expects.next()?;
            }
            rest = rest.get(head.len..)?;
        }
        // The last one is what `ReadyForQuery` answers.
        let last = match expected {
            Expect::Sync { shown } => *shown,
            Expect::Query { of: Of::Client, effect: false } => ended > 0,
            _ => false,
        };
        (last && rest.is_empty() && expects.next().is_none()).then_some(ended)
    }
}
