//! Traces of a command for OpenTelemetry, over OTLP: one span for each node and each phase of it.
//!
//! On where the environment says where they go, by OpenTelemetry's own variables. They never decide how a command ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{HttpClient as StoreClient, HttpConnector, ReqwestConnector};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::{Builder, Runtime};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::printer::Printer;
use crate::stores;

/// How long a request may take, unless the environment says it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of a command waits for what is still to be sent.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Spans on their way.
pub(super) struct Traces {
    provider: SdkTracerProvider,
    problem: Arc<Mutex<Option<String>>>,
    /// The client's: it must outlive the last request.
    _runtime: Arc<Runtime>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable that holds for traces alone, or for all that OpenTelemetry sends.
fn of_traces(name: &str) -> Option<String> {
    variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

fn is_wanted() -> bool {
    let is = |name: &str, word: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    let off = is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none");
    !off && (of_traces("ENDPOINT").is_some() || is("OTEL_TRACES_EXPORTER", "otlp"))
}

impl Traces {
    /// Begins to collect spans, if the environment says where they go.
    pub(super) fn start(printer: &Printer) -> Option<Self> {
        let made = is_wanted().then(Self::new)?;
        made.map_err(|why| printer.warning(&format!("no traces are sent: {why}"))).ok()
    }

    fn new() -> Result<Self, String> {
        let timeout = of_traces("TIMEOUT").and_then(|text| text.parse().ok()).map_or(TIMEOUT, Duration::from_millis);
        let options = ClientOptions::new().with_allow_http(true).with_timeout(timeout).with_connect_timeout(timeout);
        let client = ReqwestConnector::default().connect(&options).map_err(|error| stores::message(&error))?;
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
        let runtime = Arc::new(runtime.map_err(|error| error.to_string())?);
        let problem = Arc::default();
        let sender = Sender { client, runtime: Arc::clone(&runtime), timeout, problem: Arc::clone(&problem) };
        let exporter = SpanExporter::builder().with_http().with_http_client(sender).build();
        let exporter = exporter.map_err(|error| error.to_string())?;
        let named = variable("OTEL_SERVICE_NAME").is_some()
            || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| attributes.contains("service.name="));
        let resource = if named { Resource::builder() } else { Resource::builder().with_service_name("lake") };
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        Ok(Self { provider, problem, _runtime: runtime })
    }

    /// What makes spans of OpenTelemetry of those of the program.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let tracer: SdkTracer = self.provider.tracer("lake");
        let own = |metadata: &tracing::Metadata<'_>| metadata.is_span() && metadata.target().starts_with("lake");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        layer.with_filter(filter_fn(own))
    }

    /// Sends what is left. What did not arrive is a warning.
    pub(super) fn finish(self, printer: &Printer) {
        let ended = self.provider.shutdown_with_timeout(LAST_WAIT).map_err(|error| error.to_string());
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(why) = problem.or(ended.err()) {
            printer.warning(&format!("not all traces could be sent: {why}"));
        }
    }
}

/// A command that somebody else's span has called is part of that: `TRACEPARENT` names it, as W3C writes it.
pub(super) fn adopt(span: &Span) {
    let carrier = [("traceparent", "TRACEPARENT"), ("tracestate", "TRACESTATE")];
    let carrier = carrier.into_iter().filter_map(|(key, name)| Some((key.to_owned(), variable(name)?)));
    let carrier: std::collections::HashMap<String, String> = carrier.collect();
    if !carrier.is_empty() {
        // Without a layer there is no span to be a part.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
    }
}

/// Sends requests through the HTTP client of the stores.
#[derive(Debug)]
struct Sender {
    client: StoreClient,
    runtime: Arc<Runtime>,
    timeout: Duration,
    problem: Arc<Mutex<Option<String>>>,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let send = async move {
            let answer = client.execute(request.map(Into::into)).await?;
            let (head, body) = answer.into_parts();
            Ok::<_, HttpError>(Response::from_parts(head, body.bytes().await?))
        };
        // Who exports is no task of a runtime, and the client needs one.
        let sent = self.runtime.spawn(async move { tokio::time::timeout(timeout, send).await }).await;
        let answer = match sent {
            Ok(Ok(Ok(answer))) if answer.status().is_success() => return Ok(answer),
            Ok(Ok(Ok(answer))) => Err(format!("the collector answered {}", answer.status())),
            Ok(Ok(Err(error))) => Err(stores::message(&*error)),
            Ok(Err(_)) => Err("the collector did not answer in time".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        answer.map_err(|why: String| {
            self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.clone());
            why.into()
        })
    }
}
