use super::*;
use crate::sinks::conformance::{batch, keyed, row};

fn error(problem: &str) -> SinkError {
    let target = "http://a".to_owned();
    SinkError { what: "post to", target, problem: problem.to_owned(), advice: "b", reopen: false }
}

/// Runs a batch against a receiver that is a function; the ranges sent, and what is left as `index:why`.
fn run(
    batch: &Batch,
    together: bool,
    receiver: impl Fn(&Range<usize>) -> Verdict,
) -> (Vec<Range<usize>>, Result<(), Vec<String>>) {
    let mut progress = Progress::of(batch, Shape::Herdsman, together);
    let mut sent = Vec::new();
    while let Some(request) = progress.next() {
        // In these tests, changes are of different rows, so that the places of a request have no gaps.
        let range = request.places[0]..request.places[0] + request.places.len();
        let verdict = receiver(&range);
        sent.push(range);
        progress.record(request.places, verdict);
    }
    let result = progress.result().map_err(|error| match error {
        DeliveryError::Unavailable(_) => vec!["unavailable".to_owned()],
        DeliveryError::Partly(left) => left
            .into_iter()
            .map(|undelivered| {
                let why = match undelivered.why {
                    Why::Failed(_) => "failed",
                    Why::Rejected(_) => "rejected",
                    Why::Behind => "behind",
                };
                format!("{}:{why}", undelivered.index)
            })
            .collect(),
    });
    (sent, result)
}

fn rows(count: u64) -> Batch {
    batch((0..count).map(|ordinal| row(ordinal, "a")).collect())
}

fn left(expected: &[&str]) -> Result<(), Vec<String>> {
    Err(expected.iter().map(|&text| text.to_owned()).collect())
}

#[test]
fn a_batch_that_is_taken_is_one_request() {
    assert_eq!(run(&rows(8), true, |_| Verdict::Taken), (std::iter::once(0..8).collect(), Ok(())));
    assert_eq!(run(&rows(3), false, |_| Verdict::Taken), (vec![0..1, 1..2, 2..3], Ok(())));
}

#[test]
fn refused_changes_are_found_by_halves_and_all_others_arrive() {
    for refused in [&[0][..], &[7], &[3], &[2, 5], &[0, 1, 2, 3, 4, 5, 6, 7]] {
        let receiver = |range: &Range<usize>| match refused.iter().any(|i| range.contains(i)) {
            true => Verdict::Refused(error("400")),
            false => Verdict::Taken,
        };
        let (sent, result) = run(&rows(8), true, receiver);
        let expected: Vec<_> = refused.iter().map(|index| format!("{index}:rejected")).collect();
        assert_eq!(result, Err(expected), "{refused:?}");
        assert!(sent.len() <= 1 + 6 * refused.len(), "{sent:?}");
        // Requests that were taken are in order and cover all the others exactly once.
        let taken = sent.iter().filter(|range| !refused.iter().any(|i| range.contains(i)));
        let taken: Vec<_> = taken.cloned().flatten().collect();
        assert_eq!(taken, (0..8).filter(|i| !refused.contains(i)).collect::<Vec<_>>());
    }
}

#[test]
fn a_failing_change_is_found_and_what_comes_after_it_is_left_for_the_next_time() {
    let receiver = |range: &Range<usize>| match range.contains(&5) {
        true => Verdict::Failed(error("500")),
        false => Verdict::Taken,
    };
    let (sent, result) = run(&rows(8), true, receiver);
    assert_eq!(result, left(&["5:failed", "6:behind", "7:behind"]));
    assert_eq!(sent, [0..8, 0..4, 4..8, 4..6, 4..5, 5..6]);
}

#[test]
fn a_receiver_that_fails_on_everything_is_not_asked_about_each_change() {
    let (sent, _) = run(&rows(1000), true, |_| Verdict::Failed(error("500")));
    assert!(sent.len() <= 12, "{}", sent.len());
    let (sent, result) = run(&rows(1000), false, |_| Verdict::Failed(error("500")));
    assert_eq!(sent.len(), 3);
    assert_eq!(result.unwrap_err().len(), 1000);
}

#[test]
fn one_by_one_a_failure_blocks_its_own_row_only() {
    let changes = [1, 2, 1, 3, 2].iter().zip(0..).map(|(id, ordinal)| keyed(ordinal, *id, "a"));
    let batch = batch(changes.collect());
    let fails = |index: usize| {
        move |range: &Range<usize>| match range.start == index {
            true => Verdict::Failed(error("500")),
            false => Verdict::Taken,
        }
    };
    let (sent, result) = run(&batch, false, fails(0));
    assert_eq!((sent, result), (vec![0..1, 1..2, 3..4, 4..5], left(&["0:failed", "2:behind"])));
}

#[test]
fn what_follows_a_refused_change_of_the_same_row_waits_until_that_is_a_dead_letter() {
    let changes = [1, 2, 1, 3, 1].iter().zip(0..).map(|(id, ordinal)| keyed(ordinal, *id, "a"));
    let batch = batch(changes.collect());
    for together in [true, false] {
        let mut progress = Progress::of(&batch, Shape::Herdsman, together);
        let mut taken = Vec::<usize>::new();
        while let Some(request) = progress.next() {
            if request.places.contains(&0) {
                progress.record(request.places, Verdict::Refused(error("400")));
            } else {
                taken.extend(&request.places);
                progress.record(request.places, Verdict::Taken);
            }
        }
        assert_eq!(taken, [1, 3]);
        let Err(DeliveryError::Partly(left)) = progress.result() else { panic!() };
        let left: Vec<_> = left.iter().map(|undelivered| undelivered.index).collect();
        assert_eq!(left, [0, 2, 4]);
    }
}

#[test]
fn an_outage_is_one_of_the_sink_until_something_was_delivered() {
    let down = |_: &Range<usize>| Verdict::Down(error("503"));
    assert_eq!(run(&rows(4), true, down).1, left(&["unavailable"]));
    assert_eq!(
        run(&rows(4), false, down),
        (std::iter::once(0..1).collect(), left(&["unavailable"]))
    );
    let later = |range: &Range<usize>| match range.start {
        0 => Verdict::Taken,
        _ => Verdict::Down(error("503")),
    };
    assert_eq!(run(&rows(4), false, later).1, left(&["1:failed", "2:behind", "3:behind"]));
}

#[test]
fn the_key_is_that_of_the_changes_and_of_nothing_else() {
    let key = |batch: &Batch, shape| {
        Progress::of(batch, shape, true).next().map(|request| request.key).unwrap()
    };
    let one = key(&rows(3), Shape::Herdsman);
    assert_eq!(one, key(&rows(3), Shape::Wal2json));
    assert_ne!(one, key(&rows(2), Shape::Herdsman));
    assert_ne!(one, key(&batch(vec![row(0, "a"), row(1, "a"), row(3, "a")]), Shape::Herdsman));
}

#[test]
fn bodies_are_json() {
    let batch = rows(3);
    let body = |together| {
        let request = Progress::of(&batch, Shape::Herdsman, together).next().unwrap();
        serde_json::from_slice::<serde_json::Value>(&request.body).unwrap()
    };
    assert_eq!(body(true)["changes"].as_array().unwrap().len(), 3);
    assert_eq!(body(true)["changes"][0], body(false));
}
