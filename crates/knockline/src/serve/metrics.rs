//! Figures for Prometheus.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A path and the status of its answers.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Answered {
    pub path: &'static str,
    pub status: u16,
}

/// A model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfModel {
    pub model: String,
}

/// The figures.
pub struct Metrics {
    registry: Registry,
    pub requests: Family<Answered, Counter>,
    pub seconds: Histogram,
    pub texts: Family<OfModel, Counter>,
    pub waiting: Family<OfModel, Gauge>,
    pub reloads: Counter,
    pub failed_reloads: Counter,
    connections: Gauge<i64, AtomicI64>,
}

/// An open connection, counted until it is dropped.
pub struct OpenConnection(Gauge<i64, AtomicI64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("knockline"),
            requests: Family::default(),
            // From 0.1 ms to 3.3 s.
            seconds: Histogram::new(exponential_buckets(1e-4, 2.0, 16)),
            texts: Family::default(),
            waiting: Family::default(),
            reloads: Counter::default(),
            failed_reloads: Counter::default(),
            connections: Gauge::default(),
        };
        let registry = &mut this.registry;
        registry.register("requests", "Requests answered", this.requests.clone());
        let help = "Seconds from a whole request to its answer";
        registry.register("request_seconds", help, this.seconds.clone());
        registry.register("texts", "Texts answered", this.texts.clone());
        registry.register("texts_waiting", "Texts in the queue", this.waiting.clone());
        registry.register("reloads", "Models read again", this.reloads.clone());
        let help = "Models that could not be read again";
        registry.register("failed_reloads", help, this.failed_reloads.clone());
        registry.register("connections", "Open connections", this.connections.clone());
        this
    }

    /// Counts a connection.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// All figures as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
