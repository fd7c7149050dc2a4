//! The mesh behind the API's door: what can be asked and told at `/v2/mesh` and `/rpc`.

use std::sync::Arc;
use std::time::Duration;

use herdsman_api::{ControlAnswer, ControlRefusal, MeshControl, Verb};
use herdsman_mesh::conflicts::{Reader, Wanted};
use herdsman_mesh::install::{self, Plan};
use herdsman_mesh::status::{LinkName, Status};
use herdsman_mesh::{MeshError, Setup};
use herdsman_mesh::{ddl, heal, join, leave, sequences, verify};
use herdsman_node::NodeName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::beside::Shared;
use super::jobs::Jobs;

/// What is asked and told.
#[derive(Debug)]
pub(super) struct Door {
    setup: Arc<Setup>,
    engine: Shared,
    status: watch::Receiver<Arc<Status>>,
    jobs: Jobs,
}

/// Every verb.
const VERBS: [(&str, Verb); 13] = [
    ("status", Verb::Look),
    ("job", Verb::Read),
    ("pause", Verb::Change),
    ("resume", Verb::Change),
    // Rows are told.
    ("conflicts", Verb::Read),
    ("plan", Verb::Job),
    ("up", Verb::Job),
    ("verify", Verb::Job),
    ("add", Verb::Job),
    ("remove", Verb::Job),
    ("sequences", Verb::Job),
    ("orphans", Verb::Job),
    ("ddl", Verb::Job),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobParameters {
    id: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct LinkParameters {
    link: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpParameters {
    merge: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct VerifyParameters {
    tables: Vec<String>,
    repair: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddParameters {
    node: String,
    #[serde(default)]
    donor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveParameters {
    node: String,
    #[serde(default)]
    dead: bool,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    keep_columns: bool,
    #[serde(default)]
    keep_writable: bool,
    #[serde(default)]
    cancel: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OrphansParameters {
    repair: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConflictsParameters {
    table: Option<String>,
    #[serde(deserialize_with = "some_number")]
    since_seconds: Option<u32>,
    #[serde(deserialize_with = "number")]
    limit: u32,
}

impl Default for ConflictsParameters {
    fn default() -> Self {
        Self { table: None, since_seconds: None, limit: 100 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct DdlParameters {
    statements: Vec<String>,
    role: Option<String>,
    timeout_seconds: Option<u32>,
    retry: Option<i64>,
}

/// A number, which is text in a query.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u32),
    Text(String),
}

impl Number {
    fn value<E: serde::de::Error>(self) -> Result<u32, E> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Text(text) => text.parse().map_err(E::custom),
        }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Number::deserialize(deserializer)?.value()
}

fn some_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Option::<Number>::deserialize(deserializer)?.map(Number::value).transpose()
}

/// How long orphans may still be on their way to the parents they seem to lack.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most conflicts in one answer.
const MOST_CONFLICTS: u32 = 1000;

impl Door {
    pub(super) fn new(
        setup: Setup,
        engine: Shared,
        status: watch::Receiver<Arc<Status>>,
        jobs: Jobs,
    ) -> Self {
        Self { setup: Arc::new(setup), engine, status, jobs }
    }

    fn pause(
        &self,
        parameters: Map<String, Value>,
        paused: bool,
        by: &str,
    ) -> Result<Value, ControlRefusal> {
        let LinkParameters { link } = read(parameters)?;
        let link = link.map(|link| self.link(&link)).transpose()?;
        self.engine.pause(link.as_ref(), paused);
        let links =
            link.map_or_else(|| json!("all"), |l| json!(format!("{}:{}", l.source, l.target)));
        tracing::info!(%links, paused, by, "told through the API");
        Ok(json!({"links": links, "paused": paused}))
    }

    fn link(&self, text: &str) -> Result<LinkName, ControlRefusal> {
        let wrong =
            || ControlRefusal::Parameters(format!("`{text}` is no link, expected SOURCE:TARGET"));
        let (source, target) = text.split_once(':').ok_or_else(wrong)?;
        Ok(LinkName { source: self.node(source)?, target: self.node(target)? })
    }

    /// A node of the mesh.
    fn node(&self, name: &str) -> Result<NodeName, ControlRefusal> {
        let nodes = &self.setup.config.nodes;
        let known = nodes.iter().find(|node| node.as_str() == name);
        known.cloned().ok_or_else(|| {
            let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
            let nodes = herdsman_config::and(&nodes);
            ControlRefusal::Missing(format!("`{name}` is none of `mesh.nodes`: {nodes}"))
        })
    }

    fn job(&self, parameters: Map<String, Value>) -> Result<Value, ControlRefusal> {
        let JobParameters { id } = read(parameters)?;
        // In a query it is text.
        let number = id.as_u64().or_else(|| id.as_str().and_then(|text| text.parse().ok()));
        let number = number.ok_or_else(|| {
            ControlRefusal::Parameters(format!("`id` is {id}, expected the number of a job"))
        })?;
        self.jobs.find(number)
    }

    fn up(
        &self,
        parameters: Map<String, Value>,
        plan_only: bool,
        by: &str,
    ) -> Result<Value, ControlRefusal> {
        let UpParameters { merge } = read(parameters)?;
        let setup = Arc::clone(&self.setup);
        self.jobs.begin(if plan_only { "plan" } else { "up" }, by, |teller| async move {
            let options = install::Options { merge, ..install::Options::default() };
            let (_, plan) =
                install::prepare(&setup, &options).await.map_err(|error| error.to_string())?;
            if plan_only {
                return serde_json::to_value(&plan).map_err(|error| error.to_string());
            }
            unhindered(&plan)?;
            let told = teller.clone();
            install::carry_out(&setup, &plan, move |step| {
                told.tell(&json!({"node": step.node.as_str(), "what": step.what}));
            })
            .await
            .map_err(|error| error.to_string())?;
            heal::spread(&setup, &plan.copies, |from, to, how_far| {
                teller.tell(&json!({"from": from.as_str(), "to": to.as_str(), "copying": how_far}));
            })
            .await
            .map_err(|error| error.to_string())?;
            Ok(json!({"steps": plan.steps.len()}))
        })
    }

    fn add(&self, parameters: Map<String, Value>, by: &str) -> Result<Value, ControlRefusal> {
        let AddParameters { node, donor } = read(parameters)?;
        let node = self.node(&node)?;
        let donor = donor.map(|donor| self.node(&donor)).transpose()?;
        let setup = Arc::clone(&self.setup);
        self.jobs.begin("add", by, |teller| async move {
            let options = join::Options { donor, ..join::Options::default() };
            let joined = join::add(&setup, &node, &options, |progress| teller.tell(progress)).await;
            told(joined)
        })
    }

    fn remove(&self, parameters: Map<String, Value>, by: &str) -> Result<Value, ControlRefusal> {
        let RemoveParameters { node, dead, force, keep_columns, keep_writable, cancel } =
            read(parameters)?;
        let node = self.node(&node)?;
        let setup = Arc::clone(&self.setup);
        if cancel && (dead || force || keep_columns || keep_writable) {
            let wrong = "`cancel` goes with `node` only";
            return Err(ControlRefusal::Parameters(wrong.to_owned()));
        }
        if cancel {
            self.jobs.end("remove", "its leave is called off");
            return self.jobs.begin("remove", by, |teller| async move {
                let id = leave::cancel(&setup, &node, |step| {
                    teller.tell(&json!({"node": step.node.as_str(), "what": step.what}));
                });
                told(id.await.map(|id| json!({"id": id, "state": "active"})))
            });
        }
        self.jobs.begin("remove", by, |teller| async move {
            let options = leave::Options {
                dead,
                force,
                keep_columns,
                keep_writable,
                ..leave::Options::default()
            };
            let left =
                leave::remove(&setup, &node, &options, |progress| teller.tell(progress)).await;
            told(left)
        })
    }

    fn sequences(&self, parameters: Map<String, Value>, by: &str) -> Result<Value, ControlRefusal> {
        let Nothing {} = read(parameters)?;
        let setup = Arc::clone(&self.setup);
        self.jobs.begin("sequences", by, |_| async move { told(sequences::look(&setup).await) })
    }

    fn orphans(&self, parameters: Map<String, Value>, by: &str) -> Result<Value, ControlRefusal> {
        let OrphansParameters { repair } = read(parameters)?;
        let setup = Arc::clone(&self.setup);
        self.jobs.begin("orphans", by, |_| async move {
            told(verify::orphans(&setup, PATIENCE, repair).await)
        })
    }

    fn ddl(&self, parameters: Map<String, Value>, by: &str) -> Result<Value, ControlRefusal> {
        let DdlParameters { statements, role, timeout_seconds, retry } = read(parameters)?;
        if statements.is_empty() == retry.is_none() {
            let wrong = "expected either `statements`, a list of texts, or `retry`, a job's number";
            return Err(ControlRefusal::Parameters(wrong.to_owned()));
        }
        let mut options = ddl::Options { statements, role, ..ddl::Options::default() };
        if let Some(seconds) = timeout_seconds {
            options.timeout = Duration::from_secs(seconds.into());
        }
        let setup = Arc::clone(&self.setup);
        self.jobs.begin("ddl", by, |teller| async move {
            let tell = |progress: &ddl::Progress| teller.tell(progress);
            told(match retry {
                Some(id) => ddl::retry(&setup, id, options.timeout, tell).await,
                None => ddl::run(&setup, &options, tell).await,
            })
        })
    }

    fn verify(&self, parameters: Map<String, Value>, by: &str) -> Result<Value, ControlRefusal> {
        let VerifyParameters { tables, repair } = read(parameters)?;
        let setup = Arc::clone(&self.setup);
        self.jobs.begin("verify", by, |teller| async move {
            let options = verify::Options { tables, repair, ..verify::Options::default() };
            told(verify::run(&setup, &options, |progress| teller.tell(progress)).await)
        })
    }
}

impl MeshControl for Door {
    fn status(&self) -> Value {
        document(&self.setup.config.name, &self.status.borrow())
    }

    fn token(&self) -> Option<&str> {
        self.setup.config.control.token.as_ref().map(herdsman_config::Secret::expose)
    }

    fn verb(&self, name: &str) -> Option<Verb> {
        VERBS.iter().find(|(known, _)| *known == name).map(|(_, verb)| *verb)
    }

    fn call(&self, name: &str, parameters: Map<String, Value>, by: &str) -> ControlAnswer {
        let outcome = match name {
            "status" => read::<Nothing>(parameters).map(|_| self.status()),
            "job" => self.job(parameters),
            "pause" => self.pause(parameters, true, by),
            "resume" => self.pause(parameters, false, by),
            "plan" => self.up(parameters, true, by),
            "up" => self.up(parameters, false, by),
            "verify" => self.verify(parameters, by),
            "add" => self.add(parameters, by),
            "remove" => self.remove(parameters, by),
            "sequences" => self.sequences(parameters, by),
            "orphans" => self.orphans(parameters, by),
            "ddl" => self.ddl(parameters, by),
            "conflicts" => {
                let setup = Arc::clone(&self.setup);
                return Box::pin(async move { conflicts(&setup, read(parameters)?).await });
            }
            // The API asks for the verbs it was told of only.
            other => Err(ControlRefusal::Missing(format!("there is no verb `{other}`"))),
        };
        Box::pin(std::future::ready(outcome))
    }
}

/// What `GET /v2/mesh` answers, and `mesh status --json` prints.
pub(super) fn document(mesh: &str, status: &Status) -> Value {
    let mut document = serde_json::to_value(status).unwrap_or_default();
    if let Some(document) = document.as_object_mut() {
        document.insert("mesh".to_owned(), mesh.into());
    }
    document
}

async fn conflicts(
    setup: &Arc<Setup>,
    parameters: ConflictsParameters,
) -> Result<Value, ControlRefusal> {
    let ConflictsParameters { table, since_seconds, limit } = parameters;
    let failed = |error: MeshError| ControlRefusal::Failed(error.to_string());
    let mut reader = Box::pin(Reader::open(setup, table.as_deref())).await.map_err(failed)?;
    let since = since_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let wanted = Wanted { since, limit: limit.min(MOST_CONFLICTS) };
    let found = Box::pin(reader.last(&wanted)).await.map_err(failed)?;
    serde_json::to_value(&found).map_err(|error| ControlRefusal::Failed(error.to_string()))
}

fn unhindered(plan: &Plan) -> Result<(), String> {
    if plan.problems.is_empty() {
        return Ok(());
    }
    Err(format!("nothing was changed; in the way is: {}", plan.problems.join("; ")))
}

/// What a job has to say at its end.
fn told<T: Serialize>(outcome: Result<T, MeshError>) -> Result<Value, String> {
    let value = outcome.map_err(|error| error.to_string())?;
    serde_json::to_value(&value).map_err(|error| error.to_string())
}

fn read<T: DeserializeOwned>(parameters: Map<String, Value>) -> Result<T, ControlRefusal> {
    serde_json::from_value(Value::Object(parameters))
        .map_err(|error| ControlRefusal::Parameters(error.to_string()))
}

#[cfg(test)]
mod tests;
