//! The login proper: who it is, whether there is room, and all that a client is told before its first command.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, timeout_at};

use super::ask::Ask;
use super::prove::{Refusal, Talk};
use super::reception::{AddressPlace, Claim, Full, Place, Seat};
use super::{Client, ClientStream, Peer};
use crate::auth::{self, Conversation, Step, User};
use crate::cancel::{CancelKey, CancelSlot};
use crate::client::{Card, Order, State};
use crate::config::{GatewayConfig, Target};
use crate::pool::{PoolSet, Rules};
use crate::shared::Shared;
use crate::wire::Problem;
use crate::wire::backend::{self, Status};
use crate::wire::error::code;
use crate::wire::startup::Startup;
use crate::{admin, checkout};

/// What clients of the console are told, who expect to hear it from a server.
const CONSOLE: [(&str, &str); 8] = [
    ("server_version", admin::SERVER_VERSION),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("TimeZone", "GMT"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "off"),
];

/// Somebody who has been let in.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) client: Client,
    pub(super) stay: Stay,
    /// It is here for the gateway itself.
    pub(super) console: bool,
}

/// What a client holds for as long as it is here. Dropping it takes the client off every list.
#[derive(Debug)]
pub(super) struct Stay {
    shared: Arc<Shared>,
    id: u64,
    _key: CancelKey,
    _places: (Place, Option<AddressPlace>, Option<Place>, Option<Seat>),
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.shared.clients.remove(self.id);
    }
}

/// What is known of a client before it logs in.
pub(super) struct Arrival<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) config: &'a GatewayConfig,
    pub(super) peer: Peer,
    pub(super) facts: auth::Peer,
    /// By when it has to have proven who it is.
    pub(super) deadline: Instant,
    pub(super) worker: usize,
    pub(super) place: Place,
    /// Where its address is counted.
    pub(super) address: Option<AddressPlace>,
}

impl Arrival<'_> {
    /// Logs a client in. On `Ok` it has been told that we are ready.
    pub(super) async fn enter(self, mut talk: Talk, startup: &Startup) -> Option<Guest> {
        let peer = self.peer;
        match self.run(&mut talk, startup).await {
            Ok((stay, half)) => {
                let Half { card, ask, worker } = half;
                let console = ask.console();
                let Talk { stream, unread, .. } = talk;
                let (settings, target) = (ask.settings, ask.target);
                let client = Client { stream, unread, card, settings, target, worker };
                Some(Guest { client, stay, console })
            }
            Err(Refusal::Gone(error)) => {
                tracing::debug!(%peer, %error, "a client left during its login");
                None
            }
            Err(Refusal::Told(problem)) => {
                talk.farewell(&problem).await;
                None
            }
        }
    }

    async fn run(self, talk: &mut Talk, startup: &Startup) -> Result<(Stay, Half), Refusal> {
        let Self { shared, config, peer, facts, deadline, worker, place, address } = self;
        going_on(shared)?;
        let ask = Ask::read(startup)?;
        // Whoever looks after the gateway gets in however full it is. The others are told early when there is no room, but
        // take their place only once they have proven who they are: nobody can fill the gateway without a password.
        if !ask.console() {
            drop(room(shared, config)?);
            if let Some(door) = &shared.ledger {
                door.expect(&ask.database, &ask.settings)?;
            }
        }
        startup.negotiate(&mut talk.out);
        let hold =
            Hold { until: deadline.min(Instant::now() + config.hold), most: config.hold_queue };
        let proving = prove(talk, shared, &ask, (peer, facts), hold);
        let user = timeout_at(deadline, proving).await.map_err(|_| {
            Problem::new(code::CANCELLED, "the login took longer than `login_timeout`")
        })??;
        let room = if ask.console() { None } else { Some(room(shared, config)?) };
        let pools = if ask.console() {
            console(shared, config, &ask)?
        } else {
            pools(shared, &ask, &user)?
        };
        let seat = if ask.console() { None } else { Some(seat(shared, config, &pools)?) };
        let tls = matches!(talk.stream, ClientStream::Tls(_));
        let slot = CancelSlot::default();
        let id = shared.clients.next_id();
        let pools_of_card = Arc::clone(&pools);
        let card = Card::new(id, pools_of_card, peer.address, tls, &ask.application, slot);
        card.enter(State::Login, shared.clock.now());
        let card = Arc::new(card);
        let key =
            shared.reception.cancels.register(&card, startup.spoken()).ok_or_else(|| {
                Problem::new(code::SYSTEM, "there is no randomness for a cancel key")
            })?;
        let (process, secret) = (key.process, key.secret.clone());
        shared.clients.add(&card);
        let places = (place, address, room, seat);
        let stay = Stay { shared: Arc::clone(shared), id, _key: key, _places: places };
        // Once more: who was added after the others were told to leave is not told.
        going_on(shared)?;
        if ask.console() {
            for (name, value) in CONSOLE {
                backend::put_parameter(&mut talk.out, name, value);
            }
        } else if let Some(door) = &shared.ledger {
            for (name, value) in Box::pin(door.welcome()).await? {
                backend::put_parameter(&mut talk.out, name, value);
            }
        } else {
            let welcome = Box::pin(checkout::welcome(shared, &pools, &ask.settings, worker));
            // That may take as long as transactions are held.
            let welcome = tokio::select! {
                biased;
                welcome = welcome => welcome?,
                left = talk.left() => return Err(left.into()),
                problem = sent_away(&card) => return Err(problem.into()),
            };
            for (name, value) in welcome.iter() {
                backend::put_parameter(&mut talk.out, name, value);
            }
        }
        backend::put_backend_key(&mut talk.out, process, &secret);
        backend::put_ready(&mut talk.out, Status::Idle);
        talk.flush().await?;
        card.enter(State::Idle, shared.clock.now());
        Ok((stay, Half { card, ask, worker }))
    }
}

