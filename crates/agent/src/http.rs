//! The HTTP server: `/healthz`, `/readyz`, `/metrics`, `/status`.
//!
//! It never looks at the network's state itself: it asks the reconciler through the mailbox and waits a bounded time for the
//! answer. `/healthz` and `/readyz` don't even ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hopwise_core::note::{Note, Severity};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::metrics::Metrics;
use crate::pulse::{Health, Pulse};
use crate::reconciler::{Inbox, Published, Question};

/// How long to wait for an answer of the reconciler.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The wait before listening is tried again.
const RETRY_LISTENING: Duration = Duration::from_secs(5);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "\
Hopwise agent

/healthz  200 while the loop is alive
/readyz   200 when a complete view is in use and every reachable peer's routes are in
/metrics  OpenMetrics
/status   JSON
";

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Server {
    /// The way to the reconciler.
    pub inbox: Arc<Inbox>,
    /// What it publishes.
    pub published: watch::Receiver<Published>,
    /// Its sign of life.
    pub pulse: Arc<Pulse>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Serves for ever. An address that can't be listened on is noted and tried again: the network matters more.
pub async fn serve(server: Server, address: SocketAddr) {
    let inbox = server.inbox.clone();
    let router = router(server);
    loop {
        let error = match TcpListener::bind(address).await {
            Ok(listener) => {
                inbox.put_note("http".to_owned(), None);
                axum::serve(listener, router.clone()).await.err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            tracing::warn!("can't answer HTTP requests on {address}: {error}");
            inbox.put_note("http".to_owned(), Some(unavailable(address, &error)));
        }
        tokio::time::sleep(RETRY_LISTENING).await;
    }
}

fn unavailable(address: SocketAddr, error: &std::io::Error) -> Note {
    Note {
        id: "http-unavailable",
        severity: Severity::Warning,
        subject: address.to_string(),
        evidence: error.to_string(),
        fix: "free the address, or choose another with --listen; it is tried again every 5 s".to_owned(),
    }
}

fn router(server: Server) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(server)
}

async fn healthz(State(server): State<Server>) -> (StatusCode, String) {
    match server.pulse.health() {
        Health::Alive => (StatusCode::OK, "ok\n".to_owned()),
        Health::Stuck(turning) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the loop has been in the same turn for {} s\n", turning.as_secs()),
        ),
        Health::Overslept(asleep) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the loop has not turned for {} s\n", asleep.as_secs()))
        }
    }
}

async fn readyz(State(server): State<Server>) -> (StatusCode, String) {
    let ready = server.published.borrow().ready.clone();
    if ready.ready {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut body = String::from("not ready; missing:\n");
    for missing in &ready.missing {
        body.push_str(&format!("- {missing}\n"));
    }
    if ready.missing_count > ready.missing.len() {
        body.push_str(&format!("- and {} more\n", ready.missing_count - ready.missing.len()));
    }
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

async fn metrics(State(server): State<Server>) -> Response {
    let Some(gauges) = ask(&server, Question::Gauges).await else { return no_answer() };
    let mut registry = server.metrics.registry();
    registry.register_collector(Box::new(gauges));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status(State(server): State<Server>) -> Response {
    match ask(&server, Question::Status).await {
        Some(status) => axum::Json(status).into_response(),
        None => no_answer(),
    }
}

async fn ask<T>(server: &Server, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    server.inbox.ask(question(answer));
    tokio::time::timeout(ANSWER_WITHIN, answered).await.ok()?.ok()
}

fn no_answer() -> Response {
    let body = format!("the loop did not answer within {} s\n", ANSWER_WITHIN.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}
