//! Rows one by one.

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use sea_orm::{DbBackend, EntityTrait, QueryOrder, QuerySelect, Statement, StreamTrait};

use crate::entities::sheep;
use crate::farm::{Farm, sheep_of, to_reader, to_writer};
use crate::herd::on_newest_version;

on_newest_version! {
    async fn a_stream_reads_from_a_reader_and_a_locking_one_from_the_writer(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        let ann = farm.shepherd("Ann").await;
        let flock = (0..100).map(|n| sheep_of(ann.id, "sheep", n));
        sheep::Entity::insert_many(flock).exec(db).await.unwrap();
        farm.herd.sandbox.wait_replayed().await.unwrap();

        let find = || sheep::Entity::find().order_by_asc(sheep::Column::Wool);
        let all = async { find().stream(db).await?.try_collect::<Vec<_>>().await };
        let wool: Vec<_> = to_reader(db, 1, all).await.into_iter().map(|sheep| sheep.wool).collect();
        assert_eq!(wool, (0..100).collect::<Vec<_>>());
        let locked = async { find().lock_exclusive().stream(db).await?.try_collect::<Vec<_>>().await };
        assert_eq!(to_writer(db, 1, locked).await.len(), 100);
        let wrong = Statement::from_string(DbBackend::Postgres, "SELECT 1 / (n - 3) AS n FROM generate_series(1, 9) n");
        let results: Vec<_> = db.stream_raw(wrong).await.unwrap().collect().await;
        let (last, rows) = results.split_last().unwrap();
        assert!(last.is_err() && rows.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(db.statistics().nodes["read0"].error_count, 0);
    }

    async fn a_stream_dropped_early_gives_its_connection_back(version: u32) {
        let farm = Farm::start_with(version, 1, |builder| builder.max_connections(4)).await;
        let db = &farm.db;
        let sql = "SELECT n, repeat('wool', 100) AS wool FROM generate_series(1, 100000) n";
        for set in [db.reader(), db.writer()] {
            for _ in 0..5 {
                join_all((0..4).map(|_| async {
                    let many = Statement::from_string(DbBackend::Postgres, sql);
                    let mut rows = set.stream_raw(many).await.unwrap();
                    let first = rows.try_next().await.unwrap().unwrap();
                    assert_eq!(first.try_get::<i32>("", "n").unwrap(), 1);
                }))
                .await;
            }
            let all = join_all((0..4).map(|_| set.acquire())).await;
            assert!(all.iter().all(Result::is_ok), "{all:?}");
        }
    }
}
