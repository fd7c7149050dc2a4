//! A node becomes a member while writes run.
//!
//! Slots first, then a copy, then the streams from where the slots began:
//!
//! 1. The new node is prepared; every member gets a slot for it, and it one for every member. From here on nothing that
//!    anybody commits can be missed ([`crate::install`]).
//! 2. One member, the donor, applies all that the others had committed before their slots.
//! 3. Its rows and tombstones are copied as a later snapshot shows them, with their stamps. So every version is in the copy
//!    or in a slot; most of what was written meanwhile is in both, which does no harm: of two versions the greater stays.
//! 4. The new node's streams begin where the slots do. Once they have caught up, it is a member like the others.
//!
//! Nobody waits: no lock is taken on a table that is written. Interrupted anywhere, the same command goes on; tables that
//! are whole are not copied again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Lsn, NodeName, Tls};
use herdsman_wal::snapshot::HeldSnapshot;
use herdsman_wal::{SlotName, WalError};
use tokio::time::{Instant, sleep};

use crate::config::Mode;
use crate::error::MeshError;
use crate::heal::copying::{self, Copying, Item};
use crate::heal::existing::workers;
use crate::heal::recent;
use crate::install::{self, How, Plan, Step};
use crate::names::{self, STAMP};
use crate::setup::{Member, MemberState, Setup};
use crate::stamp::NodeId;
use crate::table::Table;
use crate::verify::scan;
use crate::verify::session::{Seat, members};

/// How to join.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose rows are copied; the member of the lowest number where left out.
    pub donor: Option<NodeName>,
    /// How long the donor, and the new node in the end, may take to apply what is on its way; and the snapshot, which has
    /// to wait for transactions that are open.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        // A transaction may be open for minutes, a backlog take longer; what waits longer had better be looked at.
        Self { donor: None, patience: Duration::from_secs(1800) }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Progress {
    /// A step of preparing the nodes.
    Preparing(Step),
    /// The donor has to apply what others had written before.
    WaitingForDonor {
        /// Who.
        donor: String,
        /// Bytes of their logs that it has to come past yet.
        bytes: u64,
    },
    /// Rows are copied.
    Copying(Copying),
    /// The new node applies what was written meanwhile.
    CatchingUp {
        /// Bytes of the others' logs that it has to come past yet.
        bytes: u64,
    },
}

/// A node has joined.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Joined {
    /// Its number.
    pub id: NodeId,
    /// Whose rows were copied; `None` where that had been done before.
    pub donor: Option<String>,
    /// What was copied.
    pub copied: Copying,
    /// How long it took in all.
    pub seconds: f64,
}

/// A note on the new node, that a table is whole.
const NOTES: &str = "CREATE TABLE IF NOT EXISTS herdsman.copied (rel text PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())";
const POLL: Duration = Duration::from_millis(200);
/// Behind by less than what is written in this time, a node counts as caught up.
const SOON: Duration = Duration::from_secs(5);

/// Makes `node` a member. Something must be applying changes: this process's engine, or another's.
///
/// # Errors
/// The node cannot be a member as it is, cannot be reached, or something took longer than it may. What was done stays, and
/// the same call goes on from there.
pub async fn add(
    setup: &Arc<Setup>,
    node: &NodeName,
    options: &Options,
    mut tell: impl FnMut(&Progress),
) -> Result<Joined, MeshError> {
    let begun = Instant::now();
    let setup = &with(setup, node);
    let late = prepare(setup, node, &mut tell).await?;
    let (seats, new) = seats(setup, node).await?;
    let id = new.id();
    let mut joined = Joined { id, donor: None, copied: Copying::default(), seconds: 0.0 };
    // Streams that have begun tell that the copy was whole.
    let known = scan::progress(&new).await?;
    if seats.iter().any(|seat| !known.contains_key(&seat.id())) {
        let donor = donor(&seats, options)?;
        let begins = slots(setup, &seats, id).await?;
        wait_for_donor(donor, &begins, options, &mut tell).await?;
        joined.donor = Some(donor.member.name.to_string());
        joined.copied = copy(setup, donor, &new, options, &mut tell).await?;
        install::carry_out(setup, &late, |step| tell(&Progress::Preparing(step.clone()))).await?;
        new.session.run("forget what was copied", "DROP TABLE IF EXISTS herdsman.copied").await?;
    }
    catch_up(&seats, &new, options, &mut tell).await?;
    activate(&seats, &new).await?;
    joined.seconds = begun.elapsed().as_secs_f64();
    Ok(joined)
}

