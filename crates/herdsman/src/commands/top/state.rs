//! Which page is shown, and what keys do. Pure.

use std::time::Duration;

use super::data::{Data, News};

/// The pages, in their order.
pub(super) const PAGES: [(Page, &str); 7] = [
    (Page::Herd, "Herd"),
    (Page::Events, "Events"),
    (Page::Gateway, "Gateway"),
    (Page::Stream, "Stream"),
    (Page::Mesh, "Mesh"),
    (Page::Ledger, "Ledger"),
    (Page::Hooks, "Hooks"),
];

/// What the middle of the screen shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Page {
    #[default]
    Herd,
    Events,
    Gateway,
    Stream,
    Mesh,
    Ledger,
    Hooks,
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Letter(char),
    Next,
    Previous,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Escape,
}

/// Everything the picture is made of.
#[derive(Debug)]
pub(super) struct State {
    /// Whom we ask.
    pub(super) url: String,
    pub(super) page: Page,
    /// The line that is chosen, or the first one that is shown.
    pub(super) line: usize,
    pub(super) help: bool,
    /// How long we have been at it.
    pub(super) now: Duration,
    live: Data,
    held: Option<Data>,
}

/// Lines that a page key moves by.
const LEAP: usize = 10;

impl State {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            page: Page::Herd,
            line: 0,
            help: false,
            now: Duration::ZERO,
            live: Data::default(),
            held: None,
        }
    }

    /// What is to be shown.
    pub(super) fn data(&self) -> &Data {
        self.held.as_ref().unwrap_or(&self.live)
    }

    /// Whether the picture is held.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Takes in what was told, also while the picture is held.
    pub(super) fn take(&mut self, news: News, now: Duration) {
        self.live.take(news, now);
    }

    /// Does what a key asks for; false where that is to end.
    pub(super) fn press(&mut self, key: Key) -> bool {
        if self.help {
            // Whatever is pressed, the page below comes back.
            self.help = false;
            return key != Key::Letter('q');
        }
        match key {
            Key::Letter('q') => return false,
            Key::Letter('?' | 'h') => self.help = true,
            Key::Letter('p' | ' ') => {
                self.held = if self.held.is_some() { None } else { Some(self.live.clone()) };
            }
            Key::Letter(digit) => {
                let number = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
                if let Some(place) = number.and_then(|number| number.checked_sub(1)) {
                    self.turn_to(place);
                }
            }
            Key::Next => self.turn_to((self.place() + 1) % PAGES.len()),
            Key::Previous => self.turn_to((self.place() + PAGES.len() - 1) % PAGES.len()),
            Key::Up => self.line = self.line.saturating_sub(1),
            Key::Down => self.line += 1,
            Key::PageUp => self.line = self.line.saturating_sub(LEAP),
            Key::PageDown => self.line += LEAP,
            Key::Home => self.line = 0,
            Key::End => self.line = usize::MAX,
            Key::Escape => {}
        }
        self.line = self.line.min(self.lines().saturating_sub(1));
        true
    }

    /// Lines that the page can be moved along.
    fn lines(&self) -> usize {
        let data = self.data();
        let samples = |name| data.samples().map_or(0, |samples| samples.all(name).len());
        match self.page {
            Page::Herd => data.topology.as_ref().map_or(0, |topology| topology.nodes.len()),
            Page::Events => data.events.len(),
            Page::Gateway => samples(super::picture::POOLS),
            Page::Stream => samples(super::picture::SINKS),
            Page::Mesh => samples(super::picture::LINKS),
            Page::Ledger => samples(super::picture::FOLLOWERS),
            Page::Hooks => samples(super::picture::HOOKS),
        }
    }

    fn place(&self) -> usize {
        PAGES.iter().position(|(page, _)| *page == self.page).unwrap_or_default()
    }

    fn turn_to(&mut self, place: usize) {
        if let Some((page, _)) = PAGES.get(place) {
            (self.page, self.line) = (*page, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::follow::Sent;

    fn event(number: u32) -> News {
        let data = format!(r#"{{"at":"","event":"node_up","node":"n{number}"}}"#);
        News::Event(Sent { data, ..Sent::default() })
    }

    fn state() -> State {
        let mut state = State::new("http://x".to_owned());
        (0..30).for_each(|number| state.take(event(number), Duration::ZERO));
        state
    }

    #[test]
    fn keys_turn_pages_and_move_along_lines_that_are_there() {
        let mut state = state();
        let mut after = |key| {
            assert!(state.press(key));
            (state.page, state.line)
        };
        assert_eq!(after(Key::Next), (Page::Events, 0));
        assert_eq!(after(Key::Up), (Page::Events, 0));
        assert_eq!(after(Key::Down), (Page::Events, 1));
        assert_eq!(after(Key::PageDown), (Page::Events, 11));
        assert_eq!(after(Key::End), (Page::Events, 29));
        assert_eq!(after(Key::Down), (Page::Events, 29));
        assert_eq!(after(Key::PageUp), (Page::Events, 19));
        assert_eq!(after(Key::Home), (Page::Events, 0));
        assert_eq!(after(Key::Previous), (Page::Herd, 0));
        assert_eq!(after(Key::Previous), (Page::Hooks, 0));
        assert_eq!(after(Key::Next), (Page::Herd, 0));
        assert_eq!(after(Key::Letter('3')), (Page::Gateway, 0));
        assert_eq!(after(Key::Letter('9')), (Page::Gateway, 0));
        assert_eq!(after(Key::Letter('0')), (Page::Gateway, 0));
        assert!(!state.press(Key::Letter('q')));
    }

    #[test]
    fn a_held_picture_stays_and_nothing_is_lost_meanwhile() {
        let mut state = state();
        state.press(Key::Letter('p'));
        state.take(event(30), Duration::ZERO);
        assert_eq!((state.is_held(), state.data().events.len()), (true, 30));
        state.press(Key::Letter('p'));
        assert_eq!((state.is_held(), state.data().events.len()), (false, 31));
    }

    #[test]
    fn any_key_leaves_the_help_and_q_leaves_the_program() {
        let mut state = state();
        state.press(Key::Letter('?'));
        assert!(state.help);
        assert!(state.press(Key::Letter('4')));
        assert_eq!((state.help, state.page), (false, Page::Herd));
        state.press(Key::Letter('?'));
        assert!(!state.press(Key::Letter('q')));
    }
}
