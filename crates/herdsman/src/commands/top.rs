//! `herdsman top`: the herd, live, in a terminal.

use std::io;

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Duration, Instant};

use self::feed::Feed;
use self::picture::Paint;
use self::state::{Key, State};
use self::terminal::Screen;
use super::ask;
use crate::cli::{AskArgs, Global, TopArgs};
use crate::exit::{Exit, Failed};

mod data;
mod feed;
mod picture;
mod samples;
mod state;
mod terminal;

/// How often the picture is made anew where nothing is told: it says how long somebody has been away.
const BEAT: Duration = Duration::from_secs(1);

/// Shows it until it is told to end.
pub(crate) async fn run(args: &TopArgs, global: &Global) -> Result<Exit, Failed> {
    let TopArgs { url, cacert, cert, key, interval: _ } = args.clone();
    let whom = AskArgs { url, cacert, cert, key, direct: false };
    let endpoint = ask::endpoint(&whom, global)?;
    let mut screen = Screen::take()?;
    let mut feed = Feed::start(&endpoint, args.interval);
    let mut state = State::new(endpoint.url());
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let shown = keep_showing(&mut screen, &mut feed, &mut state, Paint { colours: !no_color });
    let outcome = Box::pin(shown).await;
    // Before anything is said about it.
    drop(screen);
    outcome.map_err(|error| Exit::Failure.with(format!("the terminal is lost: {error}")))?;
    Ok(Exit::Success)
}

async fn keep_showing(
    screen: &mut Screen,
    feed: &mut Feed,
    state: &mut State,
    paint: Paint,
) -> io::Result<()> {
    let begun = Instant::now();
    let mut keys = EventStream::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut beat = tokio::time::interval(BEAT);
    loop {
        state.now = begun.elapsed();
        screen.show(|frame| picture::draw(frame, state, paint))?;
        tokio::select! {
            Some(news) = feed.news.recv() => {
                state.take(news, begun.elapsed());
                // What has come meanwhile needs no picture of its own.
                while let Ok(news) = feed.news.try_recv() {
                    state.take(news, begun.elapsed());
                }
            }
            event = keys.next() => match event {
                Some(Ok(event)) if !pressed(state, &event) => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            _ = beat.tick() => {}
        }
    }
}

/// Does what was pressed; false where that is to end.
fn pressed(state: &mut State, event: &Event) -> bool {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            let ends = key.modifiers.contains(KeyModifiers::CONTROL)
                && matches!(key.code, KeyCode::Char('c' | 'd'));
            !ends && meaning(*key).is_none_or(|key| state.press(key))
        }
        // A terminal of another size gets another picture in any case.
        _ => true,
    }
}

fn meaning(key: KeyEvent) -> Option<Key> {
    Some(match key.code {
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::Tab | KeyCode::Right => Key::Next,
        KeyCode::BackTab | KeyCode::Left => Key::Previous,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Esc => Key::Escape,
        _ => return None,
    })
}
