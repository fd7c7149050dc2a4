//! Spans for a collector: OpenTelemetry's protocol over HTTP, set up by its own variables (`OTEL_…`).
//!
//! Only what has the target `otel` becomes a span there, and none of that says more than the log does: no text of a statement, no
//! value, no password, no token. Where no endpoint is named, there is nothing of it at run time.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use herdsman_node::Trust;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response, Uri};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::client::Endpoint;

/// What spans for the collector are marked with.
const TARGET: &str = "otel";
/// Either of them turns it on.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// How long the last spans may take when the program ends: as long as requests in progress may.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is flushed at the end.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// What hands spans to the collector; `None` where none is named, or `OTEL_SDK_DISABLED` or `OTEL_TRACES_EXPORTER` says no.
///
/// # Errors
/// What is wrong with one of the variables.
pub(crate) fn layer<S>() -> Result<Option<impl Layer<S> + Send + Sync>, String>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let is = |name: &str, value: &str| {
        std::env::var(name).is_ok_and(|found| found.trim().eq_ignore_ascii_case(value))
    };
    let off = is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none");
    let Some(variable) = ENDPOINTS.into_iter().find(|name| value(name).is_some()) else {
        return Ok(None);
    };
    if off {
        return Ok(None);
    }
    let unusable =
        |problem: String| format!("the spans for `${variable}` cannot be sent: {problem}");
    let client =
        Client { runtime: Handle::current(), trust: trust()?, fails: AtomicBool::new(false) };
    // A wrong address is told now, and not each time there is something to send.
    client.endpoint(&value(variable).unwrap_or_default()).map_err(unusable)?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|error| unusable(error.to_string()))?;
    let mut resource = Resource::builder();
    if value("OTEL_SERVICE_NAME").is_none()
        && !value("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|text| text.contains("service.name="))
    {
        resource = resource.with_service_name("herdsman");
    }
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.build())
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer("herdsman");
    // There is one log in a program, and so one of these.
    let _only_one = PROVIDER.set(provider);
    let spans = Targets::new().with_target(TARGET, LevelFilter::DEBUG);
    Ok(Some(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(spans)))
}

/// Sends what is left. Not to be called by a task: it waits.
pub(crate) fn flush() {
    if let Some(Err(error)) = PROVIDER.get().map(|it| it.shutdown_with_timeout(FAREWELL)) {
        tracing::warn!(%error, "the last spans may not have reached the collector");
    }
}

fn value(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Whom to trust, and what to show, where the collector is asked over HTTPS.
fn trust() -> Result<Option<Trust>, String> {
    let file = |what: &str| {
        let specific = value(&format!("OTEL_EXPORTER_OTLP_TRACES_{what}"));
        specific.or_else(|| value(&format!("OTEL_EXPORTER_OTLP_{what}"))).map(PathBuf::from)
    };
    let Some(authority) = file("CERTIFICATE") else { return Ok(None) };
    let trust = Trust::of_file(&authority)?;
    match (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")) {
        (Some(cert), Some(key)) => trust.showing(&cert, &key).map(Some),
        _ => Ok(Some(trust)),
    }
}

/// Sends requests on the program's own runtime: the exporter has a thread without one.
#[derive(Debug)]
struct Client {
    runtime: Handle,
    trust: Option<Trust>,
    /// Whether the last one failed, so that the log tells each outage once.
    fails: AtomicBool,
}

impl Client {
    fn endpoint(&self, url: &str) -> Result<Endpoint, String> {
        let wrong = || format!("`{url}` is not a URL, expected one such as http://localhost:4318");
        let uri: Uri = url.trim().parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().ok_or_else(wrong)?;
        let host = uri.host().ok_or_else(wrong)?;
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Endpoint::of_url(&format!("{scheme}://{host}:{port}"), || {
            self.trust.clone().ok_or_else(|| {
                "https needs certificates to trust; set `$OTEL_EXPORTER_OTLP_CERTIFICATE`"
                    .to_owned()
            })
        })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let endpoint = self.endpoint(&request.uri().to_string())?;
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        head.uri = path;
        let asked = self
            .runtime
            .spawn(async move { endpoint.send(Request::from_parts(head, Full::new(body))).await });
        let outcome = match asked.await {
            Ok(Ok(answer)) if answer.status.is_success() => {
                let mut response = Response::new(answer.body);
                *response.status_mut() = answer.status;
                Ok(response)
            }
            Ok(Ok(answer)) => Err(format!("the collector answers {}", answer.status)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let failed = self.fails.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(problem) if !failed => {
                tracing::warn!(problem, "spans cannot be sent and are given up; this is told once");
            }
            Ok(_) if failed => tracing::info!("spans can be sent again"),
            _ => {}
        }
        outcome.map_err(Into::into)
    }
}
