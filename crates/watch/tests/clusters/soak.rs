//! The soak: random faults one after another on one herd, and a checker that shares nothing with the watcher.
//!
//! A client writes to whoever the verdict names, while the checker asks every server at its own port and knows what the
//! test did to it. After each cycle it tells which acknowledged writes went to an old primary, whether any of them came
//! later than it may, and whether the verdict agreed with the truth in time. A poll alone cannot make the first of these
//! figures zero, so it is published; all else is asserted.
//!
//! `HERDSMAN_SOAK_CYCLES` sets the number of cycles (8; 200 with `HERDSMAN_SOAK=1`), `HERDSMAN_SOAK_PG` the version of
//! PostgreSQL (15), `HERDSMAN_SOAK_REPORT` a file that the summary is appended to; with
//! `HERDSMAN_SOAK_STORIES` all that was done, true and said is printed for every cycle. Cycle `n` of a run from seed `s` has
//! seed `s + n`, so `HERDSMAN_SEED=<seed of a cycle> HERDSMAN_SOAK_CYCLES=1` plans that cycle again.
#![expect(clippy::print_stdout, reason = "the figures are published with --nocapture")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use herdsman_watch::WatchConfig;
use tokio::time::{Instant, sleep, timeout};

use self::check::{Facts, check};
use self::plan::Plan;
use self::report::{Report, Row};
use self::script::{Cast, Record, Script};
use self::truth::Truth;
use self::verdicts::Verdicts;
use self::writer::Writer;
use crate::herd::Herd;

mod check;
mod plan;
mod report;
mod script;
mod truth;
mod verdicts;
mod writer;

/// Bound on one cycle, healing included.
const CYCLE_DEADLINE: Duration = Duration::from_secs(60);
/// A run with so many bad cycles will not get better.
const ENOUGH_BAD_CYCLES: usize = 5;

/// What is asked for in the environment.
struct Order {
    cycles: u64,
    seed: u64,
    version: u32,
}

/// A herd with everybody who looks at it.
struct Soak {
    herd: Herd,
    truth: Truth,
    verdicts: Verdicts,
    writer: Writer,
    /// Print the story of good cycles too.
    tells_stories: bool,
    /// All acknowledged writes of the run.
    acked: BTreeSet<i64>,
    /// Those of them that were missing when their cycle was over.
    lost: BTreeSet<i64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_random_faults_a_client_that_follows_the_verdict_soon_writes_to_the_true_primary() {
    let order = Order::from_environment();
    Box::pin(order.run()).await;
}

impl Order {
    fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str| {
            set(name).map(|value| {
                value.parse::<u64>().unwrap_or_else(|_| panic!("{name}={value} is no whole number"))
            })
        };
        let usual = if set("HERDSMAN_SOAK").is_some_and(|value| value == "1") { 200 } else { 8 };
        Self {
            cycles: number("HERDSMAN_SOAK_CYCLES").unwrap_or(usual),
            seed: number("HERDSMAN_SEED").unwrap_or_else(|| u64::from(fastrand::u32(..))),
            version: number("HERDSMAN_SOAK_PG").map_or_else(
                || if herdsman_sandbox::tested_versions().contains(&15) { 15 } else { 18 },
                |version| u32::try_from(version).unwrap(),
            ),
        }
    }

    async fn run(self) {
        let Self { cycles, seed, version } = self;
        let title = format!("soak: PostgreSQL {version}, {cycles} cycles, HERDSMAN_SEED={seed}");
        println!("{title}\n{}", report::heading());
        let began = Instant::now();
        let mut soak = Soak::start(version).await;
        let mut report = Report::default();
        let mut bad = Vec::new();
        for cycle in 0..cycles {
            let seed = seed.wrapping_add(cycle);
            let plan = Plan::draw(seed);
            let (row, violations) = Box::pin(soak.cycle(cycle, seed, &plan)).await;
            println!("{}", report::line(&row));
            report.rows.push(row);
            if let Some(violations) = violations {
                println!("{violations}");
                bad.push(violations);
            }
            if bad.len() >= ENOUGH_BAD_CYCLES {
                break;
            }
        }
        let title = format!(
            "{title}, {} done in {:.0?}, {} bad",
            report.rows.len(),
            began.elapsed(),
            bad.len()
        );
        let summary = report.summary(&title, &soak.writer.counts());
        println!("{summary}");
        if let Ok(path) = std::env::var("HERDSMAN_SOAK_REPORT") {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            file.unwrap().write_all(summary.as_bytes()).unwrap();
        }
        assert!(bad.is_empty(), "{title}\n{}", bad.join("\n"));
        soak.nothing_else_is_missing().await;
    }
}

