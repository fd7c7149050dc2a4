//! A small web application on SeaORM that survives the loss of its servers.
//!
//! ```sh
//! herdsman sandbox up --standbys 2 --dir herd
//! cargo run -p example-axum-seaorm -- herd/herdsman.yml 127.0.0.1:3000
//! curl -d '{"text":"hay"}' -H 'content-type: application/json' http://127.0.0.1:3000/notes
//! curl http://127.0.0.1:3000/notes
//! ```

mod note;

use std::error::Error;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use herdsman::session::SessionLayer;
use herdsman::{ReplicaSet, SeaOrm};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, QueryOrder, QuerySelect, Schema, Set,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let config = args.next().unwrap_or_else(|| "herdsman.yml".to_owned());
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());

    // The one line that changes; it was `Database::connect(url).await?`.
    let db = ReplicaSet::from_config(config)?.sea_orm();

    let mut table = Schema::new(db.get_database_backend()).create_table_from_entity(note::Entity);
    db.execute(table.if_not_exists()).await?;

    let app = Router::new()
        .route("/notes", get(list).post(create))
        .route("/notes/{id}", get(show))
        .route("/statistics", get(async |State(db): State<SeaOrm>| db.statistics().to_string()))
        // A client that sends back the `herdsman-session` header it got reads its own writes, on whichever node.
        .layer(SessionLayer::new(ReplicaSet::clone(&db)))
        .with_state(db);

    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    Ok(())
}

#[derive(serde::Deserialize)]
struct NewNote {
    text: String,
}

/// Writes: goes to the primary.
async fn create(
    State(db): State<SeaOrm>,
    Json(new): Json<NewNote>,
) -> Result<Json<note::Model>, Failure> {
    let note = note::ActiveModel { text: Set(new.text), ..Default::default() };
    Ok(Json(note.insert(&db).await?))
}

/// Reads: goes to a standby, or to the primary while there is none.
async fn list(State(db): State<SeaOrm>) -> Result<Json<Vec<note::Model>>, Failure> {
    Ok(Json(note::Entity::find().order_by_desc(note::Column::Id).limit(100).all(&db).await?))
}

async fn show(
    State(db): State<SeaOrm>,
    Path(id): Path<i64>,
) -> Result<Json<Option<note::Model>>, Failure> {
    Ok(Json(note::Entity::find_by_id(id).one(&db).await?))
}

/// What a client is told: to come back later if the servers are the trouble.
struct Failure(DbErr);

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match herdsman::Error::of_db_err(&self.0) {
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
            None => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.0.to_string()).into_response()
    }
}
