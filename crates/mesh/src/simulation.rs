//! Simulated meshes: members with clocks of their own write, and receive each other's changes late, in groups, in any order
//! between writers and more than once, while they crash, join and are lost; in the end all must hold the same, and nothing
//! may have been lost without a record.
//!
//! `HERDSMAN_SEED=17` replays one schedule and prints what happened; `HERDSMAN_SOAK=1` runs ten million operations instead
//! of the few seconds' worth of a normal test run, another number that many.

mod apply;
mod check;
mod controls;
mod history;
mod incoming;
mod judge;
mod lanes;
mod local;
mod members;
mod node;
mod parts;
mod rules;
mod untouched;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;

use fastrand::Rng;

use self::history::History;
use self::node::{Life, Node, Progress};
use self::rules::Rules;

/// What is done about conflicts besides recording them.
#[derive(Clone, Copy, Debug)]
enum Answers {
    None,
    Priority,
    First,
}

/// What a number of schedules came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    operations: u64,
    applied: u64,
    conflicts: u64,
    false_sure: u64,
    false_unsure: u64,
    truncated: u64,
    truncates: u64,
    evicted: u64,
    crashes: u64,
    joined: u64,
    lost: u64,
    pruned: u64,
    answers: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.applied += other.applied;
        self.conflicts += other.conflicts;
        self.false_sure += other.false_sure;
        self.false_unsure += other.false_unsure;
        self.truncated += other.truncated;
        self.truncates += other.truncates;
        self.evicted += other.evicted;
        self.crashes += other.crashes;
        self.joined += other.joined;
        self.lost += other.lost;
        self.pruned += other.pruned;
        self.answers += other.answers;
    }
}

/// One schedule.
struct World {
    rng: Rng,
    rules: Rules,
    /// The true time, in microseconds.
    now: i64,
    /// How finely clocks tell the time.
    coarse: i64,
    /// How far they are off at most.
    widest: i64,
    /// How far below the frontier tombstones are kept: more than any clock steps back.
    margin: i64,
    memory: usize,
    crashes: bool,
    /// Whether transactions that were applied come again and are joined again.
    repeats: bool,
    policy: Answers,
    in_other_session: bool,
    /// Where members have lanes, what happens in them: in every fifth schedule, and without a change to what happens besides.
    lanes: Option<Rng>,
    /// The latest deletion of each key that some member has forgotten.
    forgotten: [Option<history::Id>; node::SPOTS],
    /// How many of a hundred times users do something when they could: there are quiet hours.
    busy: u8,
    /// Rows that a truncation removed whose writer should have known them, by signs of life. Those are not exact while
    /// a clock steps back.
    blurred: Vec<history::Id>,
    nodes: Vec<Node>,
    history: History,
    tally: Tally,
    story: Option<VecDeque<String>>,
    wrong: Option<String>,
}

impl World {
    fn new(seed: u64, rules: Rules, tells: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let widest = *rng.choice(&[0, 20_000, 5_000_000]).unwrap();
        let mut world = Self {
            rules,
            now: 1_000_000_000,
            coarse: *rng.choice(&[1, 1, 100_000, 1_000_000]).unwrap(),
            widest,
            margin: 2 * widest + 2_000_000,
            memory: *rng.choice(&[2, 8, 100]).unwrap(),
            crashes: rng.bool(),
            repeats: rng.u8(0..6) == 0,
            policy: *rng
                .choice(&[Answers::None, Answers::None, Answers::Priority, Answers::First])
                .unwrap(),
            in_other_session: false,
            lanes: (seed % 5 == 4).then(|| Rng::with_seed(!seed)),
            forgotten: [None; node::SPOTS],
            busy: 100,
            blurred: Vec::new(),
            nodes: Vec::new(),
            history: History::default(),
            tally: Tally::default(),
            story: tells.then(VecDeque::new),
            wrong: None,
            rng,
        };
        let members = world.rng.usize(3..=5);
        for _ in 0..members {
            let skew = world.skew();
            let mut node = Node::new(skew, world.memory);
            node.state.progress = vec![Some(Progress { at: 0, heartbeat: None }); members];
            node.received = vec![0; members];
            node.cut = vec![0; members];
            node.slots = vec![None; members];
            world.nodes.push(node);
        }
        world
    }

    fn skew(&mut self) -> i64 {
        self.rng.i64(-self.widest..=self.widest)
    }

    fn run(&mut self) {
        let steps = self.rng.usize(300..2500);
        let pace = *self.rng.choice(&[2_000, 20_000, 100_000]).unwrap();
        for _ in 0..steps {
            self.now += self.rng.i64(0..pace);
            self.step();
            if self.wrong.is_some() {
                return;
            }
        }
        self.come_to_rest();
        self.check();
    }

    fn step(&mut self) {
        let members = self.of_life(Life::Active);
        let n = *self.rng.choice(&members).unwrap();
        if self.now - self.nodes[n].beaten > 1_000_000 && self.rng.u8(0..4) == 0 {
            self.beat(n);
        }
        if self.rng.u16(0..300) == 0 {
            self.busy = *self.rng.choice(&[100, 100, 5, 0]).unwrap();
        }
        match self.rng.u16(0..1000) {
            0..500 if self.rng.u8(0..100) < self.busy => self.act(n),
            10..20 if !self.repeats => self.prune(n),
            20..30 => self.go_on(),
            0..500 => {}
            500..700 => self.receive(n),
            700..940 => {
                let durable = self.rng.u8(0..3) == 0;
                self.apply_some(n, durable);
            }
            940..960 => self.write_answers(n),
            960..972 => {
                // Its own changes come late as often as all others together.
                let from = if self.rng.bool() { n } else { self.rng.usize(..self.nodes.len()) };
                let long = *self.rng.choice(&[1, 1, 1, 10]).unwrap();
                self.nodes[n].cut[from] = self.now + self.rng.i64(0..long * 5_000_000);
            }
            972..975 => {
                let skew = self.skew();
                self.nodes[n].set_back |= skew < self.nodes[n].skew;
                self.nodes[n].skew = skew;
                self.note(&format!("n{}'s clock is set", n + 1));
            }
            975..979 if self.crashes => self.crash(n),
            979..990 if !self.repeats => self.prune(n),
            990..992 if self.nodes.len() < 7 && self.is_whole() => self.register(),
            992 if members.len() > 2 && self.is_whole() && self.tally.lost < 2 => self.lose(n),
            _ => self.go_on(),
        }
    }

