//! Whether a node is there, and what that does to its share of the load.

use std::time::Duration;

use tokio::time::Instant;

/// Whether a node may be used, as far as its own answers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Health {
    /// Nobody has asked it yet; it is worth a try.
    #[default]
    Unknown,
    /// It answers. `returned` is when it came back from being offline, if it ever was.
    Online {
        /// When it came back.
        returned: Option<Instant>,
    },
    /// It does not answer.
    Offline {
        /// Since when.
        since: Instant,
    },
}

/// The share of its usual load, in hundredths, that a node gets `age` after it came back: from a tenth to all of it.
pub(super) fn share(age: Duration, slow_start: Duration) -> u32 {
    let (age, whole) = (age.as_millis(), slow_start.as_millis());
    if age >= whole {
        return 100;
    }
    u32::try_from(10 + age * 90 / whole).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returning_node_gets_its_load_back_by_and_by() {
        let whole = Duration::from_secs(10);
        assert_eq!(share(Duration::ZERO, whole), 10);
        assert_eq!(share(Duration::from_secs(5), whole), 55);
        assert_eq!(share(whole, whole), 100);
        assert_eq!(share(Duration::ZERO, Duration::ZERO), 100);
    }
}
