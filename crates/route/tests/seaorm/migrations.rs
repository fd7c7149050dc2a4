//! The tables as migrations, run through a `ReplicaSet`.
#![allow(
    elided_lifetimes_in_paths,
    reason = "with them written out they are not those of SeaORM's trait"
)]

use herdsman::session;
use sea_orm_migration::prelude::*;

use crate::farm::{Farm, to_reader, to_writer};
use crate::herd::on_newest_version;

pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateShepherd), Box::new(CreateSheep)]
    }
}

struct CreateShepherd;

impl MigrationName for CreateShepherd {
    fn name(&self) -> &'static str {
        "m1_create_shepherd"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateShepherd {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("shepherd")
            .col(ColumnDef::new("id").integer().not_null().auto_increment().primary_key())
            .col(ColumnDef::new("name").string().not_null().unique_key())
            .to_owned();
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("shepherd").to_owned()).await
    }
}

struct CreateSheep;

impl MigrationName for CreateSheep {
    fn name(&self) -> &'static str {
        "m2_create_sheep"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateSheep {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut owner = ForeignKey::create();
        owner.from("sheep", "shepherd_id").to("shepherd", "id");
        let table = Table::create()
            .table("sheep")
            .col(ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key())
            .col(ColumnDef::new("shepherd_id").integer().not_null())
            .col(ColumnDef::new("name").string().not_null())
            .col(ColumnDef::new("wool").integer().not_null().default(0))
            .foreign_key(&mut owner)
            .to_owned();
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("sheep").to_owned()).await
    }
}

on_newest_version! {
    async fn migrations_run_on_the_writer_and_their_state_is_read_from_a_reader(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        assert_eq!(to_reader(db, 2, Migrator::get_pending_migrations_read_only(db)).await.len(), 0);
        // Creates its own table if need be, so it is best asked where it can be read back at once.
        session(Migrator::status(db)).await.unwrap();
        assert_eq!(Migrator::get_applied_migrations(&db.writer()).await.unwrap().len(), 2);

        let writer = db.sea_orm_writer().await.unwrap();
        Migrator::down(&writer, Some(1)).await.unwrap();
        farm.herd.sandbox.wait_replayed().await.unwrap();
        let pending = to_reader(db, 2, Migrator::get_pending_migrations_read_only(db)).await;
        assert_eq!(pending.iter().map(|each| each.name()).collect::<Vec<_>>(), ["m2_create_sheep"]);
        Migrator::fresh(&writer).await.unwrap();
        to_writer(db, 1, Migrator::install(db)).await;
    }
}