    /// Who is joining gets further, or what a lost member left is spread.
    fn go_on(&mut self) {
        if let Some(joining) = self.of_life(Life::Joining).first() {
            self.join_on(*joining);
        }
        if let Some(lost) = self.of_life(Life::Lost).first() {
            self.heal(*lost);
        }
    }

    /// Whether nobody is joining and nobody is missed.
    fn is_whole(&self) -> bool {
        self.of_life(Life::Joining).is_empty() && self.of_life(Life::Lost).is_empty()
    }

    /// More of some members' logs comes in.
    fn receive(&mut self, t: usize) {
        for s in 0..self.nodes.len() {
            let (there, cut) = (self.nodes[s].log.len(), self.nodes[t].cut[s]);
            let comes = self.nodes[s].is_alive() && cut < self.now;
            if comes && self.nodes[t].state.progress[s].is_some() && self.rng.bool() {
                let received = &mut self.nodes[t].received[s];
                *received = self.rng.usize((*received).min(there)..=there);
            }
        }
    }

    /// Users stop, and everything arrives.
    fn come_to_rest(&mut self) {
        for n in self.of_life(Life::Active) {
            while !self.nodes[n].open.is_empty() {
                self.end(n, 0, true);
            }
        }
        let mut rounds = 0;
        loop {
            let mut rests = true;
            for n in self.of_life(Life::Active) {
                for s in 0..self.nodes.len() {
                    if self.nodes[s].is_alive() {
                        self.nodes[n].received[s] = self.nodes[s].log.len();
                    }
                }
                while self.apply_some(n, true) {
                    rests = false;
                    // Users act while a transaction runs, but no more now.
                    while !self.nodes[n].open.is_empty() {
                        self.end(n, 0, true);
                    }
                }
                // Answers have to arrive, too.
                rests &= self.nodes[n].answers.is_empty();
                self.write_answers(n);
            }
            for joining in self.of_life(Life::Joining) {
                self.join_on(joining);
                rests = false;
            }
            for lost in self.of_life(Life::Lost) {
                self.heal(lost);
                rests = false;
            }
            if rests || self.wrong.is_some() {
                return;
            }
            rounds += 1;
            if rounds > 10_000 {
                return self.complain("it does not come to rest".to_owned());
            }
        }
    }

    fn complain(&mut self, what: String) {
        self.note(&what);
        self.wrong.get_or_insert(what);
    }

    fn note(&mut self, text: &str) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.push_back(format!("{now} {text}"));
            if story.len() > 3000 {
                story.pop_front();
            }
        }
    }
}

/// Runs one schedule.
fn simulate(seed: u64, rules: Rules) -> Result<Tally, String> {
    let mut world = World::new(seed, rules, false);
    world.run();
    match world.wrong {
        None => Ok(world.tally),
        Some(wrong) => Err(format!("seed {seed}: {wrong}\nreplay with HERDSMAN_SEED={seed}")),
    }
}

/// Runs one schedule and says what happened, with everything if something was wrong.
fn replay(seed: u64) -> Result<Tally, String> {
    let mut world = World::new(seed, Rules::ALL, true);
    world.run();
    let story: Vec<_> = world.story.into_iter().flatten().collect();
    match world.wrong {
        None => Ok(world.tally),
        Some(wrong) => Err(format!("{}\nseed {seed}: {wrong}", story.join("\n"))),
    }
}

fn from_environment(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[expect(clippy::print_stderr, reason = "what was simulated is part of the proof")]
#[test]
fn members_end_up_alike_and_nothing_is_lost_without_a_record() {
    if let Some(seed) = from_environment("HERDSMAN_SEED") {
        let tally = replay(seed).unwrap_or_else(|story| panic!("{story}"));
        eprintln!("{tally:?}");
        return;
    }
    let wanted = match from_environment("HERDSMAN_SOAK") {
        None => 200_000,
        Some(1) => 10_000_000,
        Some(operations) => operations,
    };
    let mut total = Tally::default();
    let mut seed = 0;
    while total.operations < wanted {
        total.add(&simulate(seed, Rules::ALL).unwrap_or_else(|wrong| panic!("{wrong}")));
        seed += 1;
    }
    let story = format!("mesh: {seed} schedules ended alike: {total:?}");
    eprintln!("{story}");
    if let Ok(path) = std::env::var("HERDSMAN_SOAK_REPORT") {
        let mut report = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(report, "{story}").unwrap();
    }
    let schedules = seed;
    assert!(total.conflicts > schedules && total.applied > total.operations, "{total:?}");
    let things = [total.evicted, total.crashes, total.joined, total.lost, total.pruned];
    assert!(things.iter().all(|count| *count > 0), "schedules must contain everything: {total:?}");
    assert!(total.truncates > 0 && total.answers > 0, "{total:?}");
    // Where three members are in it, it cannot always be said who knew what.
    let wrong = total.false_sure + total.false_unsure;
    assert!(wrong * 5 < total.conflicts, "too many records are of no conflict: {total:?}");
}
