//! What a session may read after it wrote: tables, and a model of the whole course.

use herdsman::session::{Replayed, SessionToken};
use proptest::prelude::*;

use super::*;
use crate::herd::tide::{Mark, Water};

const ID: SystemId = SystemId(7);

fn mark(number: u64, timeline: u32, flushed: u64, inserted: u64) -> Mark {
    Mark {
        number,
        system_id: ID,
        timeline: Timeline(timeline),
        flushed: Lsn(flushed),
        inserted: Lsn(inserted),
    }
}

fn replayed(timeline: u32, lsn: u64) -> Option<Replayed> {
    Some(Replayed {
        system_id: Some(ID),
        timeline: Some(Timeline(timeline)),
        follows: None,
        lsn: Lsn(lsn),
    })
}

fn token(timeline: u32, lsn: u64) -> Causal {
    let token = SessionToken { system_id: ID, timeline: Timeline(timeline), lsn: Lsn(lsn) };
    Causal { after_sample: 0, token: Some(token), early: false }
}

#[test]
fn who_wrote_nothing_reads_anywhere() {
    let causal = Causal::default();
    assert!(!causal.needs());
    assert!(Water::default().covers(3, &causal));
}

#[test]
fn a_write_waits_for_a_sample_that_began_after_it() {
    let mut water = Water::default();
    water.replayed(1, replayed(1, 1000));
    let mut causal = Causal::default();
    causal.write(4, false);
    // The fourth began before the write was acknowledged, and ended after.
    water.mark(mark(4, 1, 100, 100));
    water.settle(&mut causal);
    assert!(!water.covers(1, &causal), "{causal:?}");
    water.mark(mark(5, 1, 120, 130));
    water.settle(&mut causal);
    assert_eq!(causal, token(1, 120));
    assert!(water.covers(1, &causal));
    assert!(!water.covers(0, &causal), "nobody knows how far it is");
}

#[test]
fn what_was_acknowledged_before_it_was_on_disk_needs_the_inserted_position() {
    let mut water = Water::default();
    water.replayed(1, replayed(1, 125));
    let mut causal = Causal::default();
    causal.write(0, true);
    // Another write, whose acknowledgement came after its flush, does not make the first one safer.
    causal.write(0, false);
    water.mark(mark(1, 1, 120, 130));
    water.settle(&mut causal);
    assert_eq!(causal, token(1, 130));
    assert!(!water.covers(1, &causal));
    water.replayed(1, replayed(1, 130));
    assert!(water.covers(1, &causal));
    causal.write(1, false);
    water.mark(mark(2, 1, 131, 140));
    water.settle(&mut causal);
    assert_eq!(causal, token(1, 131));
}

#[test]
fn an_old_token_is_not_covered_by_the_older_branch_however_far_it_goes() {
    let mut water = Water::default();
    let cases = [
        // The session's token, the reader, whether it may be read.
        (token(2, 100), replayed(1, 9000), false),
        (token(2, 100), replayed(2, 99), false),
        (token(2, 100), replayed(2, 100), true),
        (token(1, 100), replayed(2, 100), true),
        (token(1, 100), replayed(2, 99), false),
        (token(1, 100), None, false),
        (token(1, 100), Some(Replayed { system_id: None, ..replayed(1, 100).unwrap() }), false),
        (token(1, 100), Some(Replayed { timeline: None, ..replayed(1, 100).unwrap() }), false),
        (
            token(1, 100),
            Some(Replayed { system_id: Some(SystemId(8)), ..replayed(1, 100).unwrap() }),
            false,
        ),
    ];
    for (causal, reader, expected) in cases {
        water.replayed(0, reader);
        assert_eq!(water.covers(0, &causal), expected, "{causal:?} at {reader:?}");
    }
}

#[test]
fn a_later_sample_of_another_branch_keeps_what_the_session_knew_at_least() {
    let mut water = Water::default();
    let mut causal = token(2, 500);
    causal.write(8, false);
    water.mark(mark(9, 2, 400, 400));
    water.settle(&mut causal);
    assert_eq!(causal, token(2, 500), "a position does not go back on one branch");
    causal.write(9, false);
    water.mark(mark(10, 3, 450, 450));
    water.settle(&mut causal);
    assert_eq!(causal, token(3, 450));
}

#[test]
fn a_late_answer_does_not_replace_a_newer_one() {
    let mut water = Water::default();
    water.mark(mark(5, 1, 50, 50));
    water.mark(mark(4, 1, 40, 40));
    let mut causal = Causal::default();
    causal.write(4, false);
    water.settle(&mut causal);
    assert_eq!(causal, token(1, 50));
}

