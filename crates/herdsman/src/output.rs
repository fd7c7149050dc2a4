//! The only place that prints: data to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Writes a text and ends the line.
///
/// A reader that has gone (`herdsman status | head -1`) has all it wanted: the program ends as a success.
pub(crate) fn line(text: &str) {
    write(&format!("{text}\n"));
}

/// Writes a text as it is.
pub(crate) fn write(text: &str) {
    bytes(text.as_bytes());
}

/// Writes bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        if !gone {
            note(&format!("failed to write to standard output: {error}"));
        }
        let exit = if gone { crate::exit::Exit::Success } else { crate::exit::Exit::Failure };
        std::process::exit(i32::from(exit.code()));
    }
}

/// Says something beside the data.
pub(crate) fn note(text: &str) {
    // Where standard error is closed as well, there is nobody left to tell.
    let _nobody_reads = writeln!(io::stderr().lock(), "{text}");
}

/// Says something to a person, and nothing to a script that compares what it is told.
pub(crate) fn hint(text: &str) {
    to_terminal(&format!("{text}\n"));
}

/// Shows `text` in place of what was shown before: on a terminal over it, elsewhere below it.
pub(crate) fn refresh(text: &str) {
    if io::stdout().is_terminal() {
        write(&painted(text, crate::show::height()));
    } else {
        write(&format!("{text}\n\n"));
    }
}

/// Whether standard output is a terminal, which can be painted over.
pub(crate) fn is_painted() -> bool {
    io::stdout().is_terminal()
}

/// Whether nobody will read what is printed: the other end of the pipe is closed.
pub(crate) fn reader_has_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let asked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    asked.is_ok() && fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

/// A text over what the terminal shows, without a moment in which it shows nothing: each line ends what was there, and
/// the last one ends all that was below. What is longer than the terminal is cut, or it would scroll.
fn painted(text: &str, height: Option<usize>) -> String {
    let most = height.map_or(usize::MAX, |height| height.saturating_sub(1).max(1));
    let count = text.lines().count();
    let shown = if count > most { most.saturating_sub(1) } else { count };
    let mut painted = String::from("\x1b[H");
    for line in text.lines().take(shown) {
        painted.push_str(line);
        painted.push_str("\x1b[K\n");
    }
    if shown < count {
        painted.push_str(&format!("… {} more lines\x1b[K\n", count - shown));
    }
    painted.push_str("\x1b[J");
    painted
}

/// Shows how far something is, over what was shown before; only where standard error is a terminal.
pub(crate) fn progress(text: &str) {
    to_terminal(&format!("\r\x1b[2K{text}"));
}

/// Leaves the last progress where it is.
pub(crate) fn end_progress() {
    to_terminal("\n");
}

fn to_terminal(text: &str) {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        let _nobody_reads = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_painted_text_ends_what_was_there_and_never_scrolls() {
        assert_eq!(painted("a\n\nb", Some(24)), "\x1b[Ha\x1b[K\n\x1b[K\nb\x1b[K\n\x1b[J");
        let cut = painted("1\n2\n3\n4\n5", Some(4));
        assert_eq!(cut, "\x1b[H1\x1b[K\n2\x1b[K\n… 3 more lines\x1b[K\n\x1b[J");
        assert_eq!(painted("1\n2\n3", Some(4)).matches('\n').count(), 3);
        assert_eq!(painted("1\n2\n3", None).matches('\n').count(), 3);
    }
}