impl Soak {
    async fn start(version: u32) -> Self {
        let herd = Herd::start(version, 2).await;
        let app = herd.sandbox.sql("n1", "app").await.unwrap();
        app.batch_execute(writer::CREATE_TABLE).await.unwrap();
        let truth = Truth::start(&herd.sandbox);
        let verdicts = Verdicts::start(&herd.watch());
        let writer = Writer::start(&herd.sandbox, herd.watch());
        let deadline = Instant::now() + CYCLE_DEADLINE;
        while truth.primary().is_err() {
            assert!(Instant::now() < deadline, "the checker cannot see who is primary");
            sleep(Duration::from_millis(10)).await;
        }
        let tells_stories = std::env::var_os("HERDSMAN_SOAK_STORIES").is_some();
        Self {
            herd,
            truth,
            verdicts,
            writer,
            tells_stories,
            acked: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    /// One fault and its healing; the violations, with the story of the cycle.
    async fn cycle(&mut self, cycle: u64, seed: u64, plan: &Plan) -> (Row, Option<String>) {
        let cast = self.cast(plan).await;
        let mut script =
            Script { sandbox: &self.herd.sandbox, truth: &self.truth, record: Record::new(cast) };
        let playing = async {
            script.play(plan).await?;
            script.heal().await?;
            self.settled(&mut script).await
        };
        let played = timeout(CYCLE_DEADLINE, Box::pin(playing)).await;
        let record = script.record;
        let what = format!("cycle {cycle}, seed {seed}, {} ({plan:?})", plan.kind);
        let acks = self.writer.take();
        let problem = match played {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some(format!("not over within {CYCLE_DEADLINE:?}")),
        };
        let ids: BTreeSet<i64> = acks.iter().map(|ack| ack.id).collect();
        let missing = match &problem {
            None => self.missing(record.last_primary(), &ids).await,
            Some(_) => BTreeSet::new(),
        };
        self.acked.extend(&ids);
        self.lost.extend(&missing);
        let facts = Facts {
            record: &record,
            ended: Instant::now(),
            acks: &acks,
            missing: &missing,
            heard: &self.verdicts.since(record.started),
            slow: &self.truth.slow_since(record.started),
            lease: WatchConfig::default().lease(),
        };
        if let Some(problem) = problem {
            let (story, topology) =
                (report::story(&facts, &self.truth), self.herd.watch().topology());
            panic!("{what}: {problem}\n{story}\nlast topology: {topology:#?}");
        }
        let (figures, mut violations) = check(&facts);
        for ack in &acks {
            self.verdicts.hear_client(ack.term, &ack.node);
        }
        violations.extend(self.verdicts.take_contradictions());
        if self.tells_stories {
            println!("{}", report::story(&facts, &self.truth));
        }
        let told = (!violations.is_empty()).then(|| {
            format!("{what}:\n{}\n{}", violations.join("\n"), report::story(&facts, &self.truth))
        });
        (Row { cycle, seed, kind: plan.kind, figures }, told)
    }

    /// Who plays which part now. The herd must be settled.
    async fn cast(&self, plan: &Plan) -> Cast {
        let (old, timeline) = self.truth.primary().unwrap();
        let mut standbys: Vec<_> =
            self.herd.sandbox.node_names().into_iter().filter(|name| *name != old).collect();
        if plan.second {
            standbys.swap(0, 1);
        }
        let [chosen, other] = standbys.try_into().unwrap();
        Cast { old, timeline, chosen, other }
    }

    /// Waits until the truth and the verdict are at rest: one primary, named, and both standbys follow it.
    async fn settled(&self, script: &mut Script<'_>) -> Result<(), String> {
        let primary = script.record.last_primary().to_owned();
        let watch = self.herd.watch();
        loop {
            let topology = watch.topology();
            let named = topology.primary().is_some_and(|node| node.as_str() == primary);
            let follow = topology.nodes.iter().filter(|(name, _)| name.as_str() != primary).all(
                |(_, view)| view.follows.as_ref().is_some_and(|node| node.as_str() == primary),
            );
            let one = self.truth.primary().is_ok_and(|(node, _)| node == primary);
            if named && follow && one {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        // What is acknowledged up to here must survive the next promotion: losses belong to the cycle that made them.
        self.herd.sandbox.wait_replayed().await.map_err(|error| error.to_string())
    }

    /// Which acknowledged writes the node does not have.
    async fn missing(&self, node: &str, ids: &BTreeSet<i64>) -> BTreeSet<i64> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return BTreeSet::new() };
        let client = self.herd.sandbox.sql(node, "postgres").await.unwrap();
        let query = r#"SELECT "id" FROM "public"."soak" WHERE "id" BETWEEN $1 AND $2"#;
        let rows = client.query(query, &[first, last]).await.unwrap();
        let there: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        ids.difference(&there).copied().collect()
    }

    /// Nothing is missing in the end but what was found missing in its own cycle.
    async fn nothing_else_is_missing(&self) {
        let (primary, _) = self.truth.primary().unwrap();
        let missing = self.missing(&primary, &self.acked).await;
        let later: Vec<_> = missing.difference(&self.lost).collect();
        assert!(
            later.is_empty(),
            "acknowledged, found after their cycle and lost since: {later:?}"
        );
    }
}