/// The configuration with the node in it.
fn with(setup: &Arc<Setup>, node: &NodeName) -> Arc<Setup> {
    if setup.config.nodes.contains(node) {
        return Arc::clone(setup);
    }
    let mut more = Setup::clone(setup);
    more.config.nodes.push(node.clone());
    Arc::new(more)
}

/// Prepares all nodes, but for the beginnings of the new one's streams, which come after the copy: they are returned.
async fn prepare(
    setup: &Arc<Setup>,
    node: &NodeName,
    tell: &mut impl FnMut(&Progress),
) -> Result<Plan, MeshError> {
    let known = members(setup).await?;
    let others = known.iter().any(|m| m.state == MemberState::Active && m.name != *node);
    if !others {
        return Err(MeshError::refused(
            format!("there is no mesh that node `{node}` could join"),
            "make one with `herdsman mesh up`",
        ));
    }
    if known.iter().any(|m| m.name == *node && m.state == MemberState::Active) {
        return Err(MeshError::refused(
            format!("node `{node}` is a member already"),
            "see `herdsman mesh status`",
        ));
    }
    let joining =
        install::Options { joining: BTreeSet::from([node.clone()]), ..Default::default() };
    let (_, plan) = install::prepare(setup, &joining).await?;
    if plan.copies.iter().any(|copy| copy.from == *node) {
        return Err(MeshError::refused(
            format!("node `{node}` has rows of its own in tables of the mesh"),
            "empty these tables there, or drop them: they are made and filled from another member",
        ));
    }
    let (late, now): (Vec<Step>, Vec<Step>) = plan.steps.into_iter().partition(|step| {
        step.node == *node
            && matches!(&step.how, How::AtSlot { node: source, .. } if source != node)
    });
    let now = Plan { steps: now, copies: Vec::new(), ..plan };
    install::carry_out(setup, &now, |step| tell(&Progress::Preparing(step.clone()))).await?;
    Ok(Plan { steps: late, ..Plan::default() })
}

/// The members that take writes, and the new one.
async fn seats(setup: &Arc<Setup>, node: &NodeName) -> Result<(Vec<Seat>, Seat), MeshError> {
    let (mut seats, mut new) = (Vec::new(), None);
    for member in members(setup).await? {
        let own = member.name == *node;
        match member.state {
            MemberState::Gone => {}
            _ if own => new = Some(Seat::open(setup, member).await?),
            _ => seats.push(Seat::open(setup, member).await?),
        }
    }
    seats.sort_by_key(Seat::id);
    let new = new.ok_or_else(|| {
        MeshError::refused(
            format!("node `{node}` was not made a member"),
            "run the same command again",
        )
    })?;
    Ok((seats, new))
}

fn donor<'a>(seats: &'a [Seat], options: &Options) -> Result<&'a Seat, MeshError> {
    let wanted = |member: &Member| {
        member.state == MemberState::Active
            && options.donor.as_ref().is_none_or(|donor| *donor == member.name)
    };
    seats.iter().find(|seat| wanted(&seat.member)).ok_or_else(|| {
        let donor = options.donor.as_ref().map_or("anybody".to_owned(), |d| format!("`{d}`"));
        MeshError::refused(
            format!("{donor} cannot be copied from: that takes an active member"),
            "name another donor, or leave it out",
        )
    })
}

