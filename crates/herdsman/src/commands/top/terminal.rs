//! The terminal: taken for a picture, and always given back as it was.

use std::io::{self, IsTerminal, Stdout, Write};

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui_core::terminal::{Frame, Terminal};
use ratatui_crossterm::CrosstermBackend;

use crate::exit::{Exit, Failed};

/// A terminal that shows a picture. It is as it was once this is dropped, and before a panic is told of.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn take() -> Result<Self, Failed> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(Exit::Usage.with(
                "`herdsman top` needs a terminal; without one, `herdsman status --watch` prints a line for each change",
            ));
        }
        let lost =
            |error: io::Error| Exit::Failure.with(format!("the terminal cannot be used: {error}"));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            hook(panic);
        }));
        enable_raw_mode().map_err(lost)?;
        // Not ratatui's own clearing, which asks the terminal where its cursor is and waits for the answer.
        let begun = execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All), Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        begun.map(Self).map_err(|error| {
            give_back();
            lost(error)
        })
    }

    /// Shows the picture that `draw` makes.
    ///
    /// # Errors
    /// The terminal has gone.
    pub(super) fn show(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that has gone has nothing to be given back.
    let mut stdout = io::stdout();
    let _gone = execute!(stdout, LeaveAlternateScreen, Show);
    let _gone = disable_raw_mode();
    let _gone = stdout.flush();
}
