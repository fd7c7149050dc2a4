//! What an administrator types. Any text is read or refused, and no command is made of what stands in comments or quotes.
#![no_main]

use herdsman_gateway::wire;
use libfuzzer_sys::fuzz_target;

#[path = "../../src/admin"]
mod admin {
    #[allow(dead_code, reason = "a part is enough")]
    mod command;

    use herdsman_gateway::Ending;

    /// What `SHOW server_version` says.
    const SERVER_VERSION: &str = "0";

    pub fn read(text: &str) {
        match command::parse(text) {
            Ok(commands) => {
                assert!(commands.len() <= text.matches(';').count() + 1);
                let again = command::parse(&format!(" {text}\n;")).expect("the same with blanks around it");
                assert_eq!(again, commands);
            }
            Err(problem) => assert!(problem.code == "42601" && problem.message.len() < 1000),
        }
        // Whatever is quoted is no command, and whatever is commented out is nothing.
        for quote in ['"', '\''] {
            assert!(command::parse(&quoted(text, quote)).is_err());
        }
        assert_eq!(command::parse(&format!("/*{}*/", text.replace(['*', '/'], ""))), Ok(Vec::new()));
    }

    fn quoted(text: &str, quote: char) -> String {
        format!("{quote}{}{quote}", text.replace(quote, &format!("{quote}{quote}")))
    }
}

fuzz_target!(|text: &str| {
    admin::read(text);
});
