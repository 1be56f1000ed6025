//! Admin HTTP, on a thread and runtime of its own: it asks the node over a bounded channel and can never hold it up.
//!
//! `GET` only: `/health` (the process is alive), `/ready` (a leader is known), `/metrics` (Prometheus), `/status` (JSON). Where it can be
//! reached from other machines, the last two want the clients' password, as `Authorization: Bearer PASSWORD`.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};

use crate::commands::is_password;
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

/// Serves until `shutdown`. With a password, only who says it is told more than that the node lives.
pub(crate) fn spawn(
    listener: TcpListener,
    questions: Questions,
    password: Option<String>,
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
                result = axum::serve(listener, router(questions, password)).into_future() => {
                    tracing::error!(?result, "the admin HTTP ended");
                }
                () = shutdown.asked() => {}
            }
        });
    })
}

/// What the admin HTTP wants to hear: nothing where only this machine can reach it, else the clients' password.
pub(crate) fn password_for(listener: &TcpListener, password: Option<&str>) -> io::Result<Option<String>> {
    let is_exposed = !listener.local_addr()?.ip().is_loopback();
    assert!(!is_exposed || password.is_some(), "an exposed address without a password was refused");
    Ok(password.filter(|_| is_exposed).map(str::to_owned))
}

fn router(questions: Questions, password: Option<String>) -> Router {
    let mut guarded = Router::new().route("/metrics", get(metrics)).route("/status", get(status));
    if let Some(password) = password {
        let password: Arc<str> = password.into();
        guarded = guarded.route_layer(middleware::from_fn_with_state(password, authorize));
    }
    // For load balancers, which keep no secrets: a word each.
    Router::new()
        .route("/health", get(async || "alive\n"))
        .route("/ready", get(ready))
        .merge(guarded)
        .fallback(async || (StatusCode::NOT_FOUND, "there are /health, /ready, /metrics and /status\n"))
        .with_state(questions)
}

async fn authorize(State(password): State<Arc<str>>, request: Request, next: Next) -> Response {
    let said = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    match said.and_then(|said| said.strip_prefix(b"Bearer ")) {
        Some(said) if is_password(&password, said) => next.run(request).await,
        _ => {
            let how = "say the clients' password: Authorization: Bearer PASSWORD\n";
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], how).into_response()
        }
    }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn answer_of(listener: std::net::SocketAddr, path: &str, authorization: &str) -> String {
        let mut stream = TcpStream::connect(listener).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn status_of(listener: std::net::SocketAddr, path: &str, authorization: &str) -> u16 {
        answer_of(listener, path, authorization).split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Guards what a node tells of itself where strangers can ask.
    #[test]
    fn with_a_password_only_who_says_it_is_told_more_than_a_word() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(password_for(&listener, Some("secret")).unwrap(), None, "only this machine can ask");
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (questions, nobody) = mpsc::channel(1);
        // Whoever gets through is told that the node is gone.
        drop(nobody);
        let shutdown = Shutdown::new();
        let thread = spawn(listener, questions, Some("secret".to_owned()), shutdown.clone()).unwrap();
        let rows = [
            ("/health", "", 200),
            ("/ready", "", 503),
            ("/metrics", "", 401),
            ("/status", "", 401),
            ("/status", "Authorization: Bearer guess\r\n", 401),
            ("/status", "Authorization: secret\r\n", 401),
            ("/metrics", "Authorization: Bearer secret\r\n", 503),
            ("/status", "Authorization: Bearer secret\r\n", 503),
            ("/nosuch", "", 404),
        ];
        for (path, authorization, expected) in rows {
            assert_eq!(status_of(address, path, authorization), expected, "{path} {authorization}");
        }
        assert!(answer_of(address, "/", "").contains("/metrics"), "who is lost is told what there is");
        shutdown.stop();
        thread.join().unwrap();
    }
}
