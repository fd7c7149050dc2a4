//! `mode: untouched`: nothing is added to the users' tables, and the members end alike all the same.

mod altering;
mod clocks;
mod flights;
mod forgotten;
mod fuzz;
mod joining;
mod leaving;
mod mending;
mod merging;
mod tables;

use herdsman_mesh::config::Mode;
use herdsman_sandbox::Sandbox;

use crate::matrix;
use crate::proof::{Mesh, mixed, three_of};

/// Servers that keep commit times, and a mesh that goes by them.
pub(crate) async fn start(majors: Vec<u32>, tables: &str) -> Mesh {
    let settings = [("track_commit_timestamp", "on")];
    let untouched = |config: &mut herdsman_mesh::MeshConfig| config.mode = Mode::Untouched;
    let mesh = Mesh::prepared_with(majors, tables, &settings, untouched).await;
    mesh.start_engine();
    mesh
}

/// The same, on servers whose clocks can be set wrong.
pub(crate) async fn start_with_clocks(majors: Vec<u32>, tables: &str) -> Mesh {
    let servers = Sandbox::builder().versions(majors).own_clocks(true);
    let servers = servers.setting("track_commit_timestamp", "on");
    let mesh = Mesh::prepared_on(servers, tables, |config| config.mode = Mode::Untouched).await;
    mesh.start_engine();
    mesh
}

/// The cases of the matrix that replace the clock, which is the server's own here; those in which rows claim one value,
/// which are refused; and `race`: a transaction's version is the time of its commit here and not of its statements.
const OTHER: [&str; 7] = ["h", "h2", "h3", "race", "f", "f2", "f3"];

async fn cases(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let cases: Vec<_> = matrix::NAMES.into_iter().filter(|name| !OTHER.contains(name)).collect();
    assert_eq!(cases.len(), matrix::NAMES.len() - OTHER.len());
    let mesh = start(majors.clone(), &matrix::case::tables(&cases)).await;
    assert_eq!(matrix::all(&mesh, &cases).await, Vec::<&str>::new(), "on {majors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_end_alike_on_15() {
    cases(three_of(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_end_alike_on_18() {
    cases(three_of(18)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_end_alike_on_a_mix_of_versions() {
    cases(mixed()).await;
}