/// A client without its socket.
struct Half {
    card: Arc<Card>,
    ask: Ask,
    worker: usize,
}

/// How long who logs in may wait for a node to be there, and how many may.
#[derive(Clone, Copy)]
struct Hold {
    until: Instant,
    most: usize,
}

/// The user of this name; where only servers know it and none is there, one is waited for as transactions do.
async fn find(shared: &Shared, name: &str, hold: Hold) -> Result<Option<Arc<User>>, Problem> {
    let mut changes = shared.herd.changes();
    let mut place = None;
    loop {
        changes.borrow_and_update();
        // A node may come or go while it is being asked.
        let before = shared.users.can_ask();
        let problem = match shared.users.find(name).await {
            Err(problem) if !before || !shared.users.can_ask() => problem,
            found => return found,
        };
        if place.is_none() {
            place = shared.herd.queue(hold.most);
        }
        if place.is_none() || timeout_at(hold.until, changes.changed()).await.is_err() {
            return Err(problem);
        }
    }
}

/// Ends when somebody else wants the client to leave.
async fn sent_away(card: &Card) -> Problem {
    poll_fn(|cx| {
        card.register(cx.waker());
        match card.ordered() {
            Order::End => {
                let problem = "an administrator has ended this connection";
                Poll::Ready(Problem::new(code::SHUTDOWN, problem))
            }
            Order::Drain => {
                Poll::Ready(Problem::new(code::CANNOT_CONNECT_NOW, "the gateway is shutting down"))
            }
            // Nobody has been idle here.
            _ => Poll::Pending,
        }
    })
    .await
}

fn going_on(shared: &Shared) -> Result<(), Problem> {
    if shared.draining.is_cancelled() {
        return Err(Problem::new(code::CANNOT_CONNECT_NOW, "the gateway is shutting down"));
    }
    Ok(())
}

fn room(shared: &Shared, config: &GatewayConfig) -> Result<Place, Problem> {
    shared.reception.client(config.max_clients).ok_or_else(|| {
        Problem::new(code::TOO_MANY, "too many clients already").detail(format!(
            "`gateway.max_clients` is {}, and so many are here.",
            config.max_clients
        ))
    })
}

