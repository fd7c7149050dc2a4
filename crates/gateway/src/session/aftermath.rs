//! What statements leave behind: noted when they are sent, taken on when they have succeeded, given up when their transaction
//! has failed.

use herdsman::policy::Want;

use super::pins::{PREPARED, UNKNOWN};
use super::{Context, Held, Session};
use crate::config::SessionState;
use crate::effects::Effect;
use crate::settings::Settings;
use crate::wire::Problem;
use crate::wire::backend::Status;
use crate::wire::error::code;

impl Session {
    /// Takes on what a statement is about to leave behind; a problem where it may not.
    pub(super) fn adopt(&mut self, effect: &Effect, cx: &Context<'_>) -> Option<Problem> {
        let what = match effect {
            Effect::Sticky(what) => what,
            Effect::Prepare(_) | Effect::Execute(_) => PREPARED,
            Effect::Unknown => UNKNOWN,
            _ => return None,
        };
        if self.pinned().is_some() {
            return None;
        }
        if cx.session_state == SessionState::Refuse {
            let message =
                format!("{what} needs a session of its own, which this pool does not give");
            let hint =
                "connect to a database whose pool mode is session, or set `session_state: pin`";
            return Some(Problem::new(code::NOT_SUPPORTED, message).hint(hint));
        }
        if what.contains("lock") {
            // Taken even if the statement fails afterwards; everything else is there only once it has succeeded.
            self.pin(what);
        }
        None
    }

    /// What is under way may write or commit.
    pub(super) fn may_change(&mut self, effect: &Effect) {
        let about_itself = matches!(
            effect,
            Effect::Set { .. }
                | Effect::Reset(_)
                | Effect::ResetAll
                | Effect::Begin { .. }
                | Effect::DiscardAll
                | Effect::Discard
                | Effect::Deallocate(_)
                | Effect::DeallocateAll
        );
        if about_itself {
            return;
        }
        // It may have been `SET LOCAL synchronous_commit`.
        self.early |= matches!(effect, Effect::Local | Effect::Unknown);
        self.writes |= self.batch.needs.want == Want::Write || self.pinned().is_some();
        self.commits |=
            self.status == Status::Idle || matches!(effect, Effect::Commit | Effect::Unknown);
    }

    /// Remembers an effect until it is known whether the statement succeeded.
    pub(super) fn note(&mut self, effect: Effect) -> bool {
        let matters = matches!(
            effect,
            Effect::Set { .. }
                | Effect::Reset(_)
                | Effect::ResetAll
                | Effect::DiscardAll
                | Effect::Deallocate(_)
                | Effect::DeallocateAll
                | Effect::RollbackTo
                | Effect::Several(_)
                | Effect::Sticky(_)
                | Effect::Prepare(_)
                | Effect::Execute(_)
                | Effect::Unknown
                | Effect::Releases(_)
        );
        if matters {
            self.effects.push_back(effect);
        }
        matters
    }

    /// A statement with an effect has succeeded.
    pub(super) fn apply(&mut self, effect: Effect, held: &mut Held<'_>) {
        let now = match effect {
            Effect::Several(effects) => {
                for effect in effects {
                    self.apply(effect, held);
                }
                return;
            }
            Effect::Set { name, value } => self.settings.with(&name, Some(&value)),
            Effect::Reset(name) => {
                let first = self.startup.get(&name).map(str::to_owned);
                if first.is_some() {
                    // The server went back to what its connection began with, the client's own is another.
                    let server = held.settings.with(&name, None);
                    self.remember(held);
                    *held.settings = server;
                    self.settings = self.settings.with(&name, first.as_deref());
                    return;
                }
                self.settings.with(&name, None)
            }
            Effect::ResetAll => {
                self.remember(held);
                // Who one is stays.
                *held.settings = held.settings.after_reset_all(&Settings::default());
                self.settings = self.settings.after_reset_all(&self.startup);
                return;
            }
            Effect::DiscardAll => {
                *held.settings = Settings::default();
                self.settings = self.startup.clone();
                held.statements.clear();
                self.names.clear();
                self.unnamed.known = false;
                self.let_go(|_| true);
                self.tainted = false;
                return;
            }
            Effect::DeallocateAll => {
                self.let_go(|why| why == PREPARED);
                held.statements.clear();
                self.names.clear();
                return;
            }
            Effect::Deallocate(name) => {
                self.names.remove(name.as_bytes());
                return;
            }
            Effect::Sticky(what) => return self.pin(what),
            Effect::Prepare(_) | Effect::Execute(_) => return self.pin(PREPARED),
            Effect::Unknown => return self.pin(UNKNOWN),
            Effect::Releases(what) => {
                self.let_go(|why| what.contains(&why));
                return;
            }
            Effect::RollbackTo => {
                self.unsure |= self.before.is_some();
                return;
            }
            _ => return,
        };
        self.remember(held);
        if now == self.settings && now.is_full() {
            // No more than so many are kept apart from the connection.
            self.pin("more settings than the gateway keeps");
        }
        *held.settings = now.clone();
        self.settings = now;
    }

    /// Keeps what the settings were, in case the transaction does not come about.
    fn remember(&mut self, held: &Held<'_>) {
        if self.before.is_none() {
            self.before = Some((self.settings.clone(), held.settings.clone()));
        }
    }

    /// The transaction that changed settings has failed: they are what they were.
    pub(super) fn undo_settings(&mut self, held: &mut Held<'_>) {
        if let Some((client, server)) = self.before.take() {
            self.settings = client;
            *held.settings = server;
        }
    }

    /// A transaction is over.
    pub(super) fn ended(&mut self) {
        self.portals.clear();
        self.commits = false;
        self.guarded = false;
        if std::mem::take(&mut self.unsure) {
            self.tainted = true;
            self.pin("settings that a partial rollback took back");
        }
        self.before = None;
    }
}
