//! Ctrl-C and its kin.

use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Calls `told` with the signal's name, on a thread of its own, for each SIGINT, SIGTERM and SIGHUP from now on.
///
/// # Errors
/// The system gives us no thread, or no signals.
pub(crate) fn watch(told: impl Fn(&'static str) + Send + 'static) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::cannot(format!("cannot watch for signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(cannot)?;
    // Registered here, so that no signal is missed between this call's return and the thread's start.
    let (mut interrupt, mut terminate, mut hangup) = {
        let _guard = runtime.enter();
        let of = |kind| signal(kind).map_err(cannot);
        (of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?)
    };
    let watching = async move {
        loop {
            let name = tokio::select! {
                Some(()) = interrupt.recv() => "SIGINT",
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = hangup.recv() => "SIGHUP",
                else => return,
            };
            told(name);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(watching))
        .map_err(cannot)?;
    Ok(())
}
