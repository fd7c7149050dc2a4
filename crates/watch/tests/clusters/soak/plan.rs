//! What one cycle does to the herd: drawn from its seed and nothing else, so that a seed replays it.

use std::fmt;
use std::time::Duration;

/// The fault of a cycle. "Old" is the primary at its start, "promoted" one of its two standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A standby is promoted while the old primary lives and takes writes; later the other one is repointed.
    PromotedBesideTheOld,
    /// kill -9, then a promotion.
    KilledThenPromoted,
    /// As before, and the old primary comes back as a primary before anybody mends it.
    ZombieRestart,
    /// A standby is promoted that has not received anything for a while; the old primary lives, or was killed.
    StalePromoted,
    /// kill -9, and the same primary starts again.
    CrashRestart,
    /// An orderly restart.
    PlannedRestart,
    /// An orderly stop, a promotion, everybody follows.
    Switchover,
    Frozen,
    FrozenThenPromoted,
    /// Clients reach nothing and hear nothing; replication goes on.
    Blackholed,
    BlackholedThenPromoted,
    /// Clients are refused; replication goes on.
    Cut,
    CutThenPromoted,
    /// Neither clients nor other nodes reach it.
    Isolated,
    IsolatedThenPromoted,
    StandbyKilled,
    StandbyFrozen,
    StandbyBlackholed,
    StandbyCut,
    /// Replication between the primary and a standby stalls or breaks.
    PartitionedFromStandby,
    /// The two standbys cannot reach each other, which nobody should notice.
    StandbysPartitioned,
}

/// One cycle.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// Which of the two standbys is promoted or hit.
    pub(super) second: bool,
    /// From the fault to the promotion.
    pub(super) until_promotion: Duration,
    /// From the promotion to the repointing of the other standby.
    pub(super) until_repoint: Duration,
    /// How long a fault without a promotion lasts, and how long an old primary stays a zombie.
    pub(super) hold: Duration,
    /// Whether the old primary is heard again before the other standby is repointed; for a stale promotion, whether it
    /// was killed first.
    pub(super) early_return: bool,
    /// Whether a partition breaks connections instead of stalling them.
    pub(super) break_links: bool,
}

/// How often each is drawn. Promotions are where writes can go wrong.
const WEIGHTS: [(Kind, u32); 21] = [
    (Kind::PromotedBesideTheOld, 6),
    (Kind::KilledThenPromoted, 4),
    (Kind::ZombieRestart, 3),
    (Kind::StalePromoted, 3),
    (Kind::CrashRestart, 2),
    (Kind::PlannedRestart, 2),
    (Kind::Switchover, 3),
    (Kind::Frozen, 2),
    (Kind::FrozenThenPromoted, 3),
    (Kind::Blackholed, 1),
    (Kind::BlackholedThenPromoted, 2),
    (Kind::Cut, 1),
    (Kind::CutThenPromoted, 2),
    (Kind::Isolated, 1),
    (Kind::IsolatedThenPromoted, 2),
    (Kind::StandbyKilled, 1),
    (Kind::StandbyFrozen, 1),
    (Kind::StandbyBlackholed, 1),
    (Kind::StandbyCut, 1),
    (Kind::PartitionedFromStandby, 2),
    (Kind::StandbysPartitioned, 1),
];

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        // Neighbouring seeds begin alike.
        let _warm = random.u64(..);
        let mut span =
            |from: f64, to: f64| Duration::from_secs_f64(from + random.f64() * (to - from));
        let (until_promotion, until_repoint, hold) =
            (span(0.0, 1.5), span(0.0, 1.0), span(0.3, 5.0));
        let (second, early_return, break_links) = (random.bool(), random.bool(), random.bool());
        let tickets: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let kind = kind(random.u32(..tickets));
        Self { kind, second, until_promotion, until_repoint, hold, early_return, break_links }
    }
}

fn kind(mut ticket: u32) -> Kind {
    for (kind, weight) in WEIGHTS {
        if ticket < weight {
            return kind;
        }
        ticket -= weight;
    }
    Kind::PromotedBesideTheOld
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PromotedBesideTheOld => "promotion beside the old",
            Self::KilledThenPromoted => "kill -9, promotion",
            Self::ZombieRestart => "kill -9, promotion, zombie",
            Self::StalePromoted => "promotion of a stale one",
            Self::CrashRestart => "kill -9, restart",
            Self::PlannedRestart => "stop, restart",
            Self::Switchover => "planned switchover",
            Self::Frozen => "freeze, thaw",
            Self::FrozenThenPromoted => "freeze, promotion, thaw",
            Self::Blackholed => "blackhole",
            Self::BlackholedThenPromoted => "blackhole, promotion",
            Self::Cut => "cut",
            Self::CutThenPromoted => "cut, promotion",
            Self::Isolated => "isolation",
            Self::IsolatedThenPromoted => "isolation, promotion",
            Self::StandbyKilled => "standby: kill -9",
            Self::StandbyFrozen => "standby: freeze",
            Self::StandbyBlackholed => "standby: blackhole",
            Self::StandbyCut => "standby: cut",
            Self::PartitionedFromStandby => "partition primary/standby",
            Self::StandbysPartitioned => "partition standby/standby",
        })
    }
}

#[test]
fn a_seed_replays_its_plan_and_every_kind_is_drawn() {
    let plans: Vec<_> = (0..2000).map(|seed| Plan::draw(seed).kind).collect();
    assert_eq!(plans, (0..2000).map(|seed| Plan::draw(seed).kind).collect::<Vec<_>>());
    for (kind, _) in WEIGHTS {
        assert!(plans.contains(&kind), "{kind} is never drawn");
    }
}
