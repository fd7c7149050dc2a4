//! The machine, for every way in which things can go.

use proptest::prelude::*;

use super::machine::{Act, Ending, Machine};

/// Goes through a switchover in which the acts in `failing` fail, and returns what was done.
fn course(forced: bool, failing: &[Act]) -> (Vec<Act>, Machine) {
    let mut machine = Machine::new(forced);
    let mut done = Vec::new();
    while machine.act() != Act::End {
        let act = machine.act();
        done.push(act);
        assert!(done.len() < 50, "{done:?} goes on for ever");
        let fails = failing.contains(&act);
        machine.step(if fails { Err(format!("{act:?} failed")) } else { Ok(()) });
    }
    (done, machine)
}

#[test]
fn without_failures_everything_is_done_in_order() {
    use Act::*;
    let (done, machine) = course(false, &[]);
    let order = [
        Check,
        Checkpoint,
        Hold,
        AwaitIdle,
        Retire,
        Demote,
        AwaitReplayed,
        Promote,
        FollowOthers,
        AwaitPrimary,
        Resume,
        FollowOld,
    ];
    assert_eq!(done, order);
    assert_eq!((machine.ending(), machine.failure()), (Ending::Done, None));
}

#[test]
fn each_failure_leaves_the_cluster_in_a_safe_state() {
    use Act::*;
    let cases: [(&[Act], Ending, &[Act]); 11] = [
        // What fails, how it ends, what is done after the (first) failure.
        (&[Check], Ending::Unchanged, &[]),
        (&[Checkpoint], Ending::Unchanged, &[]),
        (&[AwaitIdle], Ending::Unchanged, &[Resume]),
        (&[Retire], Ending::Unchanged, &[Resume]),
        (&[Demote], Ending::Unchanged, &[AwaitOld, Resume]),
        (&[Demote, AwaitOld], Ending::Nobody, &[AwaitOld, Resume]),
        (&[AwaitReplayed], Ending::Unchanged, &[AwaitOld, Resume]),
        (&[AwaitReplayed, AwaitOld], Ending::Nobody, &[AwaitOld, Resume]),
        // The command may have failed and the promotion not.
        (&[Promote], Ending::Done, &[FollowOthers, AwaitPrimary, Resume, FollowOld]),
        (&[Promote, AwaitPrimary], Ending::Nobody, &[FollowOthers, AwaitPrimary, Resume]),
        (&[FollowOld], Ending::DoneButFollowers, &[]),
    ];
    for (failing, ending, after) in cases {
        let (done, machine) = course(false, failing);
        let first = done.iter().position(|act| failing.contains(act)).unwrap();
        assert_eq!(machine.ending(), ending, "{failing:?}");
        assert_eq!(&done[first + 1..], after, "{failing:?}");
        if ending != Ending::Done {
            let (act, why) = machine.failure().expect("the reason is told");
            assert_eq!((act, why), (failing[0], format!("{:?} failed", failing[0]).as_str()));
        }
    }
}

#[test]
fn force_cuts_off_what_does_not_end_and_nothing_else() {
    use Act::*;
    let (done, machine) = course(true, &[AwaitIdle]);
    assert_eq!(machine.ending(), Ending::Done);
    assert!(done.contains(&Promote));
    for failing in [Check, Checkpoint, Retire, Demote, AwaitReplayed] {
        let (done, _) = course(true, &[failing]);
        assert!(!done.contains(&Promote), "{failing:?}");
    }
}

proptest! {
    /// Whatever fails, however often: nothing is promoted before everything is there, nothing demoted while writes go on,
    /// and no hold is left behind.
    #[test]
    fn whatever_fails_nobody_loses_a_write(outcomes in prop::collection::vec(any::<bool>(), 20), forced: bool) {
        let mut machine = Machine::new(forced);
        let mut succeeded = Vec::new();
        let (mut holds, mut steps) = (0, 0);
        for ok in outcomes.into_iter().chain(std::iter::repeat(true)) {
            let act = machine.act();
            match act {
                Act::End => break,
                Act::Hold => holds += 1,
                Act::Resume => holds -= 1,
                Act::Demote => prop_assert!(
                    holds == 1 && succeeded.contains(&Act::Retire) && (forced || succeeded.contains(&Act::AwaitIdle))
                ),
                Act::Promote => prop_assert!(
                    succeeded.contains(&Act::Demote) && succeeded.contains(&Act::AwaitReplayed) && holds == 1
                ),
                _ => {}
            }
            if ok {
                succeeded.push(act);
            }
            machine.step(if ok { Ok(()) } else { Err("no".to_owned()) });
            steps += 1;
            prop_assert!(steps < 30);
        }
        prop_assert_eq!(holds, 0);
        let took_over = matches!(machine.ending(), Ending::Done | Ending::DoneButFollowers);
        prop_assert_eq!(took_over, succeeded.contains(&Act::AwaitPrimary));
        prop_assert_eq!(machine.failure().is_some(), machine.ending() != Ending::Done);
    }
}
