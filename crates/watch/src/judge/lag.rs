//! How far behind a standby is, by the watcher's own clock.
//!
//! `now() - pg_last_xact_replay_timestamp()` grows on an idle primary and trusts two clocks. Here the primary's
//! position is remembered with the moment it was seen, and a standby is as late as the first position it lacks is old.

use std::collections::VecDeque;
use std::time::Duration;

use herdsman_node::{Lsn, NodeName, Timeline};

use crate::Moment;
use crate::topology::Lag;

/// One sample each quarter of a second at most, for ten minutes: beyond that, later is all one needs to know.
const SPACING: Duration = Duration::from_millis(250);
const SAMPLES: usize = 2400;

/// Where the primary was, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    of: Option<(NodeName, Timeline)>,
    samples: VecDeque<(Moment, Lsn)>,
}

impl Track {
    /// Remembers where the primary was seen; another primary or timeline starts anew.
    pub(super) fn record(&mut self, node: &NodeName, timeline: Timeline, at: Moment, lsn: Lsn) {
        let of = Some((node.clone(), timeline));
        if self.of != of {
            self.of = of;
            self.samples.clear();
        }
        match self.samples.back_mut() {
            Some((_, last)) if *last >= lsn => {}
            // Between spaced samples the newest position is kept under the older moment: lag errs upwards.
            Some((then, last)) if at.since(*then) < SPACING => *last = lsn,
            _ => self.samples.push_back((at, lsn)),
        }
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// The lag of a standby that has replayed up to `replayed`.
    pub(super) fn lag(&self, replayed: Lsn, now: Moment) -> Option<Lag> {
        let (_, newest) = self.samples.back()?;
        let lacking = self.samples.iter().find(|(_, lsn)| *lsn > replayed);
        let seconds = lacking.map_or(0.0, |(at, _)| now.since(*at).as_secs_f64());
        Some(Lag { bytes: newest.bytes_after(replayed), seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_first_position_the_standby_lacks() {
        let (node, timeline) = (NodeName::new("n1").unwrap(), Timeline(1));
        let mut track = Track::default();
        assert_eq!(track.lag(Lsn(0), Moment::default()), None);
        for (millis, lsn) in [(0, 100), (1000, 200), (2000, 300), (9000, 300)] {
            track.record(&node, timeline, Moment::from_millis(millis), Lsn(lsn));
        }
        let lag = |replayed| track.lag(Lsn(replayed), Moment::from_millis(10_000)).unwrap();
        assert_eq!(lag(300), Lag { bytes: 0, seconds: 0.0 }, "an idle primary makes nobody late");
        assert_eq!(lag(250), Lag { bytes: 50, seconds: 8.0 });
        assert_eq!(lag(200), Lag { bytes: 100, seconds: 8.0 });
        assert_eq!(lag(50), Lag { bytes: 250, seconds: 10.0 });
        track.record(&node, Timeline(2), Moment::from_millis(11_000), Lsn(50));
        assert_eq!(lag_of(&track, 50, 12_000), Lag { bytes: 0, seconds: 0.0 });
    }

    fn lag_of(track: &Track, replayed: u64, now: u64) -> Lag {
        track.lag(Lsn(replayed), Moment::from_millis(now)).unwrap()
    }

    #[test]
    fn samples_are_bounded() {
        let (node, mut track) = (NodeName::new("n1").unwrap(), Track::default());
        for i in 0..100_000_u64 {
            track.record(&node, Timeline(1), Moment::from_millis(i * 300), Lsn(i));
        }
        assert_eq!(track.samples.len(), SAMPLES);
    }
}
