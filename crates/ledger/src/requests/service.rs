//! Taking requests from Kafka, and answering them.

use std::{
    collections::{BTreeMap, HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use herdsman_node::Backoff;
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
    message::BorrowedMessage,
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};

use super::{
    Counters, RequestCounts, RequestTopics,
    answer::{self, Fault},
    done::Marks,
    message::{self, Asked, Ids, Text, Topic, Unfit},
    perform::{From, Performer},
};
use crate::{
    Offset,
    engine::{Ledger, Settings},
};

/// Clients whose requests are done at the same time; those of one client are done one after the other.
const LANES: usize = 16;
/// Requests in work or waiting for it; no more are taken from Kafka then.
const REQUESTS_MOST: usize = 256;
/// Their bytes.
const BYTES_MOST: usize = 16 * 1024 * 1024;
/// How often it is written down up to where requests are answered.
const NOTE_EVERY: Duration = Duration::from_millis(200);
/// Trouble of Kafka is waited for.
const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// How long requests under way may take to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);
/// How long an answer may wait for room.
const QUEUE: Duration = Duration::from_secs(5);

/// Answers requests until it is stopped or dropped.
#[derive(Debug)]
pub struct Requests {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    counters: Arc<Counters>,
}

impl Requests {
    /// Begins. Kafka that does not answer is tried again, for as long as it takes.
    #[must_use]
    pub fn start(ledger: Ledger, topics: RequestTopics, settings: Settings) -> Self {
        let (stop, stopped) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let own = Arc::clone(&counters);
        let performer = Arc::new(Performer::new(ledger, settings));
        let task = tokio::spawn(forever(performer, topics, settings.deadline, stopped, own));
        Self { stop, task, counters }
    }

    /// What has become of how many requests.
    #[must_use]
    pub fn counts(&self) -> RequestCounts {
        RequestCounts(Arc::clone(&self.counters))
    }

    /// Takes no more requests, and answers those under way, within ten seconds.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "requests ended badly");
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forever(
    performer: Arc<Performer>,
    topics: RequestTopics,
    deadline: Duration,
    mut stop: watch::Receiver<bool>,
    counters: Arc<Counters>,
) {
    let mut failures = 0;
    loop {
        let begun = tokio::select! {
            begun = begin(&topics, deadline) => begun,
            () = told(&mut stop) => return,
        };
        match begun {
            Ok((consumer, producer)) => {
                tracing::info!(
                    one = topics.one,
                    response = topics.response,
                    "requests are answered"
                );
                let answering = Answering { producer, topic: topics.response.clone(), counters };
                let desk = Desk::new(&performer, &Arc::new(answering), consumer, topics);
                return Box::pin(desk.run(stop)).await;
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, "requests cannot be taken yet");
                tokio::select! {
                    () = tokio::time::sleep(AGAIN.pause(failures, fastrand::f64())) => {}
                    () = told(&mut stop) => return,
                }
            }
        }
    }
}

async fn begin(
    topics: &RequestTopics,
    deadline: Duration,
) -> Result<(Arc<StreamConsumer>, FutureProducer), KafkaError> {
    topics.make().await?;
    Ok((topics.consumer(deadline * 4)?, topics.producer()?))
}

/// Comes back when it is to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone says so, too.
    drop(stop.wait_for(|stop| *stop).await);
}

/// A record's place.
type Place = (Topic, i32, i64);

/// A request on its way to a lane.
struct Job {
    place: Place,
    bytes: usize,
    asked: Result<Asked, (Ids, String)>,
}

/// A member of the group. Leaving it waits for a broker, which may be gone: that is for a thread that nobody waits for.
struct Taking(Option<Arc<StreamConsumer>>);

impl Taking {
    /// Writes down what is answered, and leaves; the broker is given five seconds.
    async fn leave(mut self) {
        let Some(consumer) = self.0.take() else { return };
        let (tell, told) = oneshot::channel();
        aside(move || {
            drop(consumer);
            if tell.send(()).is_err() {
                tracing::debug!("the group of requests was left late");
            }
        });
        if timeout(LEAVE, told).await.is_err() {
            tracing::warn!("Kafka does not let the group of requests go");
        }
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if let Some(consumer) = self.0.take() {
            aside(move || drop(consumer));
        }
    }
}