#[tokio::test]
async fn a_read_of_what_was_written_goes_to_a_reader_that_has_it_else_to_the_primary() {
    let herd = Simulated::new(healthy(3), OPTIONS);
    let mut causal = Causal::default();
    herd.herd.wrote(&mut causal, false);
    let read = |causal: &mut Causal| {
        place(herd.choose_with(Want::Read, &Target::Split, None, causal, &[]))
    };
    assert_eq!(read(&mut causal), Some((0, false)), "no sample yet");
    let stir = |change: &dyn Fn(&mut Water)| {
        herd.herd.water.rcu(|water| {
            let mut water = (**water).clone();
            change(&mut water);
            water
        });
    };
    stir(&|water| water.mark(mark(1, 1, 100, 100)));
    assert_eq!(read(&mut causal), Some((0, false)), "nobody is known to have it");
    stir(&|water| water.replayed(2, replayed(1, 100)));
    for _ in 0..20 {
        assert_eq!(read(&mut causal), Some((2, false)));
    }
    // Its line broke: whatever comes next on it may be another server.
    herd.herd.forget(2);
    assert_eq!(read(&mut causal), Some((0, false)));
    let mut stranger = Causal::default();
    assert!(matches!(read(&mut stranger), Some((1 | 2, false))), "others are not concerned");
}

/// One event of a course in which a primary writes, is sampled, readers replay, and another is promoted.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The session writes: so many bytes of log, acknowledged.
    Write(u64, bool),
    /// Others write.
    Others(u64),
    /// What is in memory goes to disk.
    Flush,
    /// A sample begins.
    Begin,
    /// The sample's question reaches the primary.
    Ask,
    /// Its answer is taken in.
    End,
    /// A reader replays so much more of what is on disk.
    Replay(usize, u64),
    /// A reader's position is taken in.
    Look(usize),
    /// A reader becomes the primary; the other one follows it, by rewinding if need be.
    Promote(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (1..50_u64, any::<bool>()).prop_map(|(n, early)| Event::Write(n, early)),
        2 => (1..50_u64).prop_map(Event::Others),
        3 => Just(Event::Flush),
        4 => Just(Event::Begin),
        4 => Just(Event::Ask),
        4 => Just(Event::End),
        6 => (0..2_usize, 1..120_u64).prop_map(|(r, n)| Event::Replay(r, n)),
        6 => (0..2_usize).prop_map(Event::Look),
        1 => (0..2_usize).prop_map(Event::Promote),
    ];
    prop::collection::vec(event, 1..120)
}

/// The truth: which writes each server has, as (timeline, position).
#[derive(Debug)]
struct World {
    timeline: u32,
    inserted: u64,
    flushed: u64,
    /// Each reader's timeline and position.
    readers: [(u32, u64); 2],
    /// The session's writes that are on the current branch: their end positions.
    writes: Vec<u64>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Wherever a session is let read, every write it was acknowledged and no promotion has lost is there.
    #[test]
    fn a_session_reads_its_own_writes(events in events()) {
        let mut world = World { timeline: 1, inserted: 0, flushed: 0, readers: [(1, 0); 2], writes: Vec::new() };
        let (mut water, mut causal, mut started) = (Water::default(), Causal::default(), 0_u64);
        let mut begun: Option<u64> = None;
        let mut asked: Option<Mark> = None;
        for event in events {
            match event {
                Event::Write(bytes, early) => {
                    world.inserted += bytes;
                    if !early {
                        world.flushed = world.inserted;
                    }
                    world.writes.push(world.inserted);
                    causal.write(started, early);
                }
                Event::Others(bytes) => world.inserted += bytes,
                Event::Flush => world.flushed = world.inserted,
                Event::Begin if begun.is_none() => {
                    started += 1;
                    begun = Some(started);
                }
                Event::Ask => if let (Some(number), None) = (begun, asked) {
                    asked = Some(mark(number, world.timeline, world.flushed, world.inserted));
                },
                Event::End => if let Some(mark) = asked.take() {
                    begun = None;
                    // The edge drops a sample whose primary is none any more.
                    if mark.timeline.0 == world.timeline {
                        water.mark(mark);
                    }
                },
                Event::Replay(reader, bytes) => {
                    let (timeline, lsn) = &mut world.readers[reader];
                    *lsn = (*lsn + bytes).min(world.flushed).max(*lsn);
                    *timeline = world.timeline;
                }
                Event::Look(reader) => {
                    let (timeline, lsn) = world.readers[reader];
                    water.replayed(reader, replayed(timeline, lsn));
                }
                Event::Promote(reader) => {
                    let fork = world.readers[reader].1;
                    world.timeline += 1;
                    (world.inserted, world.flushed) = (fork, fork);
                    // What only the old primary had is lost, on every node.
                    world.writes.retain(|end| *end <= fork);
                    for (node, (_, lsn)) in world.readers.iter_mut().enumerate() {
                        if *lsn > fork {
                            *lsn = fork;
                            // Rewinding stops it, which ends its line.
                            water.replayed(node, None);
                        }
                    }
                    world.readers[reader].0 = world.timeline;
                }
                Event::Begin => {}
            }
            water.settle(&mut causal);
            for (node, (_, lsn)) in world.readers.iter().enumerate() {
                if causal.needs() && water.covers(node, &causal) {
                    let missing: Vec<_> = world.writes.iter().filter(|end| *end > lsn).collect();
                    prop_assert!(missing.is_empty(), "{missing:?} is not at {lsn}, {causal:?}");
                }
            }
        }
    }
}
