//! Logs to standard error, and, where an operator asks for it, traces to an OpenTelemetry collector (OTLP over gRPC).
//!
//! A trace has a span `call` for each verb, with the request's name, the rung of its list and the code of its error,
//! and within it spans of the store and of the guest. None has a user's name, an item or an event in it.

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// The header, and the metadata, in which a caller names the trace that a call belongs to (W3C Trace Context).
pub const TRACE_PARENT: &str = "traceparent";
/// Longest wait for the collector (choice: spans are worth no more).
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(5);

/// Where traces go.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// The collector's address, such as `http://127.0.0.1:4317`.
    pub collector: String,
    /// Which share of the traces is sent, of those that no caller has begun; 0 to 1.
    pub share: f64,
    /// The site, which goes with every trace.
    pub site: String,
}

/// What sends traces; dropped, it sends those that wait.
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Begins to log, by the filter in `RUST_LOG` or else from `info` up, and to send traces. A runtime of tokio must be
    /// there where traces are sent.
    ///
    /// # Errors
    /// What is wrong with the collector's address. A collector that is away costs its traces, and nothing else.
    pub fn start(traces: Option<&Traces>) -> Result<Self, opentelemetry_otlp::ExporterBuildError> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
        let logs = fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter);
        let provider = traces.map(provider).transpose()?;
        let sent = provider.as_ref().map(exported);
        tracing_subscriber::registry().with(sent).with(logs).init();
        Ok(Self(provider))
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0 {
            // A collector that is away at the end gets nothing.
            let _ = provider.shutdown_with_timeout(COLLECTOR_TIMEOUT);
        }
    }
}

/// Returns the layer that sends this crate's spans.
fn exported(provider: &SdkTracerProvider) -> impl Layer<Registry> + use<> {
    let spans = Targets::new().with_target(env!("CARGO_CRATE_NAME"), Level::DEBUG);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("nearfield-edge"))
        // Where in the source a span began says nothing to an operator, and weighs as much as all the rest.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_filter(spans)
}

fn provider(traces: &Traces) -> Result<SdkTracerProvider, opentelemetry_otlp::ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&traces.collector)
        .with_timeout(COLLECTOR_TIMEOUT)
        .build()?;
    let resource = Resource::builder()
        .with_service_name("nearfield-edge")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("nearfield.site", traces.site.clone()),
        ])
        .build();
    let own = Sampler::TraceIdRatioBased(traces.share);
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(own)))
        .with_resource(resource)
        .build())
}

/// Puts a span under the one that a caller has named.
pub(crate) fn join(span: &Span, parent: Option<&str>) {
    if let Some(parent) = parent {
        // Where no traces are sent there is nothing to put under anything.
        let _ = span.set_parent(context_of(parent));
    }
}

/// Reads `traceparent`; what is none gives a context without a trace.
fn context_of(parent: &str) -> Context {
    let carrier = HashMap::from([(TRACE_PARENT.to_owned(), parent.to_owned())]);
    TraceContextPropagator::new().extract(&carrier)
}
