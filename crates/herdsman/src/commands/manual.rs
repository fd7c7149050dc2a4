//! `herdsman manual`: pages made from the same text as `--help`.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::{Cli, ManualArgs};
use crate::codes::Code;
use crate::exit::{Exit, Failed, MANUAL};
use crate::{config, logs, output};

/// Prints the main page, or writes all of them.
pub(crate) fn run(args: &ManualArgs) -> Result<Exit, Failed> {
    // The pages have their own word for each command; clap's `help` command is not one of ours.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.dir else {
        let page = page(&command, true).map_err(|error| Exit::Internal.with(error))?;
        output::bytes(&page);
        return Ok(Exit::Success);
    };
    fs::create_dir_all(dir).and_then(|()| write_all(&command, dir, true)).map_err(|error| {
        Exit::Failure.with(format!("the manual cannot be written to `{}`: {error}", dir.display()))
    })?;
    Ok(Exit::Success)
}

fn write_all(command: &clap::Command, dir: &Path, main: bool) -> io::Result<()> {
    // What is for ourselves has no examples.
    for subcommand in command.get_subcommands().filter(|command| command.get_after_help().is_some())
    {
        write_all(subcommand, dir, false)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(dir.join(format!("{name}.1")), page(command, main)?)
}

fn page(command: &clap::Command, main: bool) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .source(concat!("herdsman ", env!("CARGO_PKG_VERSION")))
        .manual("Herdsman");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        as_written(&text.to_string()).to_writer(&mut page)?;
    }
    if main {
        closing_sections().to_writer(&mut page)?;
    }
    Ok(page)
}

/// The end of a help text: examples, whose lines must not be joined, and notes.
fn as_written(text: &str) -> Roff {
    let mut roff = Roff::new();
    let (title, text) = match text.strip_prefix("Examples:\n") {
        Some(examples) => ("EXAMPLES", examples),
        None => ("NOTES", text),
    };
    roff.control("SH", [title]);
    roff.control("nf", []);
    roff.text([roman(text)]);
    roff.control("fi", []);
    roff
}

/// What the main page tells besides the options.
fn closing_sections() -> Roff {
    let mut roff = Roff::new();
    let mut section = |title: &str, entries: &[(String, String)]| {
        roff.control("SH", [title]);
        for (term, text) in entries {
            roff.control("TP", []);
            roff.text([bold(term.as_str())]);
            roff.text([roman(text.as_str())]);
        }
    };
    let codes: Vec<_> = MANUAL
        .iter()
        .map(|(exit, text)| {
            let page = Code::of_exit(*exit).map(|code| format!(" More: herdsman explain {code}."));
            (exit.code().to_string(), format!("{text}{}", page.unwrap_or_default()))
        })
        .collect();
    section("EXIT STATUS", &codes);
    let files: Vec<_> = config::SEARCHED
        .iter()
        .map(|file| {
            ((*file).to_owned(), "Configuration; the first that exists is read.".to_owned())
        })
        .collect();
    section("FILES", &files);
    let [first, second] = config::VARIABLES;
    let [log, rust_log] = logs::VARIABLES;
    let variables = [
        (first, "The configuration file, where none is named on the command line."),
        (second, "The same, as pgroute66 called it."),
        (
            log,
            "What is logged, such as debug or herdsman_watch=trace; replaces loglevel and --debug.",
        ),
        (rust_log, "The same, where HERDSMAN_LOG is not set."),
        ("NO_COLOR", "Set: no colours in the log."),
        (
            "PGHOST, PGPORT, PGUSER, PGPASSWORD, …",
            "As for psql, for what a host in the configuration leaves out.",
        ),
        (
            "KOYO_REPL_SLOT, KOYO_REPL_TEST_MODE, …",
            "As for koyo-postgres-replication, for what the section stream leaves out.",
        ),
    ];
    section("ENVIRONMENT", &variables.map(|(name, text)| (name.to_owned(), text.to_owned())));
    roff
}
