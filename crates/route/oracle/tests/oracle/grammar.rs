//! What the classifier calls a read, PostgreSQL's grammar never calls a write.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::AddAssign;

use fastrand::Rng;
use herdsman::classify::{Functions, classify};
use herdsman_classify_oracle::{Judgement, Volatility, corpus, judge, mutate};

use crate::servers::{Catalogue, catalogues};

/// The grammar is that of this version: only with its catalogue is the table of built-in functions complete.
const NEWEST: u32 = 18;
/// Statements the corpus must have, so that an empty folder is no success.
const LEAST: usize = 20_000;
/// Mutants that the grammar accepts, in a bounded run; `HERDSMAN_SOAK=<n>` asks for more.
const MUTANTS: usize = 200_000;
/// The grammar recurses.
const STACK: usize = 64 << 20;

/// What the classifier knows of functions, and what the judge knows of the same.
struct Knowledge {
    name: &'static str,
    functions: Functions,
    volatility: Volatility,
}

#[derive(Default)]
struct Tally {
    statements: usize,
    rejected: usize,
    /// Reads to the grammar.
    reads: usize,
    /// Of these, reads to the classifier too.
    found: usize,
    wrong: Vec<String>,
    missed: Vec<String>,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.statements += other.statements;
        self.rejected += other.rejected;
        self.reads += other.reads;
        self.found += other.found;
        self.wrong.extend(other.wrong);
        self.missed.extend(other.missed);
    }
}

impl Tally {
    fn add(&mut self, sql: &str, knowledge: &Knowledge) {
        self.statements += 1;
        let class = classify(sql, &knowledge.functions);
        match judge(sql, &knowledge.volatility) {
            Judgement::Rejected => self.rejected += 1,
            Judgement::Write(why) if class.is_read() => self.wrong.push(format!("{why}: {sql:?}")),
            Judgement::Write(_) => {}
            Judgement::Read => {
                self.reads += 1;
                self.found += usize::from(class.is_read());
                if !class.is_read() {
                    self.missed.push(format!("{}: {sql:?}", class.why));
                }
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    fn recall(&self) -> f64 {
        100.0 * self.found as f64 / self.reads.max(1) as f64
    }

    fn report(&self, what: &str, knowledge: &Knowledge) {
        println!(
            "{what}, {}: {} statements, {} rejected by the grammar, {} reads to the grammar, {} of them to the classifier \
             ({:.1} %), {} writes called reads",
            knowledge.name,
            self.statements,
            self.rejected,
            self.reads,
            self.found,
            self.recall(),
            self.wrong.len()
        );
        if std::env::var_os("HERDSMAN_SHOW_MISSED").is_some() {
            self.missed.iter().for_each(|missed| println!("missed: {missed}"));
        }
    }

    fn assert_no_write_called_a_read(&self) {
        let shown: Vec<_> = self.wrong.iter().take(20).map(String::as_str).collect();
        assert!(
            shown.is_empty(),
            "{} writes called reads:\n{}",
            self.wrong.len(),
            shown.join("\n")
        );
    }
}

/// Before the catalogue is known, and after; the functions that the corpus creates are volatile to the judge.
fn knowledge(catalogues: &[Catalogue], statements: &[String]) -> Vec<Knowledge> {
    let created = corpus::created_functions(statements);
    assert!(created.len() > 500, "the corpus creates only {} functions", created.len());
    let mut all = Vec::new();
    if catalogues.iter().any(|catalogue| catalogue.major == NEWEST) {
        let mut volatility = Volatility::default();
        for (name, safe) in catalogues.iter().flat_map(|catalogue| &catalogue.plain) {
            volatility.add(name, *safe);
        }
        let volatility = volatility.only_built_in();
        let functions = Functions::builtin();
        all.push(Knowledge { name: "built-in functions", functions, volatility });
    }
    if let Some(newest) = catalogues.iter().max_by_key(|catalogue| catalogue.major) {
        let mut volatility = Volatility::default();
        newest.plain.iter().for_each(|(name, safe)| volatility.add(name, *safe));
        created.iter().for_each(|name| volatility.add(name, false));
        let created = created.into_iter().map(|name| (name, false));
        let functions = Functions::from_catalogue(newest.learnt.iter().cloned().chain(created));
        all.push(Knowledge { name: "catalogue", functions, volatility });
    }
    all
}

/// Runs work with a seed each on all processors, and adds up what they found.
fn in_parallel(work: impl Fn(usize, usize) -> Tally + Sync) -> Tally {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let start = |worker| {
            let work = &work;
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || work(worker, workers))
                .unwrap()
        };
        let started: Vec<_> = (0..workers).map(start).collect();
        started.into_iter().fold(Tally::default(), |mut sum, worker| {
            sum += worker.join().unwrap();
            sum
        })
    })
}

