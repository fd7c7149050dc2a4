//! A cluster with the application's tables in it, and a set over it.

use std::future::Future;

use herdsman::{Builder, ReplicaSet};
use sea_orm::{ActiveModelTrait, DbErr, Set};
use sea_orm_migration::MigratorTrait;

use crate::entities::{sheep, shepherd};
use crate::herd::{Herd, sent};
use crate::migrations::Migrator;

pub(crate) struct Farm {
    pub(crate) herd: Herd,
    /// One writer and one reader, so that it is known which reader is meant.
    pub(crate) db: ReplicaSet,
}

impl Farm {
    pub(crate) async fn start(version: u32) -> Self {
        Self::start_with(version, 1, |builder| builder).await
    }

    pub(crate) async fn start_with(
        version: u32,
        readers: usize,
        settings: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let herd = Herd::start(version, readers).await;
        let db = settings(herd.given()).build().unwrap();
        Migrator::up(&db.sea_orm_writer().await.unwrap(), None).await.unwrap();
        herd.sandbox.wait_replayed().await.unwrap();
        Self { herd, db }
    }

    /// A shepherd that every node knows.
    pub(crate) async fn shepherd(&self, name: &str) -> shepherd::Model {
        let shepherd = named(name).insert(&self.db).await.unwrap();
        self.herd.sandbox.wait_replayed().await.unwrap();
        shepherd
    }
}

pub(crate) fn named(name: &str) -> shepherd::ActiveModel {
    shepherd::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

pub(crate) fn sheep_of(shepherd: i32, name: &str, wool: i32) -> sheep::ActiveModel {
    sheep::ActiveModel {
        shepherd_id: Set(shepherd),
        name: Set(name.to_owned()),
        wool: Set(wool),
        ..Default::default()
    }
}

/// Does it, and makes sure that it was so many statements, all of them sent to the writer.
pub(crate) async fn to_writer<T>(
    db: &ReplicaSet,
    statements: u64,
    work: impl Future<Output = Result<T, DbErr>>,
) -> T {
    sent_to(db, [statements, 0], work).await
}

/// Does it, and makes sure that it was so many statements, all of them sent to the reader.
pub(crate) async fn to_reader<T>(
    db: &ReplicaSet,
    statements: u64,
    work: impl Future<Output = Result<T, DbErr>>,
) -> T {
    sent_to(db, [0, statements], work).await
}

/// Does it, and makes sure that it was so many statements for the writer and the reader.
async fn sent_to<T>(
    db: &ReplicaSet,
    statements: [u64; 2],
    work: impl Future<Output = Result<T, DbErr>>,
) -> T {
    let count = || ["write", "read0"].map(|node| sent(db, node));
    let before = count();
    let done = work.await.unwrap();
    let after = count();
    assert_eq!(
        [after[0] - before[0], after[1] - before[1]],
        statements,
        "sent to writer and reader"
    );
    done
}
