//! Admin HTTP, on a thread and runtime of its own: it asks the node over a bounded channel and can never hold it up.
//!
//! `GET` only: `/health` (the process is alive), `/ready` (a leader is known), `/metrics` (Prometheus), `/status` (JSON).

use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};

use crate::report::Report;
use crate::settings::Shutdown;

/// Questions that may wait.
pub(crate) const QUESTIONS: usize = 16;
/// The node answers within this, or the question has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// A question to the node.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) answer: oneshot::Sender<Box<Report>>,
}

type Questions = mpsc::Sender<Question>;

/// Serves until `shutdown`.
pub(crate) fn spawn(
    listener: TcpListener,
    questions: Questions,
    shutdown: Shutdown,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "no admin HTTP"),
            };
            tokio::select! {
                result = axum::serve(listener, router(questions)).into_future() => {
                    tracing::error!(?result, "the admin HTTP ended");
                }
                () = shutdown.asked() => {}
            }
        });
    })
}

fn router(questions: Questions) -> Router {
    Router::new()
        .route("/health", get(async || "alive\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(questions)
}

/// Asks the node; an error if it does not answer in time.
async fn ask(questions: &Questions) -> Result<Box<Report>, Response> {
    let unavailable = |what: &'static str| (StatusCode::SERVICE_UNAVAILABLE, what).into_response();
    let (answer, report) = oneshot::channel();
    questions
        .try_send(Question { answer })
        .map_err(|_| unavailable("too many questions wait, or the node is gone\n"))?;
    match tokio::time::timeout(PATIENCE, report).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(_)) => Err(unavailable("the node is gone\n")),
        Err(_) => Err(unavailable("the node does not answer\n")),
    }
}

async fn ready(State(questions): State<Questions>) -> Response {
    match ask(&questions).await {
        Ok(report) if report.status.groups.iter().all(|group| group.leader.is_some()) => {
            "ready\n".into_response()
        }
        Ok(_) => (StatusCode::SERVICE_UNAVAILABLE, "no leader is known\n").into_response(),
        Err(response) => response,
    }
}

async fn metrics(State(questions): State<Questions>) -> Response {
    match ask(&questions).await {
        Ok(report) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], report.encode()).into_response()
        }
        Err(response) => response,
    }
}

async fn status(State(questions): State<Questions>) -> Response {
    match ask(&questions).await {
        Ok(report) => match serde_json::to_vec(&report.status) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
        Err(response) => response,
    }
}
