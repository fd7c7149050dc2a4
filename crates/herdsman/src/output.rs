//! The only place that prints: data to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

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
        write(&format!("\x1b[H\x1b[2J{text}\n"));
    } else {
        write(&format!("{text}\n\n"));
    }
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
