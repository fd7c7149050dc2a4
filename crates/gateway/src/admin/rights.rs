//! Who may say what.

use super::command::Command;
use crate::wire::Problem;

/// SQLSTATE of `insufficient_privilege`.
const NOT_ALLOWED: &str = "42501";

/// What a user of the admin database may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Nothing: neither in `admins` nor in `stats_users`, or no longer.
    Nothing,
    /// Look.
    Look,
    /// Everything.
    Everything,
}

impl Rights {
    /// What the configuration gives a user.
    pub(super) fn of(user: &str, admins: &[String], stats_users: &[String]) -> Self {
        let listed = |users: &[String]| users.iter().any(|name| name == user);
        match (listed(admins), listed(stats_users)) {
            (true, _) => Self::Everything,
            (false, true) => Self::Look,
            (false, false) => Self::Nothing,
        }
    }

    /// Whether a command may be carried out.
    ///
    /// # Errors
    /// `42501`, with what is missing.
    pub(super) fn allow(self, command: &Command) -> Result<(), Problem> {
        // Each command is named: a new one does not compile until somebody has decided who may use it.
        let needed = match command {
            Command::Show(_) | Command::Ignored(_) => Self::Look,
            Command::Pause(_)
            | Command::Resume(_)
            | Command::Hold
            | Command::Switchover { .. }
            | Command::Reload
            | Command::Kill(_)
            | Command::KillClient(_)
            | Command::Disable(_)
            | Command::Enable(_)
            | Command::Reconnect(_)
            | Command::WaitClose(_)
            | Command::Shutdown(_)
            | Command::Suspend => Self::Everything,
        };
        match (self, needed) {
            (Self::Everything, _) | (Self::Look, Self::Look) => Ok(()),
            (Self::Look, _) => Err(Problem::new(NOT_ALLOWED, "this user may only look (SHOW)")
                .hint("log in as one of `admins`, or add this user to them")),
            (Self::Nothing, _) => {
                Err(Problem::new(NOT_ALLOWED, "this user may not use the admin database")
                    .hint("log in as one of `admins` or `stats_users`"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ending;
    use super::super::command::Show;
    use super::*;

    #[test]
    fn those_who_may_look_can_change_nothing() {
        let db = || Some("app".to_owned());
        let commands = [
            Command::Pause(db()),
            Command::Resume(None),
            Command::Hold,
            Command::Switchover { node: "n2".into(), force: false },
            Command::Reload,
            Command::Kill(db()),
            Command::KillClient(1),
            Command::Disable("app".into()),
            Command::Enable("app".into()),
            Command::Reconnect(None),
            Command::WaitClose(None),
            Command::Shutdown(Ending::AtOnce),
            Command::Suspend,
        ];
        for command in commands {
            for rights in [Rights::Look, Rights::Nothing] {
                let refused = rights.allow(&command).unwrap_err();
                assert_eq!(refused.code, "42501", "{command:?} by {rights:?}");
            }
            assert_eq!(Rights::Everything.allow(&command), Ok(()), "{command:?}");
        }
    }

    #[test]
    fn those_in_no_list_may_not_even_look() {
        let show = Command::Show(Show::Clients);
        assert_eq!(Rights::Nothing.allow(&show).unwrap_err().code, "42501");
        assert_eq!(Rights::Look.allow(&show), Ok(()));
    }

    #[test]
    fn the_lists_say_who_is_who_by_the_whole_name() {
        let [admins, stats] =
            [["root", "both"], ["watcher", "both"]].map(|names| names.map(String::from));
        let of = |user| Rights::of(user, &admins, &stats);
        assert_eq!(of("root"), Rights::Everything);
        assert_eq!(of("both"), Rights::Everything);
        assert_eq!(of("watcher"), Rights::Look);
        for other in ["", "Root", "roo", "rootx"] {
            assert_eq!(of(other), Rights::Nothing, "{other}");
        }
    }
}
