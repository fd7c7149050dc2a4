//! The one configuration file, `herdsman.yml`: finding it, knowing where each key stands in it, and the sections that
//! every program needs of it: hosts, groups and watch.
//!
//! [`File::load`] finds and reads the file, a [`Reading`] takes sections out of it. Each section is a struct in the crate
//! it configures; whoever reads it says what it must have in common with the rest of the file. Whatever is wrong is told
//! with file, line and column, all of it at once, and never with a secret.
//!
//! ```
//! use std::path::Path;
//!
//! use herdsman_config::{Depth, Reading};
//!
//! #[derive(serde::Deserialize)]
//! struct Api {
//!     max_connections: u32,
//! }
//!
//! let text = "hosts:\n  n1: postgres://10.0.0.1\napi:\n  max_connections: many\n";
//! let mut reading = Reading::new(Path::new("herdsman.yml"), text, Depth::Full).unwrap();
//! let hosts = reading.hosts();
//! let api = reading.section::<Api>("api");
//! assert_eq!(hosts["n1"].conninfo.host, "10.0.0.1");
//! let problems = reading.finish(Some(api)).err().unwrap();
//! let told = problems[0].to_string();
//! assert_eq!(
//!     told.lines().next(),
//!     Some("herdsman.yml:4:20: `api.max_connections` is `many`, expected a whole number from 0 to 4294967295"),
//! );
//! ```

mod command;
mod groups;
mod hosts;
mod locate;
mod login;
mod password;
mod places;
mod problem;
mod reading;
mod secret;
mod watch;
mod yaml;

use std::collections::BTreeMap;

use herdsman_node::NodeName;

pub use command::of_command;
pub use hosts::Host;
pub use locate::{ConfigError, File, SEARCHED, VARIABLES};
pub use login::LoginConfig;
pub use places::At;
pub use problem::{Problem, quoted};
pub use reading::{Depth, Reading};
pub use secret::{Secret, SecretSources};
pub use yaml::{and, any_of};

/// Named subsets of the nodes.
pub type Groups = BTreeMap<String, Vec<NodeName>>;
