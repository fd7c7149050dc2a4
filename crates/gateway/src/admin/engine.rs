//! What commands do to the gateway.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::command::{Command, Show};
use super::console;
use super::reply::{Column, Table};
use super::rights::Rights;
use super::{gather, show};
use crate::auth::ServerLogin;
use crate::client::{Card, Order};
use crate::config::CONSOLES;
use crate::pool::{Pool, Use};
use crate::shared::Shared;
use crate::switchover;
use crate::wire::Problem;
use crate::wire::error::code;

/// How long `PAUSE` and `WAIT_CLOSE` wait at most. Whoever has transactions that take longer than this can ask again;
/// nobody wants their clients to be held for ever by a console that was forgotten.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long `HOLD` waits for transactions that write to end before it says how many are left. `herdsman hold` gives it
/// ten seconds.
const HOLD: Duration = Duration::from_secs(5);
/// How often it is looked whether what is waited for has come.
const LOOK: Duration = Duration::from_millis(20);
/// How often the client is told what is still waited for.
const TELL: Duration = Duration::from_secs(5);
/// SQLSTATE of `undefined_object`.
const NO_SUCH: &str = "42704";
/// SQLSTATE of `object_not_in_prerequisite_state`.
const NOT_NOW: &str = "55000";

/// The gateway, as one client of the console may use it.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) card: Arc<Card>,
}

impl console::Engine for Engine {
    fn rights(&self) -> Rights {
        let config = self.shared.config.load();
        Rights::of(&self.card.pools.user, &config.admins, &config.stats_users)
    }

    fn columns(&self, show: Show) -> &'static [Column] {
        show::columns(show)
    }

    fn show(&self, show: Show) -> Table {
        show::table(show, gather::view(&self.shared, show))
    }

    async fn act(
        &self,
        command: Command,
        notices: mpsc::Sender<String>,
    ) -> Result<&'static str, Problem> {
        tracing::info!(
            user = &*self.card.pools.user,
            client = self.card.id,
            ?command,
            "a command of the admin database"
        );
        self.carry_out(command, &Notices(notices)).await
    }

    async fn leave(&self, busy: bool) -> Problem {
        poll_fn(|cx| {
            self.card.register(cx.waker());
            let problem = match self.card.ordered() {
                Order::None => return Poll::Pending,
                Order::End => {
                    Problem::new(code::SHUTDOWN, "an administrator has ended this connection")
                }
                // What is being carried out may end first.
                _ if busy => return Poll::Pending,
                Order::Drain => Problem::new(code::SHUTDOWN, "the gateway is shutting down"),
                Order::Idle | Order::IdleInTransaction | Order::QueryTimeout => {
                    Problem::new(code::IDLE_TOO_LONG, "idle for too long")
                }
            };
            Poll::Ready(problem)
        })
        .await
    }

    async fn cancelled(&self) {
        self.card.cancel.asked().await;
    }
}

/// Tells the client what is going on.
#[derive(Clone, Debug)]
pub(super) struct Notices(mpsc::Sender<String>);

impl Notices {
    /// Says one thing. Lost where the client reads so slowly that many wait to be sent.
    pub(super) fn say(&self, what: impl Into<String>) {
        let _full = self.0.try_send(what.into()).is_err();
    }
}

