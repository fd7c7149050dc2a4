//! Evidence that no herd could give, in any order: what must hold even then.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use herdsman_node::{Lsn, NodeName, SystemId, Timeline};
use proptest::prelude::*;

use super::super::world::{OURS, THEIRS, name};
use super::super::{Judge, Memory};
use super::checker::Checker;
use crate::Moment;
use crate::config::{LostStandbys, Quorum, WatchConfig};
use crate::evidence::{Branch, Evidence, Receiver, Sender, Sighting};

const NODES: u8 = 4;

/// One input of the judge and the time since the last.
#[derive(Clone)]
struct Input {
    pause: u64,
    node: NodeName,
    sighting: Sighting,
    restart: bool,
}

/// On one line, so that a failure's list of inputs can be read.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pause, node, sighting, restart } = self;
        let restart = if *restart { "restart, " } else { "" };
        write!(f, "{restart}{pause} ms, {node}: ")?;
        let Sighting::Seen(e) = sighting else { return write!(f, "{sighting:?}") };
        let Evidence { in_recovery, timeline, lsn, read_only, blind, .. } = &**e;
        write!(
            f,
            "recovery {in_recovery} timeline {timeline} lsn {lsn} ro {read_only} blind {blind} "
        )?;
        write!(f, "{:?} {:?} {:?}", e.receiver, e.senders, e.branches)
    }
}

fn node() -> impl Strategy<Value = NodeName> {
    (1..=NODES).prop_map(|i| name(&format!("n{i}")))
}

fn timeline() -> impl Strategy<Value = Timeline> {
    (1..5_u32).prop_map(Timeline)
}

fn lsn() -> impl Strategy<Value = Lsn> {
    (0..200_u64).prop_map(Lsn)
}

fn receiver() -> impl Strategy<Value = Receiver> {
    (node(), prop::bool::weighted(0.8), prop::option::of(timeline()), any::<bool>()).prop_map(
        |(upstream, streaming, timeline, known)| Receiver {
            streaming,
            host: if known { upstream.to_string() } else { "elsewhere".to_owned() },
            port: 5432,
            timeline,
            slot: None,
            application_name: None,
        },
    )
}

fn sender() -> impl Strategy<Value = Sender> {
    (node(), prop::bool::weighted(0.9), prop::option::weighted(0.9, lsn()), 0..40_u64).prop_map(
        |(follower, streaming, replayed, age)| Sender {
            application_name: follower.to_string(),
            streaming,
            replayed,
            age: Some(Duration::from_secs(age)),
            slot: None,
        },
    )
}

fn branch() -> impl Strategy<Value = Branch> {
    (timeline(), lsn()).prop_map(|(parent, at)| Branch { parent, at })
}

fn system_id() -> impl Strategy<Value = SystemId> {
    prop_oneof![9 => Just(OURS), 1 => Just(THEIRS)]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let flags = (any::<bool>(), prop::bool::weighted(0.05), prop::bool::weighted(0.1));
    let links = (prop::option::of(receiver()), prop::collection::vec(sender(), 0..4));
    let branches = prop::collection::vec(branch(), 0..3);
    let positions = (lsn(), prop::option::of(lsn()));
    (system_id(), flags, timeline(), positions, links, branches).prop_map(
        |(
            system_id,
            (in_recovery, read_only, blind),
            timeline,
            (lsn, received),
            links,
            branches,
        )| Evidence {
            system_id,
            in_recovery,
            timeline,
            lsn,
            received,
            read_only,
            receiver: links.0,
            senders: links.1,
            branches,
            server_version: 150_000,
            blind,
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    let sighting = prop_oneof![
        10 => evidence().prop_map(|evidence| Sighting::Seen(Box::new(evidence))),
        1 => Just(Sighting::Missed("no answer".to_owned())),
        1 => Just(Sighting::Gone("closed".to_owned())),
    ];
    let pause = prop_oneof![8 => 0..400_u64, 1 => 1000..20_000_u64];
    (pause, node(), sighting, prop::bool::weighted(0.02))
        .prop_map(|(pause, node, sighting, restart)| Input { pause, node, sighting, restart })
}

fn config() -> impl Strategy<Value = WatchConfig> {
    let quorum = prop_oneof![Just(Quorum::Auto), Just(Quorum::Any), Just(Quorum::None)];
    let lost = prop_oneof![Just(LostStandbys::Keep), Just(LostStandbys::Hold)];
    (quorum, lost, 1..3_u32).prop_map(|(quorum, lost_standbys, unhealthy_checks)| WatchConfig {
        quorum,
        lost_standbys,
        unhealthy_checks,
        system_id: Some(OURS),
        ..WatchConfig::default()
    })
}

fn judge(config: &WatchConfig, memory: Memory) -> Judge {
    let nodes: BTreeMap<_, _> =
        (1..=NODES).map(|i| (name(&format!("n{i}")), vec![format!("n{i}:5432")])).collect();
    Judge::new(config.clone(), nodes, memory, None)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_evidence_makes_the_judge_break_its_word(
        config in config(),
        inputs in prop::collection::vec(input(), 1..120),
    ) {
        let mut checker = Checker::new(&config);
        let mut now = Moment::from_millis(1000);
        let mut judged = judge(&config, Memory::default());
        for input in inputs {
            if input.restart {
                let text = serde_json::to_string(judged.memory()).unwrap();
                judged = judge(&config, serde_json::from_str(&text).unwrap());
                checker.restarted();
            }
            now = now + Duration::from_millis(input.pause);
            checker.saw(now, &input.node, &input.sighting);
            judged.observe(now, &input.node, input.sighting);
            let topology = judged.judge(now);
            checker.judged(now, &topology).map_err(|v| TestCaseError::fail(v.to_string()))?;
        }
    }
}
