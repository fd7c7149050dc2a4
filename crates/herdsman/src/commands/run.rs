//! `herdsman run`: everything in its order, and nothing half.
//!
//! Configuration with all its errors, then every port, then the watcher, then the gateway, then the word that we are
//! there. Whatever fails on the way ends the program before anything behind it has begun.

mod clients;
mod ending;
mod hooks;
pub(super) mod manager;
mod sockets;
mod take_over;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use herdsman_api::{ApiState, Handle, Server, TlsIdentity};
use herdsman_gateway::Bound;
use herdsman_watch::{Topology, Watch, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::clients::Clients;
use self::ending::Ended;
use self::manager::Watchdog;
use self::sockets::Sockets;
use self::take_over::{Door, Next};
use super::stream::{Beside, live};
use super::{ledger, mesh};
use crate::cli::Global;
use crate::config::{Config, ConfigError, Depth};
use crate::exit::{Exit, Failed};
use crate::logs::{self, LogFile};
use crate::metrics::Metrics;

/// Runs until a signal ends it. With `take_over`, on the sockets of the run that is there, and until the next one takes them.
pub(crate) async fn run(
    file: Option<&Path>,
    take_over: Option<&Path>,
    global: &Global,
) -> Result<Exit, Failed> {
    let config = Config::load(file, Depth::Full)?;
    if config.nodes.is_empty() {
        return Err(Exit::Config.with(format!(
            "{} has no `hosts`, expected at least one to watch; `herdsman ledger run` runs a ledger and nothing else",
            config.path.display()
        )));
    }
    let identity = identity(&config).map_err(|problem| Exit::Config.with(problem))?;
    let log_file = logs::start(&config.log, global.debug, global.log_format)
        .map_err(|problem| Exit::Config.with(problem))?;
    let mut signals = Signals::listen()?;

    let mut sockets = Sockets::passed().map_err(|problem| Exit::Unavailable.with(problem))?;
    let before = match take_over {
        Some(path) => {
            take_over::ask(path).await.map_err(|problem| Exit::Unavailable.with(problem))?
        }
        None => None,
    };
    let before = match before {
        Some((before, handed)) => {
            let outcome = sockets.add(handed);
            outcome.map_err(|error| Exit::Unavailable.with(error.to_string()))?;
            Some(before)
        }
        None => None,
    };
    let server = Server::bind_with(
        config.listen.clone(),
        identity,
        state(&config, nothing_known_yet()),
        &mut |address| sockets.take(address),
    )
    .await
    .map_err(|error| Exit::Unavailable.with(error))?;
    let doors = Clients::bind(&config, &mut sockets).await?;
    sockets.done();
    let handed = match take_over {
        Some(_) => copies(&server, doors.as_ref())
            .map_err(|error| Exit::Unavailable.with(format!("failed to copy a socket: {error}")))?,
        None => Vec::new(),
    };
    let watcher = Watcher::start(config.setup()).map_err(|error| Exit::Config.with(error))?;
    let api = server.handle();
    api.reload(state(&config, watcher.watch()));
    api.offer_stream(live::of(&config.stream));
    let mut clients = Clients::serve(doors, &config, watcher.watch()).await?;
    announce(&config, &server, &clients);

    let stop = CancellationToken::new();
    let mut serving = tokio::spawn(server.run(stop.clone()));
    if let Some(before) = before {
        before.ends(clients.unknown_cancels()).await;
    }
    let door = take_over.map(|path| Door::open(path, handed)).transpose();
    let mut door = door.map_err(|problem| Exit::Unavailable.with(problem))?;
    let hooks = hooks::Beside::start(&config, watcher.watch(), &api)?;
    let metrics = Metrics::of(clients.statistics(), hooks.statuses());
    let mut beside = Beside::start(&config, &watcher, metrics.clone())?;
    api.offer_metrics(Some(Arc::new(metrics.clone())));
    let ledger = ledger::Beside::start(&config, metrics.clone()).await?;
    let mesh = mesh::Beside::start(&config, &api, metrics, watcher.watch())?;
    let mut running = Running { config, watcher, api, mesh, hooks, log_file };
    let (wishes, ends) = (clients.wishes(), clients.ends());
    let mut watchdog = Watchdog::of_manager();
    manager::ready("serving");
    let why = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::End(signal) => {
                    tracing::info!(signal, "stopping: requests under way may finish");
                    break Ended::Signal;
                }
                Asked::Pause => clients.pause(),
                Asked::Resume => clients.resume(),
                Asked::Reload => {
                    // What went wrong is in the log.
                    let _logged = watchdog.during(Box::pin(running.reload(&clients))).await;
                }
            },
            wish = wishes.next() => {
                wish.done(watchdog.during(Box::pin(running.reload(&clients))).await);
            }
            wish = ends.next() => {
                let how = wish.heard();
                tracing::info!(?how, "stopping: an administrator of the gateway has asked for it");
                break Ended::Asked(how);
            }
            next = next(&mut door) => {
                tracing::info!("the next run serves: clients who are here may stay");
                break Ended::Next(next);
            }
            () = watchdog.beat() => (),
            () = beside.look_after() => beside.again(&running.config, &running.watcher),
            why = clients.failed() => return Err(Exit::Internal.with(why)),
            ended = &mut serving => {
                let why = ended.err().map_or_else(String::new, |error| format!(": {error}"));
                return Err(Exit::Internal.with(format!("the API ended by itself{why}")));
            }
        }
    };
    manager::stopping();
    stop.cancel();
    drop(door);
    // Whose clients may stay for ever is told so once before it ends at once.
    let mut waits = !matches!(why, Ended::Signal);
    let impatience = CancellationToken::new();
    let parts = ending::Parts { serving, clients, beside, ledger, running };
    let ending = watchdog.during(ending::end(parts, why, impatience.clone()));
    tokio::pin!(ending);
    loop {
        tokio::select! {
            ended = &mut ending => return match ended {
                Ok(()) => {
                    tracing::info!("stopped");
                    Ok(Exit::Success)
                }
                Err(error) => Err(Exit::Internal.with(format!("the API ended badly: {error}"))),
            },
            signal = signals.end() => {
                if !std::mem::take(&mut waits) {
                    tracing::warn!(signal, "stopped at once, at the second signal");
                    return Ok(Exit::Failure);
                }
                tracing::info!(signal, "not waiting any longer: clients may finish their transactions");
                impatience.cancel();
            }
        }
    }
}

