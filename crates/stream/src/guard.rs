//! Whether the log that our slot holds back is about to do harm. Pure.

use crate::config::{GuardAction, LagGuardConfig};
use crate::diagnose::size;

/// What was said stays said until the log held back is below this share of the limit: a stream that hovers around a limit
/// does not say it over and over.
const BELOW: (u64, u64) = (4, 5);

/// What to do about the log that a slot holds back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardVerdict {
    /// Nothing.
    Fine,
    /// Tell somebody. Said once; again only after it has been better in between.
    Warn(String),
    /// Stop delivering and exit with an error; the slot stays.
    Pause(String),
    /// Drop the slot: changes will be missing.
    DropSlot(String),
}

/// Watches the log that a slot holds back, from one look to the next.
#[derive(Clone, Debug, Default)]
pub struct LagGuard {
    warned: bool,
    endangered: bool,
    limited: bool,
}

impl LagGuard {
    /// Judges what a look at the slot found: bytes of log held back, and bytes that may still be written before the
    /// server lets go of the slot (none where nothing limits that).
    ///
    /// Only what the configuration names leads to anything but a warning, and by default it names nothing.
    pub fn judge(
        &mut self,
        config: &LagGuardConfig,
        retained_bytes: u64,
        safe_wal_size: Option<i64>,
    ) -> GuardVerdict {
        let limited = reached(&mut self.limited, retained_bytes, config.limit_bytes);
        let acts = limited.is && config.action != GuardAction::Warn;
        if acts || limited.newly {
            let text = over_limit(config, retained_bytes);
            // Whoever pauses or drops may have failed to: it is said again until it is done.
            return match config.action {
                GuardAction::Warn => GuardVerdict::Warn(text),
                GuardAction::Pause => GuardVerdict::Pause(text),
                GuardAction::DropSlot => GuardVerdict::DropSlot(text),
            };
        }
        if self.endangered(retained_bytes, safe_wal_size) {
            let left = safe_wal_size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
            return GuardVerdict::Warn(format!(
                "the server lets go of the slot after {} more of log (max_slot_wal_keep_size), and what was not read is lost then; {}",
                size(left),
                FIX
            ));
        }
        if reached(&mut self.warned, retained_bytes, config.warn_bytes).newly {
            return GuardVerdict::Warn(format!(
                "the slot holds back {} of the server's log (`lag_guard.warn_bytes` is {}); {FIX}",
                size(retained_bytes),
                size(config.warn_bytes)
            ));
        }
        GuardVerdict::Fine
    }

    /// Whether the slot has, for the first time, less room left than it uses already.
    fn endangered(&mut self, retained: u64, safe_wal_size: Option<i64>) -> bool {
        let Some(left) = safe_wal_size else {
            self.endangered = false;
            return false;
        };
        let left = u64::try_from(left).unwrap_or(0);
        let before = self.endangered;
        // The share is of all that is allowed, which is what is used and what is left.
        let part_left = |share: u64| left < retained.saturating_add(left) / share;
        self.endangered = if before { part_left(3) } else { part_left(4) };
        self.endangered && !before
    }
}

const FIX: &str = "make the sinks faster or stop the stream and drop the slot";

/// Whether a limit is reached, and newly so.
struct Reached {
    is: bool,
    newly: bool,
}

fn reached(before: &mut bool, bytes: u64, limit: u64) -> Reached {
    let was = *before;
    let enough = if was { limit / BELOW.1 * BELOW.0 } else { limit };
    *before = limit > 0 && bytes >= enough;
    Reached { is: *before, newly: *before && !was }
}

fn over_limit(config: &LagGuardConfig, retained: u64) -> String {
    let does = match config.action {
        GuardAction::Warn => FIX,
        GuardAction::Pause => {
            "the stream stops and the slot stays, so the server goes on keeping its log: make room there, or drop the slot"
        }
        GuardAction::DropSlot => {
            "the slot is dropped and changes will be missing: take a snapshot with a new slot"
        }
    };
    format!(
        "the slot holds back {} of the server's log (`lag_guard.limit_bytes` is {}); {does}",
        size(retained),
        size(config.limit_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(warn_bytes: u64, limit_bytes: u64, action: GuardAction) -> LagGuardConfig {
        LagGuardConfig { warn_bytes, limit_bytes, action }
    }

    /// The verdicts, a letter for each.
    fn verdicts(config: &LagGuardConfig, looks: &[(u64, Option<i64>)]) -> String {
        let mut guard = LagGuard::default();
        let letter =
            |(retained, safe): &(u64, Option<i64>)| match guard.judge(config, *retained, *safe) {
                GuardVerdict::Fine => '.',
                GuardVerdict::Warn(_) => 'W',
                GuardVerdict::Pause(_) => 'P',
                GuardVerdict::DropSlot(_) => 'D',
            };
        looks.iter().map(letter).collect()
    }

    fn retained(bytes: &[u64]) -> Vec<(u64, Option<i64>)> {
        bytes.iter().map(|b| (*b, None)).collect()
    }

    #[test]
    fn by_default_nothing_but_a_warning_comes_of_it() {
        let looks = retained(&[0, 1 << 29, 1 << 30, 1 << 40, u64::MAX]);
        assert_eq!(verdicts(&LagGuardConfig::default(), &looks), "..W..");
    }

    #[test]
    fn a_warning_is_said_once_until_it_was_clearly_better() {
        let config = config(100, 0, GuardAction::DropSlot);
        let looks = retained(&[99, 100, 120, 99, 80, 100, 79, 100]);
        assert_eq!(verdicts(&config, &looks), ".W.....W");
    }

    #[test]
    fn the_action_is_asked_for_as_long_as_the_limit_is_passed() {
        let looks = retained(&[100, 199, 200, 250, 160, 159, 199]);
        assert_eq!(verdicts(&config(100, 200, GuardAction::Pause), &looks), "W.PPP..");
        assert_eq!(verdicts(&config(100, 200, GuardAction::DropSlot), &looks), "W.DDD..");
        assert_eq!(verdicts(&config(100, 200, GuardAction::Warn), &looks), "W.W....");
    }

    #[test]
    fn a_slot_that_the_server_is_about_to_drop_is_warned_of() {
        let config = config(0, 0, GuardAction::Warn);
        let looks = [
            (10, Some(90)),
            (75, Some(25)),
            (76, Some(24)),
            (70, Some(30)),
            (60, Some(40)),
            (200, Some(-5)),
        ];
        assert_eq!(verdicts(&config, &looks), "..W..W");
        let GuardVerdict::Warn(text) = LagGuard::default().judge(&config, 200, Some(-5)) else {
            panic!("no warning")
        };
        assert!(text.contains("max_slot_wal_keep_size"), "{text}");
    }
}
