//! The everyday of an application, each statement on the node it belongs on.

use futures_util::future::join_all;
use herdsman::{Error, session};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel,
    ModelTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, SelectExt, Set, SqlErr,
    Statement, TryInsertResult,
};
use tokio::sync::Barrier;

use crate::entities::{sheep, shepherd};
use crate::farm::{Farm, named, sheep_of, to_reader, to_writer};
use crate::herd::on_newest_version;

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

on_newest_version! {
    async fn finds_read_from_a_reader_and_changes_go_to_the_writer(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        let ann = to_writer(db, 1, named("Ann").insert(db)).await;
        let dolly = to_writer(db, 1, sheep_of(ann.id, "Dolly", 3).insert(db)).await;
        farm.herd.sandbox.wait_replayed().await.unwrap();

        assert_eq!(to_reader(db, 1, shepherd::Entity::find().all(db)).await, std::slice::from_ref(&ann));
        let found = to_reader(db, 1, sheep::Entity::find_by_id(dolly.id).one(db)).await;
        assert_eq!(found, Some(dolly.clone()));
        assert_eq!(to_reader(db, 1, sheep::Entity::find_by_id(-1).one(db)).await, None);
        let both = to_reader(db, 1, shepherd::Entity::find().find_with_related(sheep::Entity).all(db)).await;
        assert_eq!(both, [(ann.clone(), vec![dolly.clone()])]);
        assert_eq!(to_reader(db, 1, dolly.find_related(shepherd::Entity).one(db)).await, Some(ann.clone()));
        let flocks = to_reader(db, 1, async {
            use sea_orm::LoaderTrait;
            vec![ann.clone()].load_many(sheep::Entity, db).await
        });
        assert_eq!(flocks.await, [vec![dolly.clone()]]);

        let mut shorn = dolly.into_active_model();
        shorn.wool = Set(0);
        let shorn = to_writer(db, 1, shorn.update(db)).await;
        assert_eq!(shorn.wool, 0);
        let grown = sheep::Entity::update_many()
            .col_expr(sheep::Column::Wool, sea_orm::sea_query::Expr::value(9))
            .filter(sheep::Column::ShepherdId.eq(ann.id));
        assert_eq!(to_writer(db, 1, grown.exec(db)).await.rows_affected, 1);
        assert_eq!(to_writer(db, 1, shorn.delete(db)).await.rows_affected, 1);
        assert_eq!(to_writer(db, 1, sheep::Entity::delete_many().exec(db)).await.rows_affected, 0);
    }

    async fn many_rows_are_counted_paged_and_looked_for_on_a_reader(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        let ann = farm.shepherd("Ann").await;
        let flock = (0..25).map(|n| sheep_of(ann.id, &format!("sheep {n:02}"), n));
        to_writer(db, 1, sheep::Entity::insert_many(flock).exec(db)).await;
        farm.herd.sandbox.wait_replayed().await.unwrap();

        assert_eq!(to_reader(db, 1, sheep::Entity::find().count(db)).await, 25);
        let woolly = sheep::Entity::find().filter(sheep::Column::Wool.gt(20));
        assert!(to_reader(db, 1, woolly.clone().exists(db)).await);
        let pages = sheep::Entity::find().order_by_asc(sheep::Column::Id).paginate(db, 10);
        assert_eq!(to_reader(db, 1, pages.num_items_and_pages()).await.number_of_pages, 3);
        let last = to_reader(db, 1, pages.fetch_page(2)).await;
        assert_eq!(last.iter().map(|sheep| sheep.wool).collect::<Vec<_>>(), [20, 21, 22, 23, 24]);
        let names = woolly.select_only().column(sheep::Column::Name).into_tuple::<String>();
        assert_eq!(to_reader(db, 1, names.all(db)).await.len(), 4);
    }

    async fn conflicts_are_resolved_or_told_and_never_held_against_the_node(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        let ann = farm.shepherd("Ann").await;
        let insert = || shepherd::Entity::insert(named("Ann"));
        let update = OnConflict::column(shepherd::Column::Name).update_column(shepherd::Column::Name).to_owned();
        let same = to_writer(db, 1, insert().on_conflict(update).exec_with_returning(db)).await;
        assert_eq!(same, ann);
        let nothing = to_writer(db, 1, insert().on_conflict_do_nothing_on([shepherd::Column::Name]).exec(db)).await;
        assert!(matches!(nothing, TryInsertResult::Conflicted));

        let twice = named("Ann").insert(db).await.unwrap_err();
        assert!(matches!(twice.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))), "{twice:?}");
        assert!(Error::of_db_err(&twice).is_none());
        let orphan = sheep::Entity::insert(sheep_of(-1, "Lost", 1)).exec_without_returning(db).await.unwrap_err();
        assert!(matches!(orphan.sql_err(), Some(SqlErr::ForeignKeyConstraintViolation(_))), "{orphan:?}");
        let wrong = db.query_all_raw(statement("SELECT nonsense FROM sheep")).await.unwrap_err();
        assert!(matches!(wrong, sea_orm::DbErr::Query(_)), "{wrong:?}");
        assert!(Error::of_db_err(&wrong).is_none());
        for (name, node) in db.statistics().nodes {
            assert_eq!((node.error_count, node.online), (0, true), "{name}");
        }
    }

    async fn raw_statements_go_by_their_text(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        let ann = farm.shepherd("Ann").await;
        let values = [ann.id.into(), "Ann".into()];
        let sql = "SELECT * FROM shepherd WHERE id = $1 AND name = $2";
        let find = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let found = to_reader(db, 1, shepherd::Entity::find().from_raw_sql(find).one(db)).await;
        assert_eq!(found, Some(ann.clone()));
        let one = to_reader(db, 1, db.query_one_raw(statement("SELECT 7 AS n"))).await.unwrap();
        assert_eq!(one.try_get::<i32>("", "n").unwrap(), 7);
        let selected = to_reader(db, 1, db.execute_unprepared("SELECT * FROM shepherd")).await;
        assert_eq!(selected.rows_affected(), 1);

        let sql = "INSERT INTO sheep (shepherd_id, name) VALUES (1, 'Molly') RETURNING *";
        let inserted = sheep::Entity::find().from_raw_sql(statement(sql));
        assert_eq!(to_writer(db, 1, inserted.one(db)).await.unwrap().name, "Molly");
        to_writer(db, 1, db.query_one_raw(statement("SELECT nextval('sheep_id_seq')"))).await;
        let sql = "WITH gone AS (DELETE FROM sheep RETURNING 1) SELECT count(*) AS n FROM gone";
        let gone = to_writer(db, 1, db.query_one_raw(statement(sql))).await.unwrap();
        assert_eq!(gone.try_get::<i64>("", "n").unwrap(), 1);
        let several = "INSERT INTO shepherd (name) VALUES ('Bob'); INSERT INTO shepherd (name) VALUES ('Cid')";
        to_writer(db, 1, db.execute_unprepared(several)).await;
        assert_eq!(shepherd::Entity::find().count(&db.writer()).await.unwrap(), 3);
        let update = statement("UPDATE shepherd SET name = 'Di' WHERE name = 'Cid'");
        assert_eq!(to_writer(db, 1, db.execute_raw(update)).await.rows_affected(), 1);
    }

    async fn a_locked_select_goes_to_the_writer(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        farm.shepherd("Ann").await;
        to_writer(db, 1, shepherd::Entity::find().lock_exclusive().all(db)).await;
        to_writer(db, 1, shepherd::Entity::find().lock_shared().one(db)).await;
        to_writer(db, 1, shepherd::Entity::find().all(&db.writer())).await;
    }

    async fn what_was_not_found_and_then_created_is_found_by_all_who_look(version: u32) {
        let farm = Farm::start(version).await;
        let everybody_has_looked = Barrier::new(40);
        let names: Vec<_> = (0..40).map(|n| format!("shepherd {}", n % 8)).collect();
        let each = names.iter().map(|name| session(find_or_create(&farm, name, &everybody_has_looked)));
        for (name, found) in names.iter().zip(join_all(each).await) {
            assert_eq!(&found.name, name);
        }
        assert_eq!(shepherd::Entity::find().count(&farm.db.writer()).await.unwrap(), 8);
    }
}

async fn find_or_create(farm: &Farm, name: &str, looked: &Barrier) -> shepherd::Model {
    let find = || shepherd::Entity::find().filter(shepherd::Column::Name.eq(name)).one(&farm.db);
    assert_eq!(find().await.unwrap(), None);
    looked.wait().await;
    let unless_there = [shepherd::Column::Name];
    let insert = shepherd::Entity::insert(named(name)).on_conflict_do_nothing_on(unless_there);
    insert.exec(&farm.db).await.unwrap();
    find().await.unwrap().expect("it was created, by us or before")
}
