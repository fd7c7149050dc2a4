//! Messages that wait for their hook, with a bound. Pure but for who is woken.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Where messages wait, the oldest first.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<VecDeque<T>>,
    most: usize,
    news: Notify,
}

impl<T> Queue<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), most, news: Notify::new() }
    }

    /// Puts one in. Where there is no room, the oldest goes: what is newest matters most. Says whether one went.
    pub(crate) fn put(&self, message: T) -> bool {
        let mut waiting = self.waiting();
        let full = waiting.len() >= self.most;
        if full {
            waiting.pop_front();
        }
        waiting.push_back(message);
        drop(waiting);
        self.news.notify_one();
        full
    }

    /// Waits for the oldest and takes it out. For one taker only.
    pub(crate) async fn take(&self) -> T {
        loop {
            if let Some(message) = self.waiting().pop_front() {
                return message;
            }
            self.news.notified().await;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_out_in_their_order_and_the_oldest_goes_where_there_is_no_room() {
        let queue = Queue::new(2);
        assert!(!queue.put(1));
        assert!(!queue.put(2));
        assert!(queue.put(3));
        assert_eq!((queue.len(), queue.take().await, queue.take().await), (2, 2, 3));
        let late = async {
            tokio::task::yield_now().await;
            queue.put(4);
        };
        assert_eq!(tokio::join!(queue.take(), late).0, 4);
    }
}