/// The sockets that are listened on, once more.
fn copies(server: &Server, doors: Option<&Bound>) -> std::io::Result<Vec<OwnedFd>> {
    let mut sockets = server.sockets()?;
    if let Some(doors) = doors {
        sockets.extend(doors.sockets()?);
    }
    Ok(sockets)
}

/// The next run, once it serves. Never, where nobody waits for one.
async fn next(door: &mut Option<Door>) -> Next {
    match door {
        Some(door) => door.next().await,
        None => std::future::pending().await,
    }
}

/// What can change while the program runs.
struct Running {
    config: Config,
    watcher: Watcher,
    api: Handle,
    mesh: mesh::Beside,
    hooks: hooks::Beside,
    log_file: Option<LogFile>,
}

impl Running {
    /// Continues with the configuration as it is now; where that is broken, with the old one, and says what is wrong.
    async fn reload(&mut self, clients: &Clients) -> Result<(), String> {
        manager::reloading();
        self.reopen_log();
        let outcome = self.try_reload(clients).await;
        if let Err(problem) = &outcome {
            for line in problem.lines() {
                tracing::error!("{line}");
            }
            tracing::error!(file = %self.config.path.display(), "not reloaded: the old configuration stays in force");
        }
        manager::ready(match outcome {
            Ok(()) => "serving",
            Err(_) => "serving with the old configuration: the new one is broken, as the log says",
        });
        outcome
    }