impl Engine {
    async fn carry_out(
        &self,
        command: Command,
        notices: &Notices,
    ) -> Result<&'static str, Problem> {
        let pools = &self.shared.pools;
        match command {
            Command::Pause(database) => self.pause(database.as_deref(), notices).await,
            Command::Resume(database) => self.resume(database.as_deref(), notices),
            Command::Hold => Ok(self.hold(notices).await),
            Command::Switchover { node, force } => self.switchover(&node, force, notices).await,
            Command::Reload => self.shared.desk.reload().await.map(|()| "RELOAD"),
            Command::Kill(database) => self.kill(database.as_deref(), notices),
            Command::KillClient(id) => self.kill_client(id),
            Command::Disable(database) => {
                self.known(&database)?;
                pools.disable(&database);
                Ok("DISABLE")
            }
            Command::Enable(database) => {
                self.known(&database)?;
                pools.enable(&database);
                Ok("ENABLE")
            }
            Command::Reconnect(database) => self.reconnect(database.as_deref()),
            Command::WaitClose(database) => self.wait_close(database.as_deref(), notices).await,
            Command::Shutdown(how) => self.shared.desk.end(how).await.map(|()| "SHUTDOWN"),
            Command::Suspend => self.suspend(notices).await,
            // The console answers these itself.
            Command::Show(_) | Command::Ignored(_) => Ok("SHOW"),
        }
    }

    /// Refuses what is no database for clients.
    fn known(&self, database: &str) -> Result<(), Problem> {
        if CONSOLES.contains(&database) {
            let problem = "this is the admin database, which stays as it is";
            return Err(Problem::new(code::NOT_SUPPORTED, problem));
        }
        self.shared.rules(database, &self.card.pools.user, ServerLogin::default()).map(drop)
    }

    fn known_or_all(&self, database: Option<&str>) -> Result<(), Problem> {
        database.map_or(Ok(()), |database| self.known(database))
    }

    async fn pause(
        &self,
        database: Option<&str>,
        notices: &Notices,
    ) -> Result<&'static str, Problem> {
        self.known_or_all(database)?;
        let pools = &self.shared.pools;
        // As PgBouncer: who gives up waiting, or is cancelled, does not leave clients held behind.
        let mut undo =
            Undo { shared: &self.shared, database, armed: !pools.has_own_pause(database) };
        pools.pause(database);
        let back = pools.come_back(database);
        let waited = until(back, notices, || {
            format!("waiting for {} server connections to come back", self.in_use(database))
        });
        if !waited.await {
            let left = self.in_use(database);
            return Err(Problem::new(
                code::CANCELLED,
                format!("{left} server connections did not come back within {PATIENCE:?}; nothing is paused"),
            )
            .hint("end long transactions (SHOW CLIENTS), or use KILL"));
        }
        undo.armed = false;
        Ok("PAUSE")
    }

    /// Accepts nobody new, and lets transactions end and no new one begin.
    async fn suspend(&self, notices: &Notices) -> Result<&'static str, Problem> {
        let desk = &self.shared.desk;
        let mut undo = Accept { shared: &self.shared, armed: desk.set_suspended(true) };
        self.pause(None, notices).await?;
        undo.armed = false;
        notices.say("who connects now waits: end it with RESUME in this session, or by SIGUSR2");
        Ok("SUSPEND")
    }

    fn resume(&self, database: Option<&str>, notices: &Notices) -> Result<&'static str, Problem> {
        self.known_or_all(database)?;
        let shared = &self.shared;
        let ended = resume(shared, database);
        match database {
            Some(name) if shared.pools.is_paused(None) => notices.say(format!(
                "everything is paused, so {name} stays paused until RESUME without a name"
            )),
            _ if !ended => notices.say("nothing was paused or held"),
            _ => {}
        }
        Ok("RESUME")
    }

    /// Holds transactions that write, and waits a little until those that run have ended.
    async fn hold(&self, notices: &Notices) -> &'static str {
        let shared = &self.shared;
        if shared.desk.set_held(true) {
            shared.herd.hold();
        } else {
            notices.say("held already");
        }
        let limit = HOLD;
        let over = Instant::now() + limit;
        while self.writers() > 0 && Instant::now() < over {
            sleep(LOOK).await;
        }
        match self.writers() {
            0 => notices.say("no transaction that may write is running; RESUME ends the hold"),
            left => notices.say(format!(
                "{left} transactions that may write are still running after {limit:?}; no new one begins until RESUME"
            )),
        }
        "HOLD"
    }

    async fn switchover(
        &self,
        node: &str,
        force: bool,
        notices: &Notices,
    ) -> Result<&'static str, Problem> {
        let name = NodeName::new(node).map_err(|error| Problem::new(NO_SUCH, error.to_string()))?;
        let switchover = switchover::begin(&self.shared, &name, force);
        let mut switchover = switchover.map_err(|why| Problem::new(NOT_NOW, why))?;
        while let Some(step) = switchover.steps.recv().await {
            notices.say(step);
        }
        let failed = |why| Problem::new(code::SYSTEM, why);
        let success = match switchover.outcome.await {
            Ok(outcome) => outcome.map_err(failed)?,
            Err(error) => return Err(failed(format!("the switchover ended badly: {error}"))),
        };
        notices.say(success.text);
        Ok("SWITCHOVER")
    }

    fn kill(&self, database: Option<&str>, notices: &Notices) -> Result<&'static str, Problem> {
        self.known_or_all(database)?;
        let shared = &self.shared;
        let is_meant = |name: &str| match database {
            Some(database) => name == database,
            None => !CONSOLES.contains(&name),
        };
        if database.is_none() {
            shared.pools.pause(None);
        }
        let mut names: HashSet<Arc<str>> = database.map(Arc::from).into_iter().collect();
        names.extend(shared.pools.all().iter().map(|set| Arc::clone(&set.database)));
        for name in names.iter().filter(|name| is_meant(name)) {
            shared.pools.kill(name);
        }
        let clients = shared.clients.all();
        let meant = clients.iter().filter(|card| is_meant(&card.pools.database));
        let ended = meant.map(|card| card.order(Order::End)).count();
        let what = database.unwrap_or("everything");
        notices.say(format!("{ended} clients ended; {what} is paused until RESUME"));
        Ok("KILL")
    }

    fn kill_client(&self, id: u64) -> Result<&'static str, Problem> {
        let clients = self.shared.clients.all();
        let client = clients.iter().find(|card| card.id == id).ok_or_else(|| {
            Problem::new(NO_SUCH, format!("there is no client {id}"))
                .hint("see `id` in SHOW CLIENTS")
        })?;
        client.order(Order::End);
        Ok("KILL_CLIENT")
    }

    fn reconnect(&self, database: Option<&str>) -> Result<&'static str, Problem> {
        self.known_or_all(database)?;
        self.shared.desk.close(self.servers(database));
        self.shared.pools.reconnect(database);
        Ok("RECONNECT")
    }

    async fn wait_close(
        &self,
        database: Option<&str>,
        notices: &Notices,
    ) -> Result<&'static str, Problem> {
        self.known_or_all(database)?;
        let left = || {
            let closing = self.shared.desk.closing();
            self.servers(database).into_iter().filter(|id| closing.contains(id)).count()
        };
        let closed = async {
            while left() > 0 {
                sleep(LOOK).await;
            }
        };
        let tell = || format!("waiting for {} server connections to be closed", left());
        if !until(closed, notices, tell).await {
            let problem =
                format!("{} server connections were not closed within {PATIENCE:?}", left());
            return Err(Problem::new(code::CANCELLED, problem));
        }
        self.shared.desk.closed(&self.servers(None).into_iter().collect());
        Ok("WAIT_CLOSE")
    }

    fn pools(&self, database: Option<&str>) -> Vec<Arc<Pool>> {
        let sets = self.shared.pools.all();
        let meant = sets.iter().filter(|set| database.is_none_or(|name| *set.database == *name));
        meant.flat_map(|set| set.pools()).collect()
    }

    /// Numbers of the open server connections.
    fn servers(&self, database: Option<&str>) -> Vec<u64> {
        let pools = self.pools(database);
        pools.iter().flat_map(|pool| pool.servers()).map(|server| server.id).collect()
    }

    /// How many server connections clients have.
    fn in_use(&self, database: Option<&str>) -> usize {
        self.pools(database).iter().map(|pool| pool.counts().active).sum()
    }

    /// How many server connections clients have to write on.
    fn writers(&self) -> usize {
        let pools = self.pools(None);
        let servers = pools.iter().flat_map(|pool| pool.servers());
        servers.filter(|server| server.doing() == Use::Writer).count()
    }
}

/// Ends a pause, and a hold or a suspension where it is about all databases. Whether there was one.
pub(super) fn resume(shared: &Shared, database: Option<&str>) -> bool {
    let held = database.is_none() && shared.desk.set_held(false);
    if held {
        shared.herd.resume();
    }
    let suspended = database.is_none() && shared.desk.set_suspended(false);
    shared.pools.resume(database) || held || suspended
}

/// Takes a suspension back unless it came about.
struct Accept<'a> {
    shared: &'a Shared,
    armed: bool,
}

impl Drop for Accept<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.desk.set_suspended(false);
        }
    }
}

/// Takes a pause back unless it came about.
struct Undo<'a> {
    shared: &'a Shared,
    database: Option<&'a str>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.pools.resume(self.database);
        }
    }
}

/// Waits for `what` and tells from time to time what that is. Whether it came about in time.
async fn until(
    what: impl Future<Output = ()>,
    notices: &Notices,
    tell: impl Fn() -> String,
) -> bool {
    tokio::pin!(what);
    let over = Instant::now() + PATIENCE;
    let mut next = LOOK * 5;
    while Instant::now() < over {
        if timeout(next, &mut what).await.is_ok() {
            return true;
        }
        notices.say(tell());
        next = TELL;
    }
    false
}