/// On a thread of its own; on this one if there is none.
fn aside(job: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name("requests-end".to_owned()).spawn(job) {
        tracing::debug!(%error, "no thread to leave the group on");
    }
}

/// Where requests are handed out, and what is in work is known.
struct Desk {
    consumer: Taking,
    topics: RequestTopics,
    answering: Arc<Answering>,
    lanes: Vec<mpsc::Sender<Job>>,
    workers: JoinSet<()>,
    finished: mpsc::Receiver<(Place, usize)>,
    marks: BTreeMap<(Topic, i32), Marks>,
    /// Up to where requests are answered, and Kafka is not told yet.
    moved: HashMap<(Topic, i32), i64>,
    requests: usize,
    bytes: usize,
}

impl Desk {
    fn new(
        performer: &Arc<Performer>,
        answering: &Arc<Answering>,
        consumer: Arc<StreamConsumer>,
        topics: RequestTopics,
    ) -> Self {
        let (finish, finished) = mpsc::channel(REQUESTS_MOST);
        let mut workers = JoinSet::new();
        let lane = |_| {
            let (lane, jobs) = mpsc::channel(REQUESTS_MOST);
            let (performer, answering) = (Arc::clone(performer), Arc::clone(answering));
            workers.spawn(work(performer, answering, jobs, finish.clone()));
            lane
        };
        let lanes = (0..LANES).map(lane).collect();
        Self {
            consumer: Taking(Some(consumer)),
            topics,
            answering: Arc::clone(answering),
            lanes,
            workers,
            finished,
            marks: BTreeMap::new(),
            moved: HashMap::new(),
            requests: 0,
            bytes: 0,
        }
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut notes = interval(NOTE_EVERY);
        notes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Some(consumer) = self.consumer.0.clone() else { return };
        let mut failures = 0_u32;
        loop {
            let room = self.requests < REQUESTS_MOST && self.bytes < BYTES_MOST;
            tokio::select! {
                () = told(&mut stop) => break,
                Some((place, bytes)) = self.finished.recv() => self.finish(place, bytes),
                _ = notes.tick() => self.note(),
                received = consumer.recv(), if room => match received {
                    Ok(record) => {
                        failures = 0;
                        self.take(&record);
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        tracing::debug!(%error, "no requests for now");
                        tokio::time::sleep(AGAIN.pause(failures, fastrand::f64())).await;
                    }
                },
            }
        }
        drop(consumer);
        self.drain().await;
    }

    /// One record: a request for a lane, or nothing of ours.
    fn take(&mut self, record: &BorrowedMessage<'_>) {
        let topic = if record.topic() == self.topics.one { Topic::One } else { Topic::All };
        let place = (topic, record.partition(), record.offset());
        self.marks.entry((topic, record.partition())).or_default().take(record.offset());
        let body = record.payload().unwrap_or_default();
        // The log's own entries are somebody else's matter.
        if topic == Topic::All && !body.starts_with(b"{") {
            return self.mark(place);
        }
        let asked = match message::read(body) {
            Ok(asked) => Ok(asked),
            Err(Unfit::Told(ids, why)) => Err((ids, why)),
            Err(Unfit::Lost(why)) => {
                let count = self.answering.counters.unreadable.fetch_add(1, Ordering::Relaxed) + 1;
                // One that writes nothing else would fill the log.
                if count.is_power_of_two() {
                    let (topic, partition, offset) = (record.topic(), place.1, place.2);
                    tracing::warn!(
                        topic,
                        partition,
                        offset,
                        count,
                        why,
                        "a message is no request, and is passed over"
                    );
                }
                return self.mark(place);
            }
        };
        let ids = asked.as_ref().map_or_else(|(ids, _)| ids, |asked| &asked.ids);
        let mut hasher = DefaultHasher::new();
        match &ids.client {
            Some(client) => client.hash(&mut hasher),
            // Nobody's in particular: in the order of the topic.
            None => (topic, place.1).hash(&mut hasher),
        }
        let lanes = u64::try_from(self.lanes.len()).unwrap_or(1).max(1);
        let lane = usize::try_from(hasher.finish() % lanes).unwrap_or_default();
        let bytes = body.len();
        // Each has room for as many as are taken.
        if let Some(lane) = self.lanes.get(lane)
            && lane.try_send(Job { place, bytes, asked }).is_ok()
        {
            self.requests += 1;
            self.bytes += bytes;
        }
    }

