//! Who is primary, who can be read, how far behind each one is: evidence from every server becomes one [`Topology`].
//!
//! [`Watcher::start`] keeps one connection to each node and looks at it twice a second; the pure judge inside turns
//! what was seen into a [`Verdict`] with its reasons, and never names a primary without proof. Everyone else reads the
//! newest [`Topology`] through a [`Watch`] handle: from memory, without waiting.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use herdsman_watch::{AvailabilityConfig, Setup, WatchConfig, Watcher};
//!
//! let nodes = [("n1".parse()?, "host=db1 user=monitor".parse()?), ("n2".parse()?, "host=db2 user=monitor".parse()?)];
//! let setup = Setup { nodes: nodes.into(), watch: WatchConfig::default(), availability: AvailabilityConfig::default() };
//! let watcher = Watcher::start(setup)?;
//! let mut changes = watcher.watch().subscribe();
//! while changes.changed().await.is_ok() {
//!     println!("{}", changes.borrow_and_update().verdict);
//! }
//! # Ok(())
//! # }
//! ```

mod alarm;
mod authority;
mod config;
mod event;
mod evidence;
mod heartbeat;
mod judge;
mod moment;
mod probe;
mod prober;
mod reports;
mod state;
mod topology;
mod watcher;

pub use config::{
    Authority, AvailabilityConfig, Damping, HeartbeatSchedule, LagAlarm, LostStandbys, MaxLag, Pin,
    Quorum, SplitBrain, WatchConfig,
};
pub use event::{Event, EventKind};
pub use moment::Moment;
pub use reports::Reports;
pub use topology::{Answer, Heartbeat, Lag, NodeView, Proof, Topology, Verdict, Why};
pub use watcher::{Setup, StartError, Watch, Watcher};
