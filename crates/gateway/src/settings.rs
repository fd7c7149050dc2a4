//! Session settings a client has (`SET`, start-up packet), and what to tell a server connection that has others.
//!
//! Everything here ends up in SQL that the gateway itself sends, so only names and values of known shape get in: whatever a
//! client asks for, [`Settings::change_from`] gives `SET`s and `RESET`s and nothing else.

mod intern;
mod startup;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use startup::take_apart;
pub(crate) use value::{LONGEST, is_name, literal, quote};

/// A client that has more settings than this has reasons of its own: see [`Settings::is_full`].
const MOST: usize = 256;

/// What the gateway's own logins say is UTF-8 (`herdsman_node::raw`): asking for it asks for nothing.
const ENCODING: &str = "client_encoding";
const ROLE: &str = "role";
const AUTHORIZATION: &str = "session_authorization";

/// Settings by name, sorted; equal ones share an id, so that comparing costs one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// 0: none beyond what the server connection began with.
    pub(crate) id: u64,
    /// Lower-case name and the value as it stands in a `SET` (a literal, a list of them, `DEFAULT` is a removal).
    pub(crate) values: Arc<[(Box<str>, Box<str>)]>,
}

impl Default for Settings {
    fn default() -> Self {
        intern::intern(Vec::new())
    }
}

impl Settings {
    /// With one more, or another, value (`None` takes it away). The value is SQL as after `SET name TO`. A name or value
    /// that cannot be one changes nothing; those of [`Effect::Set`](crate::effects::Effect::Set) can.
    pub(crate) fn with(&self, name: &str, value: Option<&str>) -> Self {
        let name = name.to_ascii_lowercase();
        let is_baseline = |value: &str| {
            value.eq_ignore_ascii_case("default") || name == ENCODING && startup::is_utf8(value)
        };
        let value = value.filter(|value| !is_baseline(value));
        if !is_name(&name) || !value.is_none_or(value::is_value) {
            return self.clone();
        }
        if self.get(&name) == value && name != AUTHORIZATION {
            return self.clone();
        }
        let mut values = self.values.to_vec();
        // Another user is in no role.
        values
            .retain(|(known, _)| **known != *name && !(name == AUTHORIZATION && **known == *ROLE));
        if let Some(value) = value {
            let place = values.partition_point(|(known, _)| **known < *name);
            values.insert(place, (name.into(), value.into()));
        }
        intern::intern(values)
    }

    /// What `RESET ALL` makes of these where the session began with `first`: all as at first, but who one is stays.
    pub(crate) fn after_reset_all(&self, first: &Self) -> Self {
        let others = first.values.iter().filter(|(name, _)| !is_identity(name));
        let identity = self.values.iter().filter(|(name, _)| is_identity(name));
        let mut values: Vec<_> = others.chain(identity).cloned().collect();
        values.sort();
        intern::intern(values)
    }

    /// From a start-up packet's parameters: `options` is taken apart (`-c name=value`, `--name=value`), `user`,
    /// `database`, `replication` and `_pq_.*` and `herdsman.*` are left out.
    ///
    /// A client that does not say `application_name` or `client_encoding` gets those of the gateway's own login, and one
    /// that asks for UTF-8 asks for what is there.
    ///
    /// # Errors
    /// What cannot be read, in words.
    pub(crate) fn from_startup(parameters: &[(String, String)]) -> Result<Self, String> {
        let mut settings = Self::default();
        for (name, value) in startup::settings(parameters)? {
            settings = settings.with(&name, Some(&value));
        }
        if settings.is_full() {
            return Err(format!("more than {MOST} settings in the start-up packet"));
        }
        Ok(settings)
    }

    /// SQL that turns a connection with `had` into one with these: `SET …; RESET …`. Empty where nothing differs.
    ///
    /// Who one is comes last and goes first, so that what the login may set is set as the login.
    pub(crate) fn change_from(&self, had: &Self) -> String {
        let mut sql = String::new();
        if self.id == had.id {
            return sql;
        }
        let user_changes = self.get(AUTHORIZATION) != had.get(AUTHORIZATION);
        let identity_changes = user_changes || self.get(ROLE) != had.get(ROLE);
        if identity_changes && had.get(ROLE).is_some() {
            reset(&mut sql, ROLE);
        }
        if user_changes && had.get(AUTHORIZATION).is_some() {
            reset(&mut sql, AUTHORIZATION);
        }
        for (name, _) in had.values.iter() {
            if !is_identity(name) && self.get(name).is_none() {
                reset(&mut sql, name);
            }
        }
        for (name, value) in self.values.iter() {
            if !is_identity(name) && had.get(name) != Some(value) {
                set(&mut sql, name, value);
            }
        }
        if user_changes && let Some(user) = self.get(AUTHORIZATION) {
            set(&mut sql, AUTHORIZATION, user);
        }
        if identity_changes && let Some(role) = self.get(ROLE) {
            set(&mut sql, ROLE, role);
        }
        sql
    }

    /// Whether all of them may be sent ahead without waiting for the answer once they have been accepted (not `role`,
    /// `session_authorization`).
    pub(crate) fn harmless(&self) -> bool {
        !self.values.iter().any(|(name, _)| is_identity(name))
    }

    /// Whether a connection with the settings `of` may be used for these, with nothing but what is sent ahead.
    #[inline]
    pub(crate) fn suit(&self, of: &Self) -> bool {
        self.id == of.id || self.harmless()
    }

    /// So many that no more should be remembered: treat the next `SET` of another name as state of the server session.
    pub(crate) fn is_full(&self) -> bool {
        self.values.len() >= MOST
    }

    /// Whether a standby refuses statements under these settings.
    pub(crate) fn needs_writer(&self) -> bool {
        let isolation = self.get("default_transaction_isolation").unwrap_or_default();
        isolation.to_ascii_lowercase().contains("serializable")
    }

    /// The value as it stands in a `SET`; `name` in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let place = self.values.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.values.get(place).map(|(_, value)| &**value)
    }
}

fn is_identity(name: &str) -> bool {
    name == ROLE || name == AUTHORIZATION
}

/// Names are quoted: `user.id` is one that needs it, and a quoted one means the same.
fn name(sql: &mut String, name: &str) {
    for (at, part) in name.split('.').enumerate() {
        let dot = if at > 0 { "." } else { "" };
        sql.extend([dot, "\"", part, "\""]);
    }
}

fn reset(sql: &mut String, of: &str) {
    sql.push_str("RESET ");
    name(sql, of);
    sql.push(';');
}

fn set(sql: &mut String, of: &str, value: &str) {
    if value.starts_with(value::INTERVAL) {
        // The only value that `SET timezone TO` does not take.
        sql.push_str("SET TIME ZONE ");
    } else {
        sql.push_str("SET ");
        name(sql, of);
        sql.push_str(" TO ");
    }
    sql.push_str(value);
    sql.push(';');
}
