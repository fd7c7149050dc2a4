use super::*;
use crate::stamp::NodeId;

fn stamp(micros: i64) -> Stamp {
    Stamp::new(micros, NodeId(1))
}

fn row(micros: i64) -> Held {
    Held::Row { stamp: stamp(micros), hash: micros }
}

fn deleted(micros: i64) -> Held {
    Held::Deleted { stamp: stamp(micros) }
}

#[test]
fn only_buckets_that_differ_are_looked_into_and_in_groups_that_fit() {
    let mut members = [Sums::default(), Sums::default()];
    for sums in &mut members {
        for bucket in 0..BUCKETS {
            sums.add(bucket, 10, 7);
        }
    }
    members[1].add(3, 1, 9);
    members[1].add(4, 0, 1);
    members[0].add(1000, 50, 1);
    members[0].add(1001, 1, 0);
    assert_eq!(differing(&members, 25), [vec![3, 4], vec![1000], vec![1001]]);
    assert_eq!(differing(&members[..1], 25), Vec::<Vec<usize>>::new());
}

#[test]
fn rows_that_moved_between_two_parts_of_a_file_add_up_to_the_same() {
    let (mut one, mut other) = (Sums::default(), Sums::default());
    one.add(5, 2, i128::from(i64::MAX) * 2);
    other.add(5, 1, i128::from(i64::MAX));
    other.add(5, 1, i128::from(i64::MAX));
    assert_eq!(one, other);
}

#[test]
fn a_key_under_way_is_open_and_one_that_was_passed_over_differs() {
    let cases = [
        // received, held, judgement
        (None, vec![row(5), row(4)], Judgement::Open),
        (Some(stamp(5)), vec![row(5), row(4)], Judgement::Differs),
        (Some(stamp(5)), vec![row(5), Held::Absent], Judgement::Differs),
        (Some(stamp(5)), vec![row(5), row(6)], Judgement::Open),
        (Some(stamp(5)), vec![row(5), deleted(6)], Judgement::Open),
        (Some(stamp(5)), vec![deleted(5), Held::Absent], Judgement::Same),
        (Some(stamp(5)), vec![row(5), deleted(5)], Judgement::Differs),
        (Some(stamp(5)), vec![row(5), Held::Evicted { stamp: stamp(5) }], Judgement::Differs),
        (Some(stamp(7)), vec![row(5), Held::Truncated { stamp: stamp(7) }], Judgement::Differs),
    ];
    for (received, held, expected) in cases {
        assert_eq!(judge(received, &held), expected, "{received:?} {held:?}");
    }
}

#[test]
fn two_rows_of_one_version_differ_whatever_is_under_way() {
    let forged = Held::Row { stamp: stamp(5), hash: 99 };
    assert_eq!(judge(None, &[row(5), forged, row(6)]), Judgement::Differs);
}

#[test]
fn one_look_alone_condemns_no_key() {
    let mut suspect = Suspect::new(vec![row(5), Held::Absent]);
    assert_eq!(suspect.look(true, vec![row(5), Held::Absent]), Judgement::Open);
    assert_eq!(suspect.look(true, vec![row(5), row(5)]), Judgement::Same);
    let mut suspect = Suspect::new(vec![row(5), Held::Absent]);
    suspect.look(true, vec![row(5), Held::Absent]);
    assert_eq!(suspect.look(true, vec![row(5), Held::Absent]), Judgement::Differs);
}

#[test]
fn nothing_is_condemned_while_the_links_have_not_passed() {
    let mut suspect = Suspect::new(vec![row(5), Held::Absent]);
    for _ in 0..10 {
        assert_eq!(suspect.look(false, vec![row(5), Held::Absent]), Judgement::Open);
    }
}

/// Members that write one key and receive from each other in order, some of it late. Looks are torn: each member is looked
/// at at another moment.
struct Mesh {
    random: fastrand::Rng,
    clock: i64,
    /// Whether nobody writes.
    quiet: bool,
    held: Vec<Held>,
    /// By source and target, what has not arrived.
    links: Vec<Vec<Vec<Held>>>,
}

impl Mesh {
    fn new(seed: u64, count: usize) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            clock: 0,
            quiet: false,
            held: vec![Held::Absent; count],
            links: vec![vec![Vec::new(); count]; count],
        }
    }

    fn step(&mut self) {
        if self.quiet {
            return;
        }
        let (one, other) = (self.pick(), self.pick());
        if self.random.bool() {
            self.clock += 1;
            let node = NodeId(i16::try_from(one).unwrap());
            let stamp = Stamp::new(self.clock, node);
            let version = match (self.random.u8(..3), self.held[one].visible()) {
                (0, Some(_)) => Held::Deleted { stamp },
                _ => Held::Row { stamp, hash: self.clock },
            };
            self.held[one] = version;
            for target in 0..self.held.len() {
                self.links[one][target].push(version);
            }
        } else if !self.links[one][other].is_empty() {
            self.deliver(one, other, 1);
        }
    }

    fn pick(&mut self) -> usize {
        self.random.usize(..self.held.len())
    }

    fn deliver(&mut self, source: usize, target: usize, count: usize) {
        for version in self.links[source][target].drain(..count) {
            if self.held[target].stamp() < version.stamp() {
                self.held[target] = version;
            }
        }
    }

    fn look(&mut self) -> Vec<Held> {
        let mut look = Vec::new();
        for member in 0..self.held.len() {
            look.push(self.held[member]);
            for _ in 0..self.random.u8(..4) {
                self.step();
            }
        }
        look
    }

    /// Everything written so far arrives, while more is written.
    fn pass(&mut self) {
        let members = self.held.len();
        for (source, target) in (0..members).flat_map(|s| (0..members).map(move |t| (s, t))) {
            let waiting = self.links[source][target].len();
            self.deliver(source, target, waiting);
            self.step();
        }
    }
}

#[test]
fn no_key_of_a_mesh_at_work_is_condemned_and_every_damaged_one_is() {
    let mut condemned = 0;
    for seed in 0..3000_u64 {
        let mut mesh = Mesh::new(seed, 2 + usize::try_from(seed % 3).unwrap());
        for _ in 0..20 {
            mesh.step();
        }
        let damaged = seed % 2 == 0;
        if damaged {
            // One member loses a row, and nobody writes it again.
            mesh.held.fill(row(mesh.clock + 1));
            mesh.held[0] = Held::Absent;
            mesh.links.iter_mut().flatten().for_each(Vec::clear);
            mesh.quiet = true;
        }
        let mut suspect = Suspect::new(mesh.look());
        for _ in 0..6 {
            mesh.pass();
            let look = mesh.look();
            match suspect.look(true, look) {
                Judgement::Differs => {
                    assert!(damaged, "seed {seed}: {suspect:?}");
                    condemned += 1;
                    break;
                }
                Judgement::Same => break,
                Judgement::Open => {}
            }
        }
    }
    assert_eq!(condemned, 1500);
}
