//! One node within one set: its pool, which is renewed whenever the node was gone, and what it has done for us.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use herdsman_node::{Conninfo, NodeName, SslMode};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};

use crate::config::PoolConfig;
use crate::lease::{Epoch, Lease};
use crate::pulse::Pulse;
use crate::stats::Counters;

/// A node as one set uses it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: NodeName,
    pub(crate) weight: u32,
    pub(crate) near: bool,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) counters: Arc<Counters>,
    options: PgConnectOptions,
    pool: PoolConfig,
    epoch: ArcSwapOption<Epoch>,
    closed: AtomicBool,
}

/// A connection that lay idle for longer than this is asked for a sign of life before it is used: a firewall may have
/// forgotten it. Shorter ones are vouched for by the pulse, which sees a lost node at once.
const IDLE_TRUST: Duration = Duration::from_secs(30);

/// How long a connection that is given back may take to roll back what was left open, and to answer.
const GOOD_MANNERS: Duration = Duration::from_secs(2);

impl Member {
    pub(crate) fn new(
        conninfo: &Conninfo,
        pulse: Arc<Pulse>,
        pool: PoolConfig,
        weight: u32,
        near: bool,
    ) -> Self {
        Self {
            name: pulse.name.clone(),
            weight,
            near,
            pulse,
            counters: Arc::default(),
            options: connect_options(conninfo, &pool),
            pool,
            epoch: ArcSwapOption::empty(),
            closed: AtomicBool::new(false),
        }
    }

    /// The pool in use; `None` before the set has started and after it was closed.
    pub(crate) fn epoch(&self) -> Option<Arc<Epoch>> {
        self.epoch.load_full()
    }

    /// A connection from the pool in use; one that is replaced meanwhile is no reason to fail.
    pub(crate) async fn lease(&self) -> Result<Lease, sqlx::Error> {
        loop {
            let epoch = self.epoch().ok_or(sqlx::Error::PoolClosed)?;
            match Arc::clone(&epoch).lease().await {
                Err(sqlx::Error::PoolClosed)
                    if epoch.is_replaced() && !self.closed.load(Ordering::SeqCst) => {}
                done => return done,
            }
        }
    }

    /// Opens as many connections as are to be kept also when idle, if they are not there.
    pub(crate) fn fill(&self) {
        if let Some(epoch) = self.epoch().filter(|_| self.pool.min_connections > 0) {
            epoch.fill(self.pool.min_connections);
        }
    }

    /// The node is gone: lets go whoever waits for it, and everyone who comes until the pool is renewed.
    pub(crate) fn cut(&self) {
        if let Some(epoch) = self.epoch() {
            epoch.retire(true);
        }
    }

    /// Puts a fresh pool in place, and ends the old one: its idle connections are closed, those in use go on until
    /// they are given back – or, if `cut`, until the statement they are carrying out notices now.
    ///
    /// With `read_only` the server itself refuses to write over these connections, which catches what looks like a
    /// read and is none.
    pub(crate) fn renew(&self, read_only: bool, cut: bool) {
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        let old = self.epoch();
        let mut options = self.options.clone();
        if read_only && self.pool.read_only_readers {
            options = options.options([("default_transaction_read_only", "on")]);
        }
        let pool = pool_options(&self.pool).connect_lazy_with(options);
        let (name, max, counters) =
            (self.name.clone(), self.pool.max_connections, Arc::clone(&self.counters));
        let before = old.as_deref().filter(|_| !cut);
        let epoch = Epoch::new(name, pool, read_only, max, counters, before);
        if let Some(old) = self.epoch.swap(Some(Arc::new(epoch))) {
            old.retire(cut);
        }
        // Closed in the meantime: then nobody else takes this one away.
        if self.closed.load(Ordering::SeqCst) {
            drop(self.close());
        }
    }

    /// Ends the pool for good.
    pub(crate) fn close(&self) -> Option<Arc<Epoch>> {
        self.closed.store(true, Ordering::SeqCst);
        let old = self.epoch.swap(None)?;
        old.retire(false);
        Some(old)
    }
}

fn pool_options(config: &PoolConfig) -> PgPoolOptions {
    // Not sqlx's `min_connections`: with it, a pool that is dropped outside of a runtime panics, and one whose server is
    // gone goes on connecting for minutes after it was closed.
    PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout)
        .idle_timeout(config.idle_timeout)
        .max_lifetime(config.max_lifetime)
        .test_before_acquire(false)
        // What sqlx itself does after each use, but not for ever: a peer that is silent would keep the place in the pool.
        .after_release(|connection, _| {
            Box::pin(async move {
                match tokio::time::timeout(GOOD_MANNERS, sqlx::Connection::ping(connection)).await {
                    Ok(pong) => pong.map(|()| true),
                    Err(_) => Err(sqlx::Error::Protocol(format!(
                        "no sign of life within {GOOD_MANNERS:?} after use"
                    ))),
                }
            })
        })
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for < IDLE_TRUST {
                    return Ok(true);
                }
                let limit = Duration::from_secs(1);
                match tokio::time::timeout(limit, sqlx::Connection::ping(connection)).await {
                    Ok(pong) => pong.map(|()| true),
                    // An error, not `Ok(false)`: that would close it politely, which waits for a peer that is silent.
                    Err(_) => Err(sqlx::Error::Protocol(format!(
                        "an idle connection gave no sign of life within {limit:?}"
                    ))),
                }
            })
        })
}

/// sqlx's options for what libpq's parameters say.
fn connect_options(info: &Conninfo, pool: &PoolConfig) -> PgConnectOptions {
    // Raw `options` can only be given in a URL; sqlx's own setter takes pairs.
    let raw: String = info.options.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let blank = PgConnectOptions::new_without_pgpass;
    let mut options = if raw.is_empty() {
        blank()
    } else {
        PgConnectOptions::from_str(&format!("postgres:///?options={raw}"))
            .unwrap_or_else(|_| blank())
    };
    options = if info.host.starts_with('/') {
        options.socket(&info.host)
    } else {
        let address = info.hostaddr.map(|address| address.to_string());
        options.host(address.as_deref().unwrap_or(&info.host))
    };
    options = options
        .port(info.port)
        .username(&info.user)
        .database(&info.dbname)
        .application_name(&info.application_name)
        .ssl_mode(ssl_mode(info.sslmode));
    if let Some(password) = &info.password {
        options = options.password(secrecy::ExposeSecret::expose_secret(password));
    }
    if let Some(file) = &info.sslrootcert {
        options = options.ssl_root_cert(file);
    }
    if let (Some(cert), Some(key)) = (&info.sslcert, &info.sslkey) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    if !pool.prepared_statements {
        options = options.statement_cache_capacity(0);
    }
    options
}

const fn ssl_mode(mode: SslMode) -> PgSslMode {
    match mode {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Allow => PgSslMode::Allow,
        SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    }
}
