//! The variables of koyo-postgres-replication, a Ruby gem whose users find them honoured here.

/// What the gem's variables say. They fill in what the file leaves out, as an attribute set in the gem's own
/// configuration wins over its variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Koyo {
    /// What the variables' names begin with.
    pub prefix: String,
    /// `_SLOT`: the replication slot.
    pub slot: Option<String>,
    /// `_AUTO_CREATE_REPLICATION_SLOT`: whether a missing slot is made.
    pub create: Option<bool>,
    /// `_DATABASE_NAME`: the database to read.
    pub database: Option<String>,
    /// `_DISABLE_LOGGING`: only warnings and errors are logged.
    pub quiet: bool,
    /// `_TEST_MODE`: changes are looked at and stay in the slot.
    pub test_mode: bool,
    /// Variables that are set and have no effect, by their full names, each with why.
    pub ignored: Vec<(String, &'static str)>,
}

/// Names another beginning of the variables' names.
const PREFIX: &str = "KOYO_REPL_CONFIG_PREFIX";

impl Koyo {
    /// What the variables of this process say.
    #[must_use]
    pub fn from_env() -> Self {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// The full name of one of the variables.
    #[must_use]
    pub fn name(&self, suffix: &str) -> String {
        format!("{}_{suffix}", self.prefix)
    }

    fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let lookup = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let prefix = lookup(PREFIX).unwrap_or_else(|| "KOYO_REPL".to_owned());
        let get = |suffix: &str| lookup(&format!("{prefix}_{suffix}"));
        let on = |suffix: &str| get(suffix).as_deref().map(is_true);
        let ignored = get("SQL_DELAY").map(|_| {
            (format!("{prefix}_SQL_DELAY"), "changes are sent when they happen, nothing is polled")
        });
        Self {
            slot: get("SLOT"),
            create: on("AUTO_CREATE_REPLICATION_SLOT"),
            database: get("DATABASE_NAME"),
            quiet: on("DISABLE_LOGGING").unwrap_or(false),
            test_mode: on("TEST_MODE").unwrap_or(false),
            ignored: ignored.into_iter().collect(),
            prefix,
        }
    }
}

/// What the gem takes for true.
fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "true" | "t" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Koyo {
        Koyo::read(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_gems_variables_are_read_with_its_prefix_or_another() {
        let nothing = Koyo { prefix: "KOYO_REPL".to_owned(), ..Koyo::default() };
        assert_eq!(read(&[]), nothing);
        let all = |prefix: &str| {
            let name = |suffix: &str| format!("{prefix}_{suffix}");
            let names = [
                (name("SLOT"), "koyo_repl_shop_production"),
                (name("AUTO_CREATE_REPLICATION_SLOT"), "false"),
                (name("DATABASE_NAME"), "shop"),
                (name("DISABLE_LOGGING"), "YES"),
                (name("TEST_MODE"), " t "),
                (name("SQL_DELAY"), "5"),
            ];
            let mut variables: Vec<_> = names.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            variables.push((PREFIX, prefix));
            read(&variables)
        };
        for prefix in ["KOYO_REPL", "MY_APP"] {
            let koyo = all(prefix);
            assert_eq!(koyo.slot.as_deref(), Some("koyo_repl_shop_production"));
            assert_eq!((koyo.create, koyo.database.as_deref()), (Some(false), Some("shop")));
            assert!(koyo.quiet && koyo.test_mode);
            assert_eq!(koyo.ignored[0].0, format!("{prefix}_SQL_DELAY"));
            assert_eq!(koyo.name("SLOT"), format!("{prefix}_SLOT"));
        }
    }

    #[test]
    fn anything_but_the_gems_words_for_true_is_false() {
        for word in ["1", "true", "T", " yes "] {
            assert!(read(&[("KOYO_REPL_TEST_MODE", word)]).test_mode, "{word}");
        }
        for word in ["0", "false", "on", "no", "y"] {
            assert!(!read(&[("KOYO_REPL_TEST_MODE", word)]).test_mode, "{word}");
        }
    }
}
