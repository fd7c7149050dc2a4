//! Who is primary, who can be read, how far behind each one is: evidence from every server becomes one [`Topology`].

mod config;
mod evidence;
mod judge;
mod moment;
mod topology;
mod watcher;

pub use config::{
    Authority, AvailabilityConfig, Damping, HeartbeatSchedule, LostStandbys, MaxLag, Pin, Quorum,
    SplitBrain, WatchConfig,
};
pub use moment::Moment;
pub use topology::{Heartbeat, Lag, NodeView, Proof, Topology, Verdict, Why};
pub use watcher::{Setup, StartError, Watch, Watcher};
