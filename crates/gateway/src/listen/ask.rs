//! What a start-up packet asks for.

use crate::config::{CONSOLES, Target};
use crate::settings::{Settings, take_apart};
use crate::wire::Problem;
use crate::wire::error::code;
use crate::wire::startup::Startup;

/// A start-up packet, understood.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) application: String,
    pub(super) settings: Settings,
    pub(super) target: Option<Target>,
}

/// SQLSTATE of `invalid_parameter_value`.
const INVALID: &str = "22023";

impl Ask {
    /// # Errors
    /// What cannot be had, in words for the client.
    pub(super) fn read(startup: &Startup) -> Result<Self, Problem> {
        let user = startup.get("user").filter(|user| !user.is_empty()).ok_or_else(|| {
            Problem::new(code::NOT_AUTHORISED, "no user name is given in the start-up packet")
        })?;
        if startup.get("replication").is_some_and(replicates) {
            return Err(Problem::new(
                code::NOT_SUPPORTED,
                "replication connections do not go through the gateway",
            )
            .hint("connect to the node itself"));
        }
        let database = startup.get("database").filter(|name| !name.is_empty()).unwrap_or(user);
        let settings = Settings::from_startup(&startup.parameters)
            .map_err(|problem| Problem::new(INVALID, problem))?;
        let target = startup.get("options").map(target).transpose()?.flatten();
        Ok(Self {
            user: user.to_owned(),
            database: database.to_owned(),
            application: startup.get("application_name").unwrap_or_default().to_owned(),
            settings,
            target,
        })
    }

    /// Whether the gateway itself is asked for, not a database behind it.
    pub(super) fn console(&self) -> bool {
        CONSOLES.contains(&self.database.as_str())
    }
}

/// Anything but a way to say no; `database` is one to say yes.
fn replicates(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    // PostgreSQL takes any beginning of these that is not also one of the opposite's.
    let no = |whole: &str, least: usize| value.len() >= least && whole.starts_with(&value);
    !(no("false", 1) || no("no", 1) || no("off", 2) || value == "0")
}

/// The last `herdsman.target` among command line options.
fn target(options: &str) -> Result<Option<Target>, Problem> {
    let options = take_apart(options).map_err(|problem| Problem::new(INVALID, problem))?;
    let mut targets =
        options.iter().rev().filter(|(name, _)| name.eq_ignore_ascii_case("herdsman.target"));
    let Some((_, value)) = targets.next() else { return Ok(None) };
    value.parse().map(Some).map_err(|_| {
        Problem::new(INVALID, format!("herdsman.target cannot be `{value}`"))
            .hint("use split, writer, reader, writers or the name of a node")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(parameters: &[(&str, &str)]) -> Result<Ask, Problem> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Ask::read(&Startup { minor: 0, parameters: parameters.iter().map(owned).collect() })
    }

    #[test]
    fn the_database_is_the_user_s_unless_another_is_named() {
        assert_eq!(ask(&[("user", "ann")]).unwrap().database, "ann");
        assert_eq!(ask(&[("user", "ann"), ("database", "")]).unwrap().database, "ann");
        assert_eq!(ask(&[("user", "ann"), ("database", "app")]).unwrap().database, "app");
    }

    #[test]
    fn a_user_has_to_be_named() {
        for parameters in [&[][..], &[("user", "")], &[("database", "app")]] {
            assert_eq!(ask(parameters).unwrap_err().code, "28000");
        }
    }

    #[test]
    fn replication_is_refused_however_it_is_asked_for() {
        for value in ["true", "on", "yes", "1", "database", "DATABASE", "t", "", "o"] {
            let refused = ask(&[("user", "ann"), ("replication", value)]).unwrap_err();
            assert_eq!(refused.code, "0A000", "{value}");
        }
        for value in ["false", "off", "no", "0", "F", "of", "n"] {
            assert!(ask(&[("user", "ann"), ("replication", value)]).is_ok(), "{value}");
        }
    }

    #[test]
    fn a_target_is_found_among_other_options() {
        let of = |options: &str| ask(&[("user", "ann"), ("options", options)]).unwrap().target;
        assert_eq!(of("-c herdsman.target=reader"), Some(Target::Reader));
        assert_eq!(of("-cherdsman.target=writer"), Some(Target::Writer));
        assert_eq!(of("--herdsman.target=split"), Some(Target::Split));
        assert_eq!(
            of("-c geqo=off  --Herdsman.Target=n\\1 -c x=y"),
            Some(Target::Node("n1".parse().unwrap()))
        );
        assert_eq!(of("-c herdsman.target=reader -c herdsman.target=writer"), Some(Target::Writer));
        assert_eq!(of("-c geqo=off"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_target_that_cannot_be_is_refused() {
        let refused = ask(&[("user", "ann"), ("options", "-c herdsman.target=")]).unwrap_err();
        assert_eq!(refused.code, INVALID);
    }

    #[test]
    fn the_gateway_s_own_databases_are_known() {
        for (name, console) in [("herdsman", true), ("pgbouncer", true), ("app", false)] {
            assert_eq!(ask(&[("user", "a"), ("database", name)]).unwrap().console(), console);
        }
    }
}