    async fn try_reload(&mut self, clients: &Clients) -> Result<(), String> {
        // The same file as at the start, also when a better place for one has got one since.
        let config =
            Config::load(Some(&self.config.path), Depth::Full).map_err(|error| short(&error))?;
        let identity = identity(&config)?;
        let mut restarts = clients.reload(&config, self.watcher.watch())?;
        self.watcher.reload(config.setup()).await.map_err(|error| error.to_string())?;
        self.api.reload(state(&config, self.watcher.watch()));
        if let (Some(identity), true) = (identity, self.config.ssl.is_some()) {
            self.api.reload_tls(identity);
        }
        self.mesh.reload(&self.config, &config, &self.api).await;
        self.hooks.reload(&config, self.watcher.watch(), &self.api).await;
        restarts.extend(needs_restart(&self.config, &config));
        for key in restarts {
            tracing::warn!("`{key}` has changed; that takes effect at the next start only");
        }
        tracing::info!(file = %config.path.display(), nodes = config.nodes.len(), "reloaded");
        for note in &config.notes {
            tracing::warn!("{note}");
        }
        // What needs a restart stays as it was, so that the next reload says so again.
        self.config = Config {
            listen: self.config.listen.clone(),
            ssl: if self.config.ssl.is_some() == config.ssl.is_some() {
                config.ssl
            } else {
                self.config.ssl.take()
            },
            log: self.config.log.clone(),
            stream: self.config.stream.clone(),
            stream_print: self.config.stream_print,
            ledger: self.config.ledger.clone(),
            ..config
        };
        Ok(())
    }

    fn reopen_log(&self) {
        if let (Some(log), Some(path)) = (&self.log_file, &self.config.log.file)
            && let Err(problem) = log.reopen(path)
        {
            tracing::error!("{problem}; logging goes on in the file that is open");
        }
    }
}

/// The keys whose change a running program cannot follow.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("bind", old.listen.bind != new.listen.bind),
        ("port", old.listen.port != new.listen.port),
        ("ssl", old.ssl.is_some() != new.ssl.is_some()),
        ("api.node_ports", old.api.node_ports != new.api.node_ports),
        ("api.agent_port", old.api.agent_port != new.api.agent_port),
        ("loglevel", old.log.level != new.log.level),
        ("logfile", old.log.file != new.log.file),
        ("stream", old.stream_print != new.stream_print),
        (
            "ledger",
            old.ledger != new.ledger
                || (old.hosts_print != new.hosts_print && !new.ledger.nodes.is_empty()),
        ),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

fn identity(config: &Config) -> Result<Option<TlsIdentity>, String> {
    config.ssl.as_ref().map(|ssl| ssl.load().map_err(|error| error.to_string())).transpose()
}

fn state(config: &Config, watch: Watch) -> ApiState {
    ApiState {
        watch,
        groups: config.groups.clone(),
        config: config.api.clone(),
        writes: config.availability.writes,
    }
}

/// What the API is bound with: it takes no request before the watcher is there.
fn nothing_known_yet() -> Watch {
    let (_, topology) = watch::channel(Arc::new(Topology::default()));
    Watch::detached(topology)
}

/// Problems as the log takes them: one line each, without the source.
fn short(error: &ConfigError) -> String {
    match error {
        ConfigError::NotFound => error.to_string(),
        ConfigError::Problems(problems) => problems
            .iter()
            .map(|problem| problem.to_string().lines().next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn announce(config: &Config, server: &Server, clients: &Clients) {
    let scheme = if config.ssl.is_some() { "https" } else { "http" };
    let addresses: Vec<_> =
        server.local_addrs().iter().map(|address| format!("{scheme}://{address}")).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %config.path.display(),
        api = addresses.join(" "),
        gateway = clients.address(),
        "herdsman is up"
    );
    for (node, info) in &config.nodes {
        tracing::info!(%node, endpoint = info.endpoint(), "watching");
    }
    for note in &config.notes {
        tracing::warn!("{note}");
    }
}

/// The signals the program listens for.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

/// What a signal asks for.
enum Asked {
    End(&'static str),
    Reload,
    Pause,
    Resume,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failed> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Exit::Internal.with(format!("failed to listen for signals: {error}"))
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End("TERM"),
            _ = self.interrupt.recv() => Asked::End("INT"),
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::Pause,
            _ = self.user2.recv() => Asked::Resume,
        }
    }

    /// The next signal that asks us to end.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            if let Asked::End(signal) = self.next().await {
                return signal;
            }
        }
    }
}