    fn finish(&mut self, place: Place, bytes: usize) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.mark(place);
    }

    fn mark(&mut self, (topic, partition, offset): Place) {
        let marks = self.marks.entry((topic, partition)).or_default();
        if let Some(next) = marks.finish(offset) {
            self.moved.insert((topic, partition), next);
        }
    }

    /// Tells Kafka up to where requests are answered.
    fn note(&mut self) {
        let mut places = TopicPartitionList::new();
        for ((topic, partition), next) in self.moved.drain() {
            let name = match topic {
                Topic::All => &self.topics.kafka.topic,
                Topic::One => &self.topics.one,
            };
            let next = rdkafka::Offset::Offset(next);
            if let Err(error) = places.add_partition_offset(name, partition, next) {
                tracing::debug!(%error, "a place cannot be written down");
            }
        }
        if places.count() == 0 {
            return;
        }
        let Some(consumer) = &self.consumer.0 else { return };
        if let Err(error) = consumer.store_offsets(&places) {
            // Another program has the partition now, and does again what was not written down.
            tracing::debug!(%error, "places of requests are not written down");
        }
    }

    /// Lets what is in work end.
    async fn drain(mut self) {
        let deadline = Instant::now() + DRAIN;
        self.lanes.clear();
        while self.requests > 0 {
            match timeout_at(deadline, self.finished.recv()).await {
                Ok(Some((place, bytes))) => self.finish(place, bytes),
                Ok(None) => break,
                Err(_) => {
                    let count = self.requests;
                    tracing::warn!(count, "requests are left for the next program");
                    break;
                }
            }
        }
        self.note();
        self.workers.shutdown().await;
        self.consumer.leave().await;
    }
}

/// Does the requests of some clients, one after the other.
async fn work(
    performer: Arc<Performer>,
    answering: Arc<Answering>,
    mut jobs: mpsc::Receiver<Job>,
    finish: mpsc::Sender<(Place, usize)>,
) {
    let mut seen = Offset::GENESIS;
    while let Some(Job { place, bytes, asked }) = jobs.recv().await {
        let (topic, _, offset) = place;
        let at = Offset(u64::try_from(offset).unwrap_or_default());
        let (ids, text, outcome) = match asked {
            Ok(asked) => {
                let outcome = performer.perform(&asked, From { topic, at, seen }).await;
                (asked.ids, Some(asked.text), outcome)
            }
            Err((ids, why)) => (ids, None, Err(Fault::new("08P01", why))),
        };
        if let Ok(done) = &outcome {
            seen = seen.max(done.offset.unwrap_or_default());
        }
        answering.send(&ids, topic, text.as_ref(), &outcome).await;
        if finish.send((place, bytes)).await.is_err() {
            return;
        }
    }
}

/// Where answers go.
struct Answering {
    producer: FutureProducer,
    topic: String,
    counters: Arc<Counters>,
}

impl Answering {
    /// Until Kafka has the answer, or says that it never takes it.
    async fn send(
        &self,
        ids: &Ids,
        topic: Topic,
        text: Option<&Text>,
        outcome: &Result<answer::Done, Fault>,
    ) {
        let body = answer::encode(ids, topic, text, outcome);
        let counter = if outcome.is_ok() { &self.counters.done } else { &self.counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut failures = 0;
        loop {
            let record = FutureRecord::to(&self.topic).key(&ids.message).payload(&body);
            let Err((error, _)) = self.producer.send(record, Timeout::After(QUEUE)).await else {
                return;
            };
            failures += 1;
            let request = ids.request();
            if is_for_ever(&error) {
                tracing::warn!(%request, %error, "an answer is not taken by Kafka");
                return;
            }
            tracing::debug!(%request, %error, "an answer is sent again");
            tokio::time::sleep(AGAIN.pause(failures, fastrand::f64())).await;
        }
    }
}

/// Whether another try would end alike.
fn is_for_ever(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode::{InvalidRecord, MessageSizeTooLarge};
    matches!(error.rdkafka_error_code(), Some(InvalidRecord | MessageSizeTooLarge))
}
