//! Buffers, which idle clients have none of: each thread keeps a few and lends them out.

use std::cell::RefCell;

use crate::session::Outputs;

/// What a buffer begins with, and is cut back to.
const SIZE: usize = 16 << 10;
/// How many sets of buffers a thread keeps.
const KEPT: usize = 64;

thread_local! {
    #[expect(clippy::vec_box, reason = "a set of buffers is lent out as the box it is kept in")]
    static SHELF: RefCell<Vec<Box<Work>>> = const { RefCell::new(Vec::new()) };
}

/// The buffers of a client that is not idle.
#[derive(Debug)]
pub(super) struct Work {
    /// What the client has said and nobody has taken.
    pub(super) input: Buffer,
    /// What was taken of it for a read that may have to be sent again.
    pub(super) kept: Vec<u8>,
    pub(super) out: Outputs,
    /// How much of `out.to_client` has been sent.
    pub(super) client_sent: usize,
    /// How much of `out.to_server` has been sent.
    pub(super) server_sent: usize,
    /// Something has been sent of what is not all sent.
    pub(super) server_begun: bool,
    /// Nothing was unanswered before what is to be sent now.
    pub(super) alone: bool,
}

impl Work {
    pub(super) fn borrow() -> Box<Self> {
        let kept =
            SHELF.with(|shelf| shelf.try_borrow_mut().ok().and_then(|mut shelf| shelf.pop()));
        kept.unwrap_or_else(|| {
            Box::new(Self {
                input: Buffer { bytes: vec![0; SIZE], start: 0, end: 0 },
                kept: Vec::new(),
                out: Outputs::default(),
                client_sent: 0,
                server_sent: 0,
                server_begun: false,
                alone: false,
            })
        })
    }

    /// Whether there is nothing in them.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty()
            && self.kept.is_empty()
            && self.out.to_client.is_empty()
            && self.out.to_server.is_empty()
    }

    /// Whether nothing of it waits to be looked at or sent.
    pub(super) fn is_settled(&self) -> bool {
        self.input.is_empty() && self.out.to_client.is_empty() && self.out.to_server.is_empty()
    }

    pub(super) fn give_back(mut self: Box<Self>) {
        self.input.clear();
        self.kept.clear();
        self.out.to_client.clear();
        self.out.to_server.clear();
        self.client_sent = 0;
        self.server_sent = 0;
        self.server_begun = false;
        for vec in [&mut self.kept, &mut self.out.to_client, &mut self.out.to_server] {
            if vec.capacity() > 4 * SIZE {
                *vec = Vec::new();
            }
        }
        SHELF.with(|shelf| {
            if let Ok(mut shelf) = shelf.try_borrow_mut()
                && shelf.len() < KEPT
            {
                shelf.push(self);
            }
        });
    }

    /// What was taken and kept comes again, before the rest.
    pub(super) fn input_again(&mut self) {
        let mut again = std::mem::take(&mut self.kept);
        again.extend_from_slice(self.input.bytes());
        self.input.clear();
        self.input.put(&again);
    }
}

/// Bytes that were received.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        if self.bytes.len() > 4 * SIZE {
            self.bytes.truncate(SIZE);
            self.bytes.shrink_to_fit();
        }
    }

    /// `count` bytes have been taken.
    pub(super) fn take(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room for more, which is made where there is little.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.end < SIZE / 4 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.bytes.len() - self.end < SIZE / 2 {
                self.bytes.resize(self.bytes.len() * 2, 0);
            }
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes have been put into the room.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let count = room.len().min(bytes.len());
            let (now, later) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            if let Some(room) = room.get_mut(..count) {
                room.copy_from_slice(now);
            }
            self.filled(count);
            bytes = later;
        }
    }
}
