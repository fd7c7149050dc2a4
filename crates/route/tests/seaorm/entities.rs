//! Two tables, written as SeaORM's users write them.
#![allow(unreachable_pub, reason = "as SeaORM's users write them")]

pub mod shepherd {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "shepherd")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        #[sea_orm(unique)]
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(has_many = "super::sheep::Entity")]
        Sheep,
    }

    impl Related<super::sheep::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Sheep.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub mod sheep {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "sheep")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub shepherd_id: i32,
        pub name: String,
        pub wool: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(
            belongs_to = "super::shepherd::Entity",
            from = "Column::ShepherdId",
            to = "super::shepherd::Column::Id"
        )]
        Shepherd,
    }

    impl Related<super::shepherd::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Shepherd.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}