/// A place where a client is counted, if there is one for its database, its user, and both together.
fn seat(shared: &Shared, config: &GatewayConfig, pools: &PoolSet) -> Result<Seat, Problem> {
    let rules = pools.rules.load();
    let (database, user) = (&pools.database, &pools.user);
    let bounds = crate::shared::client_bounds(config, database, user);
    let claim = Claim {
        database: Arc::clone(database),
        dbname: Arc::from(&*rules.dbname),
        user: Arc::clone(user),
        of_pool: rules.pool.max_clients,
        of_database: bounds.database,
        of_user: bounds.user,
    };
    shared.reception.seat(&claim).map_err(|full| {
        let (what, bound, most) = match full {
            Full::Pool => (
                format!("of database \"{database}\" as user \"{user}\""),
                "`max_clients` of their pool",
                claim.of_pool,
            ),
            Full::Database => (
                format!("of database \"{}\"", claim.dbname),
                "`max_clients` of it",
                claim.of_database,
            ),
            Full::User => (format!("of user \"{user}\""), "`max_clients` of it", claim.of_user),
        };
        let detail = format!("{bound} is {most}, and so many are here.");
        Problem::new(code::TOO_MANY, format!("too many clients {what}")).detail(detail)
    })
}

/// The pools of a client that has proven to be `user`.
fn pools(shared: &Shared, ask: &Ask, user: &User) -> Result<Arc<PoolSet>, Problem> {
    let rules = shared.rules(&ask.database, &ask.user, user.server_login())?;
    shared.pools.get_or_create(&ask.database, &ask.user, rules)
}

/// A client of the console stands for no connections, but on the list of clients it has to stand for something.
fn console(shared: &Shared, config: &GatewayConfig, ask: &Ask) -> Result<Arc<PoolSet>, Problem> {
    let may = |users: &[String]| users.contains(&ask.user);
    if !may(&config.admins) && !may(&config.stats_users) {
        let problem = format!("user \"{}\" may not use the admin database", ask.user);
        return Err(Problem::new(code::NOT_AUTHORISED, problem)
            .hint("log in as one of `admins` or `stats_users`"));
    }
    let rules = Rules {
        pool: config.pool.clone(),
        target: Target::default(),
        group: None,
        dbname: ask.database.clone(),
        login: auth::ServerLogin::default(),
        prepared_statements: config.prepared_statements,
        session_state: config.session_state,
        write_guard: config.write_guard,
        slow_query: config.slow_query,
    };
    shared.pools.get_or_create(&ask.database, &ask.user, rules)
}

/// Has the client prove that it is who it says. What is left to send ends with `AuthenticationOk`.
async fn prove(
    talk: &mut Talk,
    shared: &Shared,
    ask: &Ask,
    (peer, facts): (Peer, auth::Peer),
    hold: Hold,
) -> Result<Arc<User>, Refusal> {
    let users = &shared.users;
    // Nobody gets to the gateway itself whom only the servers know.
    let user = if ask.console() {
        users.listed(&ask.user)
    } else {
        tokio::select! {
            biased;
            user = find(shared, &ask.user, hold) => user?,
            left = talk.left() => return Err(left.into()),
        }
    };
    let mut conversation = Conversation::new(users, &ask.user, user.clone(), facts)?;
    let mut step = conversation.start(&mut talk.out);
    loop {
        match step {
            Step::More => {
                talk.flush().await?;
                let answer = talk.answer().await?;
                step = conversation.message(&answer, &mut talk.out);
            }
            Step::Accepted => {
                let missing = || Problem::new(code::SYSTEM, "a user who is not known was let in");
                return Ok(user.ok_or_else(missing)?);
            }
            Step::Refused(problem) => {
                let cause = conversation.cause().unwrap_or_default();
                tracing::info!(user = %ask.user, database = %ask.database, %peer, cause, "refused a login");
                return Err(problem.into());
            }
        }
    }
}
