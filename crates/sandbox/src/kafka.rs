//! A real Kafka broker with faults on demand, for whatever sends to Kafka or reads from it.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use crate::{ProcessState, SandboxError, account::Account, folder::Folder, ports::HeldPort};

mod broker;
mod jars;
mod probe;

use broker::{Broker, NAME};

/// What Kafka is to take: 16 bytes in base64, which every broker of the sandbox may share.
const CLUSTER_ID: &str = "aGVyZHNtYW4tc2FuZGJveA";
/// A cold start of the Java machine on a loaded computer; a healthy one takes three seconds.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(90);
/// How often a starting broker is asked.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// A running Kafka: one broker that is its own controller, without ZooKeeper, TLS or passwords. Topics come into being
/// when first used. Dropped, it ends the process, also a frozen one, and removes its folder.
///
/// Every record is on disk before it is acknowledged, so that [`Kafka::kill`] loses none.
///
/// ```no_run
/// # async fn example() -> Result<(), herdsman_sandbox::SandboxError> {
/// let kafka = herdsman_sandbox::Kafka::builder().partitions(3).start().await?;
/// println!("bootstrap.servers={}", kafka.bootstrap());
/// kafka.kill().await?;
/// kafka.start().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Kafka {
    // Dropped in this order: the folder goes last, and with it whatever is left.
    broker: Broker,
    folder: Folder,
    deadline: Duration,
    /// One operation at a time.
    busy: tokio::sync::Mutex<()>,
}

/// What broker is wanted. Made by [`Kafka::builder`].
#[derive(Clone, Debug)]
pub struct KafkaBuilder {
    partitions: u32,
    extra: Vec<(String, String)>,
    deadline: Duration,
}

impl Default for KafkaBuilder {
    fn default() -> Self {
        Self { partitions: 1, extra: Vec::new(), deadline: DEFAULT_DEADLINE }
    }
}

impl KafkaBuilder {
    /// How many partitions a topic gets that comes into being when first used; one unless told.
    #[must_use]
    pub fn partitions(mut self, count: u32) -> Self {
        self.partitions = count;
        self
    }

    /// A setting of the broker, such as `("message.max.bytes", "2000")`. It wins over the sandbox's own.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }

    /// How long any one operation may take, starting the broker for instance.
    #[must_use]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = within;
        self
    }

    /// Starts the broker and waits until it takes requests. If it fails midway, or its future is dropped, nothing is left
    /// behind.
    ///
    /// # Errors
    /// Kafka's jars or Java are missing (the error says what to run), a wrong setting, or the broker does not come up.
    pub async fn start(self) -> Result<Kafka, SandboxError> {
        if self.extra.iter().any(|(name, value)| format!("{name}{value}").contains(['\n', '\r'])) {
            return Err(SandboxError::not_now(NAME, "a setting of the broker is one line"));
        }
        let jars = jars::find()?;
        // Kafka, unlike PostgreSQL, does not mind root.
        let folder = Folder::create(None, Account::Own)?;
        let held = || HeldPort::take().map_err(SandboxError::system("get a free port"));
        let broker = Broker::new(folder.path(), jars, held()?, held()?);
        Account::Own.create_dir(&broker.folder)?;
        let properties = self.properties(&broker);
        Account::Own.write(&broker.properties(), &properties)?;
        let kafka =
            Kafka { broker, folder, deadline: self.deadline, busy: tokio::sync::Mutex::default() };
        kafka.broker.format(CLUSTER_ID, self.deadline).await?;
        kafka.start().await?;
        Ok(kafka)
    }

    fn properties(&self, broker: &Broker) -> String {
        let (clients, controller) = (broker.port.port(), broker.controller_port.port());
        let data = broker.data();
        let mut text = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{clients}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={}
num.partitions={}
auto.create.topics.enable=true
log.flush.interval.messages=1
log.retention.ms=-1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
",
            data.display(),
            self.partitions,
        );
        // A broker killed is back only when its controller has given up the one it was before.
        text.push_str("broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=200\n");
        for (name, value) in &self.extra {
            text.push_str(&format!("{name}={value}\n"));
        }
        text
    }
}

impl Kafka {
    /// Says what broker is wanted.
    #[must_use]
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder::default()
    }

    /// Where clients connect: `127.0.0.1:` and the port, the same for as long as this value lives. What librdkafka calls
    /// `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.broker.port.port())
    }

    /// The folder that holds everything. The broker's log is the file `kafka/log` in it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// What the broker's process is doing.
    #[must_use]
    pub fn state(&self) -> ProcessState {
        self.broker.state()
    }

    /// Kills the broker with SIGKILL, also a frozen one, and waits until it is gone. A broker that is down stays down.
    ///
    /// # Errors
    /// The process does not go away.
    pub async fn kill(&self) -> Result<(), SandboxError> {
        let _busy = self.busy.lock().await;
        self.broker.kill().await
    }

    /// Shuts the broker down in an orderly way (SIGTERM) and waits until it is gone.
    ///
    /// # Errors
    /// It is not running, is frozen, or takes too long.
    pub async fn stop(&self) -> Result<(), SandboxError> {
        let _busy = self.busy.lock().await;
        self.broker.stop(self.deadline).await
    }

    /// Starts a broker that is down, with all it had, and waits until it takes requests.
    ///
    /// # Errors
    /// It is running, or does not come up.
    pub async fn start(&self) -> Result<(), SandboxError> {
        let _busy = self.busy.lock().await;
        self.broker.spawn()?;
        self.await_ready().await
    }

    /// Stops every thread of the broker (SIGSTOP): connections stay open and nobody answers.
    ///
    /// # Errors
    /// It is not running, or does not stop.
    pub async fn freeze(&self) -> Result<(), SandboxError> {
        let _busy = self.busy.lock().await;
        self.broker.freeze().await
    }

    /// Ends [`Kafka::freeze`] (SIGCONT).
    ///
    /// # Errors
    /// It is not running, or does not go on.
    pub async fn thaw(&self) -> Result<(), SandboxError> {
        let _busy = self.busy.lock().await;
        self.broker.thaw().await
    }

    /// Whether the broker answers now and takes records.
    pub async fn answers(&self) -> bool {
        probe::answers(self.broker.port.port()).await
    }

    async fn await_ready(&self) -> Result<(), SandboxError> {
        let deadline = Instant::now() + self.deadline;
        while !self.answers().await {
            if self.state() == ProcessState::Stopped {
                return Err(SandboxError::DidNotStart {
                    node: NAME.to_owned(),
                    log: self.broker.log_end(),
                });
            }
            if Instant::now() > deadline {
                return Err(SandboxError::Deadline {
                    node: NAME.to_owned(),
                    what: "an answer of the broker".to_owned(),
                    within: self.deadline,
                    detail: format!("its log ends with: {}", self.broker.log_end()),
                });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }
}