/// Where the slots begin that each member has for the new one.
async fn slots(
    setup: &Setup,
    seats: &[Seat],
    id: NodeId,
) -> Result<BTreeMap<NodeId, Lsn>, MeshError> {
    let what = "look at its slot for the new member";
    let name = names::slot(&setup.config.name, id)?;
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
    let mut begins = BTreeMap::new();
    for seat in seats {
        let row = seat.session.row(what, sql, &[&name.as_str()]).await?;
        begins.insert(seat.id(), seat.session.lsn(what, &row, 0)?);
    }
    Ok(begins)
}

async fn wait_for_donor(
    donor: &Seat,
    begins: &BTreeMap<NodeId, Lsn>,
    options: &Options,
    tell: &mut impl FnMut(&Progress),
) -> Result<(), MeshError> {
    let others: BTreeMap<NodeId, Lsn> =
        // Of its own it has everything; but where only its log tells of what it has deleted, it has to have read that.
        begins
            .iter()
            .filter(|(id, _)| **id != donor.id() || donor.tables.iter().any(|t| t.untouched))
            .map(|(id, lsn)| (*id, *lsn))
            .collect();
    let name = donor.member.name.to_string();
    let what = "applying what others wrote before their slots for the new member (is `herdsman run` at work?)";
    wait(donor, &others, options.patience, what, |bytes| {
        tell(&Progress::WaitingForDonor { donor: name.clone(), bytes });
    })
    .await
}

/// Waits until a member is past these positions.
async fn wait(
    seat: &Seat,
    positions: &BTreeMap<NodeId, Lsn>,
    patience: Duration,
    what: &str,
    mut tell: impl FnMut(u64),
) -> Result<(), MeshError> {
    let until = Instant::now() + patience;
    loop {
        let progress = scan::progress(seat).await?;
        let left = |(id, lsn): (&NodeId, &Lsn)| {
            lsn.bytes_after(progress.get(id).copied().unwrap_or_default())
        };
        let left: u64 = positions.iter().map(left).sum();
        tell(left);
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(MeshError::TimedOut {
                node: seat.member.name.clone(),
                what: what.to_owned(),
                seconds: patience.as_secs(),
            });
        }
        sleep(POLL).await;
    }
}

async fn copy(
    setup: &Setup,
    donor: &Seat,
    new: &Seat,
    options: &Options,
    tell: &mut impl FnMut(&Progress),
) -> Result<Copying, MeshError> {
    let what = "look at what is copied";
    new.session.run("note what is copied", NOTES).await?;
    let rows = new.session.rows(what, "SELECT rel FROM herdsman.copied", &[]).await?;
    let done: Result<BTreeSet<String>, MeshError> =
        rows.iter().map(|row| new.session.get(what, row, 0)).collect();
    let done = done?;
    // Deletions before rows, so that a row whose deletion is known need not be removed again.
    let tables = || donor.tables.iter().filter(|table| new.table(&table.name).is_some());
    let mut items = vec![Item::truncates(), Item::evicted()];
    items.extend(tables().map(Item::tombstones));
    let untouched = setup.config.mode == Mode::Untouched;
    let beginning = if untouched { recent::beginning(&new.session).await? } else { 0 };
    items.extend(tables().map(|table| recent::item(table, beginning)));
    items.retain(|item| !done.contains(&item.name));
    let workers = {
        let snapshot = snapshot(setup, donor, new, options).await?;
        workers(setup, &donor.session, &new.session, &snapshot.exported().name).await?
    };
    let note = |item: &Item| {
        let rel = herdsman_wal::quote_literal(&item.name);
        Some(format!("INSERT INTO herdsman.copied (rel) VALUES ({rel}) ON CONFLICT DO NOTHING"))
    };
    if let Some(worker) = workers.first().filter(|_| untouched) {
        recent::clocks(worker).await?;
    }
    let copied =
        copying::copy(&workers, &items, note, |copying| tell(&Progress::Copying(copying.clone())))
            .await?;
    // What the donor itself had not swept when it was read; nobody sends these deletions once more.
    let tables: Vec<&Table> = tables().collect();
    if let Some(worker) = workers.first() {
        recent::rows(worker, &tables, beginning).await?;
        copying::sweep(&worker.target, &tables).await?;
    }
    if !untouched {
        raise_floor(new, &tables).await?;
    }
    for worker in workers {
        worker.target.close().await?;
    }
    Ok(copied)
}

