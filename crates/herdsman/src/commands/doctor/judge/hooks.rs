//! What hooks need: commands, files, consoles.

use herdsman_hooks::{Obstacle, What};

use crate::codes::Code;
use crate::commands::doctor::evidence::Evidence;
use crate::commands::doctor::finding::Finding;

pub(super) fn findings(evidence: &Evidence) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, obstacles) in &evidence.hooks {
        let subject = format!("hook {name}");
        if obstacles.is_empty() {
            let says = "what it needs is there";
            found.push(Finding::ok(Code::HookCommand, &subject, says));
        }
        found.extend(obstacles.iter().map(|obstacle| {
            let Obstacle { what, problem, fix } = obstacle;
            Finding::error(code(*what), &subject, problem, fix)
        }));
    }
    found
}

const fn code(what: What) -> Code {
    match what {
        What::Command => Code::HookCommand,
        What::File => Code::HookFile,
        What::Console => Code::HookConsole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Severity;
    use crate::commands::doctor::judge::tests::says;

    #[test]
    fn each_thing_in_the_way_is_named_under_its_code() {
        let obstacle = |what, problem: &str| Obstacle {
            what,
            problem: problem.to_owned(),
            fix: "mend it".to_owned(),
        };
        let hooks = vec![
            ("fine".to_owned(), vec![]),
            ("pager".to_owned(), vec![obstacle(What::Command, "there is no `page`")]),
            ("names".to_owned(), vec![obstacle(What::File, "it cannot be written to")]),
            ("balancer".to_owned(), vec![obstacle(What::Console, "nobody answers")]),
        ];
        let found = findings(&Evidence { hooks, ..Evidence::default() });
        says(&found, "hook fine", Severity::Ok, Code::HookCommand, &["is there"]);
        let error = Severity::Error;
        says(&found, "hook pager", error, Code::HookCommand, &["no `page`", "mend it"]);
        says(&found, "hook names", error, Code::HookFile, &["cannot be written"]);
        says(&found, "hook balancer", error, Code::HookConsole, &["nobody answers"]);
    }
}