fn seed() -> u64 {
    let given = std::env::var("HERDSMAN_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| fastrand::u64(..))
}

#[tokio::test]
async fn no_write_of_the_regression_suite_is_called_a_read() {
    let statements = corpus::statements().unwrap();
    assert!(statements.len() >= LEAST, "only {} statements", statements.len());
    for knowledge in knowledge(&catalogues().await, &statements) {
        let tally = in_parallel(|worker, workers| {
            let mut tally = Tally::default();
            let mine = statements.iter().skip(worker).step_by(workers);
            mine.for_each(|sql| tally.add(sql, &knowledge));
            tally
        });
        tally.report("regression suite", &knowledge);
        tally.assert_no_write_called_a_read();
        assert!(tally.statements - tally.rejected >= LEAST);
        assert!(tally.recall() >= 90.0, "too many reads are called writes");
    }
}

#[tokio::test]
async fn no_write_among_mutants_of_the_suite_is_called_a_read() {
    let wanted = std::env::var("HERDSMAN_SOAK").ok().and_then(|count| count.parse().ok());
    let wanted = wanted.map_or(MUTANTS, |count: usize| count.max(MUTANTS));
    let seed = seed();
    println!("HERDSMAN_SEED={seed}");
    // Queries are the ones that could be called reads, so they are bred from more often.
    let suite = corpus::statements().unwrap();
    let queries: Vec<_> = suite
        .iter()
        .filter(|sql| classify(sql, &Functions::builtin()).is_read())
        .cloned()
        .collect();
    let knowledge = knowledge(&catalogues().await, &suite);
    let each = wanted.div_ceil(knowledge.len());
    for (round, knowledge) in (1..).zip(&knowledge) {
        let tally = in_parallel(|worker, workers| {
            let (mut tally, mut seen) = (Tally::default(), HashSet::new());
            let mut rng = Rng::with_seed(
                seed.wrapping_add(round << 32).wrapping_add(u64::try_from(worker).unwrap()),
            );
            while tally.statements - tally.rejected < each.div_ceil(workers) {
                let parents = if rng.u8(..4) == 0 { &suite } else { &queries };
                let sql = mutate::mutant(&mut rng, parents);
                let mut hasher = DefaultHasher::new();
                sql.hash(&mut hasher);
                if seen.insert(hasher.finish()) {
                    tally.add(&sql, knowledge);
                }
            }
            tally
        });
        tally.report("mutants", knowledge);
        tally.assert_no_write_called_a_read();
        assert!(tally.found > each / 20, "too few reads among the mutants to prove anything");
    }
}

/// The negative control: were the classifier to trust a function it must not, mutants would show it.
#[test]
fn a_classifier_that_trusts_a_volatile_function_is_caught() {
    let functions = Functions::from_catalogue([("book".to_owned(), true)]);
    let knowledge = Knowledge { name: "control", functions, volatility: Volatility::default() };
    let parents =
        ["SELECT a, b FROM t WHERE c = 1 ORDER BY a", "VALUES (1, 'a')"].map(str::to_owned);
    let (mut rng, mut tally) = (Rng::with_seed(seed()), Tally::default());
    while tally.wrong.is_empty() && tally.statements < MUTANTS {
        tally.add(&mutate::mutant(&mut rng, &parents), &knowledge);
    }
    assert!(tally.wrong.iter().any(|wrong| wrong.contains("book")), "nothing found");
}
