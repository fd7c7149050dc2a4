//! A search index that stays in step with the table `public.articles`, through restarts of the server and of itself.
//!
//! ```sh
//! cargo run -p example-search-index                          # a story, on a server of its own
//! cargo run -p example-search-index -- postgres://user@host  # your server: each line you type is searched for
//! ```

mod index;
mod story;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use herdsman_node::{Conninfo, NodeName};
use herdsman_stream::config::SnapshotMode;
use herdsman_stream::engine::End;
use herdsman_stream::service::{Service, ServiceError, Setup};
use herdsman_stream::{Handlers, Sink, StreamConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use index::Index;

type Problem = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let Some(server) = std::env::args().nth(1) else { return story::tell().await };
    let running = Running::start(server.parse()?, Path::new("search-index-state"))?;
    // Waits in the main thread; the stream goes on in others.
    for word in std::io::stdin().lines() {
        println!("{:?}", running.index.search(word?.trim()));
        if running.service.is_finished() {
            break;
        }
    }
    running.stop().await
}

/// An index, and the stream that keeps it in step.
struct Running {
    index: Index,
    service: JoinHandle<Result<End, ServiceError>>,
    shutdown: CancellationToken,
}

impl Running {
    /// `state` is where index and position survive a restart.
    fn start(server: Conninfo, state: &Path) -> Result<Self, Problem> {
        let config = StreamConfig {
            tables: vec!["public.articles".to_owned()],
            // The first time, the rows that are there come before what happens.
            snapshot: SnapshotMode::Initial,
            state: state.to_owned(),
            ..StreamConfig::default()
        };
        std::fs::create_dir_all(state)?;
        let index = Index::open(&state.join("index"))?;
        let handlers = Handlers::new().table("public.articles", index.clone())?;
        let service = Service::new(Setup {
            config,
            nodes: [(NodeName::new("server")?, server)].into(),
            watch: None,
            sinks: vec![("index".to_owned(), Arc::new(handlers) as Arc<dyn Sink>)],
        })?;
        let shutdown = CancellationToken::new();
        let service = tokio::spawn(service.run(shutdown.clone()));
        Ok(Self { index, service, shutdown })
    }

    async fn stop(self) -> Result<(), Problem> {
        self.shutdown.cancel();
        self.service.await??;
        Ok(())
    }
}