/// A snapshot of the donor that shows exactly what is committed before a place in its log, which is after its slot's.
async fn snapshot(
    setup: &Setup,
    donor: &Seat,
    new: &Seat,
    options: &Options,
) -> Result<HeldSnapshot, MeshError> {
    let node = &donor.member.name;
    let tls = Tls::new(&donor.session.info)
        .map_err(|source| MeshError::Tls { node: node.clone(), source })?;
    let name = SlotName::new(&format!("herdsman_{}_copy_{}", setup.config.name, new.id()))?;
    let until = Instant::now() + options.patience;
    loop {
        match HeldSnapshot::take(&donor.session.info, &tls, &name, options.patience).await {
            // That of a call before this one, whose connection the server has not noticed to be over.
            Err(WalError::Server { sqlstate, .. })
                if sqlstate == "42710" && Instant::now() < until =>
            {
                sleep(POLL).await;
            }
            taken => {
                return taken.map_err(|source| MeshError::Wal {
                    node: node.clone(),
                    source: source.into(),
                });
            }
        }
    }
}

/// Whatever is written on the new node is later than anything copied. The donor's floor does not tell that: it holds what
/// others wrote, and what the donor wrote itself may be ahead of its clock of today.
async fn raise_floor(new: &Seat, tables: &[&Table]) -> Result<(), MeshError> {
    let what = "raise its clock's floor";
    let own = ["truncates", "evicted"].map(names::own);
    let copied = tables.iter().flat_map(|table| [table.name.quoted(), names::gone(&table.name)]);
    let newest: Vec<String> =
        copied.chain(own).map(|name| format!("(SELECT max({STAMP}) FROM {name})")).collect();
    let newest = format!("SELECT greatest({})", newest.join(", "));
    let row = new.session.row(what, &newest, &[]).await?;
    let Some(newest) = new.session.get::<Option<i64>>(what, &row, 0)? else { return Ok(()) };
    let raise = "SELECT setval('herdsman.floor', $1) FROM herdsman.floor WHERE last_value < $1";
    let raised = "SELECT last_value >= $1 FROM herdsman.floor";
    // Whoever applies there raises it too, and may have looked at it before we did.
    loop {
        new.session.rows(what, raise, &[&newest]).await?;
        sleep(POLL).await;
        let row = new.session.row(what, raised, &[&newest]).await?;
        if new.session.get(what, &row, 0)? {
            return Ok(());
        }
    }
}

async fn catch_up(
    seats: &[Seat],
    new: &Seat,
    options: &Options,
    tell: &mut impl FnMut(&Progress),
) -> Result<(), MeshError> {
    let what = "applying what was written meanwhile (is `herdsman run` at work, with this node in its configuration?)";
    loop {
        let begun = Instant::now();
        let positions = scan::positions(seats).await?;
        wait(new, &positions, options.patience, what, |bytes| {
            tell(&Progress::CatchingUp { bytes });
        })
        .await?;
        if begun.elapsed() < SOON {
            return Ok(());
        }
    }
}

async fn activate(seats: &[Seat], new: &Seat) -> Result<(), MeshError> {
    let sql = "UPDATE herdsman.members SET state = 'active' WHERE node = $1 AND state = 'joining'";
    // Itself last: as long as it is not active there, the same command goes on here.
    for seat in seats.iter().chain([new]) {
        seat.session.execute("note that the member is active", sql, &[&new.id().0]).await?;
    }
    Ok(())
}
