//! `mode: untouched`: nothing is added to the users' tables, and the members end alike all the same.

mod fuzz;
mod joining;
mod tables;

use herdsman_mesh::config::Mode;

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

/// What the cases of the matrix come to that do not replace the clock, which is the server's own here. Rows that claim one
/// value are refused. A transaction's version is the time of its commit and not of its statements: `race` ends otherwise.
const CASES: [&str; 24] = [
    "a",
    "a2",
    "b",
    "b2",
    "c",
    "c2",
    "d",
    "d2",
    "d3",
    "d4",
    "e",
    "g",
    "g2",
    "g3",
    "i",
    "j",
    "k0",
    "k1",
    "toast",
    "half",
    "twice",
    "unmade",
    "moved_back",
    "three",
];

async fn cases(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let mesh = start(majors.clone(), &matrix::case::tables(&CASES)).await;
    assert_eq!(matrix::all(&mesh, &CASES).await, Vec::<&str>::new(), "on {majors:?}");
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
