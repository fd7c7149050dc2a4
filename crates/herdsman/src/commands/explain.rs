//! `herdsman explain`: the page of a code.

use crate::cli::ExplainArgs;
use crate::codes::Code;
use crate::exit::{Exit, Failed};
use crate::output;

/// Prints the page, or what pages there are.
pub(crate) fn run(args: &ExplainArgs) -> Result<Exit, Failed> {
    match &args.code {
        Some(text) => {
            let code: Code = text.parse().map_err(|error| Exit::Usage.with(error))?;
            output::write(code.page());
        }
        None => {
            let lines: Vec<_> =
                Code::ALL.iter().map(|code| format!("{code}  {}", code.title())).collect();
            output::line(&lines.join("\n"));
        }
    }
    Ok(Exit::Success)
}
