//! The life of a process in three tokens: draining, closing, killed; and every background task in one tracker.
//!
//! A service spawns its tasks here and nowhere else, and waits in [`Lifecycle::run`], which returns why it ended. Each
//! holder of a token decides what to do on it; the times between them are a [`Grace`].

use std::{
    any::Any,
    future::Future,
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    signal::unix::{self, SignalKind},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::sync::lock;

/// Any error that a task may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A task that ended although it should have lived as long as the process.
#[derive(Debug, thiserror::Error)]
#[error("task {task} {how}")]
pub struct Fault {
    task: &'static str,
    how: &'static str,
    #[source]
    cause: Option<BoxError>,
}

/// The longest time for each stage of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace {
    /// From draining (health checks report not serving) to closing: load balancers need this long to
    /// notice, so calls and connections are still taken.
    pub accept: Duration,
    /// From closing (streams end, connections are closed gracefully) to killed.
    pub drain: Duration,
    /// The time for killed tasks to end, before they are abandoned.
    pub kill: Duration,
}

impl Default for Grace {
    /// 3 s for load balancers to notice, 20 s to end, 1 s to be killed: within the 30 s that Kubernetes grants.
    fn default() -> Self {
        Self { accept: Duration::from_secs(3), drain: Duration::from_secs(20), kill: Duration::from_secs(1) }
    }
}

/// Tokens, tracker and the first fault of one service. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    draining: CancellationToken,
    closing: CancellationToken,
    killed: CancellationToken,
    faulted: CancellationToken,
    first_fault: Mutex<Option<Fault>>,
    tasks: TaskTracker,
}

/// A return value of a task of [`Lifecycle::spawn`]: nothing, or a result.
pub trait TaskEnd {
    /// The error that the task ended with, if any.
    fn into_error(self) -> Option<BoxError>;
}

impl TaskEnd for () {
    fn into_error(self) -> Option<BoxError> {
        None
    }
}

impl<E: Into<BoxError>> TaskEnd for Result<(), E> {
    fn into_error(self) -> Option<BoxError> {
        self.err().map(Into::into)
    }
}

impl Lifecycle {
    /// Creates a lifecycle before its first stage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stage one: health reports not serving, everything else continues.
    pub fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Stage two: new work is refused, streams end with a resume hint, connections are closed gracefully, tasks finish.
    pub fn closing(&self) -> &CancellationToken {
        &self.shared.closing
    }

    /// Stage three: everything that is left is dropped.
    pub fn killed(&self) -> &CancellationToken {
        &self.shared.killed
    }

    /// Starts a task that lives as long as the process: it is expected to end after [`draining`](Self::draining), and by
    /// itself on [`closing`](Self::closing) or [`killed`](Self::killed). One that ends earlier, fails or panics is a
    /// [`Fault`]: the process drains and [`run`](Self::run) returns it.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        let lifecycle = self.clone();
        let watched = async move {
            match AssertUnwindSafe(task).catch_unwind().await {
                Ok(end) => match end.into_error() {
                    Some(cause) => lifecycle.report(Fault { task: name, how: "failed", cause: Some(cause) }),
                    None if lifecycle.shared.draining.is_cancelled() => tracing::debug!(task = name, "task ended"),
                    None => lifecycle.report(Fault { task: name, how: "ended early", cause: None }),
                },
                Err(panic) => {
                    let cause = Some(panic_text(&*panic).into());
                    lifecycle.report(Fault { task: name, how: "panicked", cause });
                }
            }
        };
        self.shared.tasks.spawn(watched.instrument(tracing::info_span!("task", name)));
    }

    /// Starts a piece of work that ends when it is done, such as one side of a stream. A shutdown waits for it; its
    /// panic is logged and affects only the holder of the handle.
    pub fn spawn_job<F>(&self, name: &'static str, job: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let logged = async move {
            match AssertUnwindSafe(job).catch_unwind().await {
                Ok(output) => output,
                Err(panic) => {
                    tracing::error!(job = name, cause = panic_text(&*panic), "job panicked");
                    std::panic::resume_unwind(panic)
                }
            }
        };
        self.shared.tasks.spawn(logged.in_current_span())
    }

    /// Waits for the signal or the first fault, then goes through the stages. Tasks that end sooner make it shorter.
    ///
    /// # Errors
    /// The first [`Fault`], whether it came before the signal or during the shutdown.
    pub async fn run(&self, signal: impl Future<Output = ()>, grace: Grace) -> Result<(), Fault> {
        tokio::select! {
            () = signal => tracing::info!("shutdown requested"),
            () = self.shared.faulted.cancelled() => tracing::error!("shutting down because a task ended"),
        }
        self.shutdown(grace).await;
        match lock(&self.shared.first_fault).take() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Goes through the stages now: at most the three graces together.
    pub async fn shutdown(&self, grace: Grace) {
        self.shared.draining.cancel();
        self.shared.tasks.close();
        // Ends early when every task has ended.
        let _ = timeout(grace.accept, self.shared.tasks.wait()).await;
        self.shared.closing.cancel();
        if timeout(grace.drain, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.shared.tasks.len(), "drain took too long, dropping what is left");
        }
        self.shared.killed.cancel();
        if timeout(grace.kill, self.shared.tasks.wait()).await.is_err() {
            tracing::error!(tasks = self.shared.tasks.len(), "tasks left behind");
        }
    }

    fn report(&self, fault: Fault) {
        tracing::error!(task = fault.task, cause = fault.cause.as_ref().map(tracing::field::display), "{fault}");
        let mut first = lock(&self.shared.first_fault);
        first.get_or_insert(fault);
        self.shared.faulted.cancel();
    }
}

/// Receives SIGHUP, which ends a process as SIGTERM does: the terminal or the session that it was started in has ended.
#[derive(Debug)]
pub struct Hangup(Option<unix::Signal>);

impl Hangup {
    /// Installs the handler, unless the process was started to ignore the signal, as `nohup` does.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(if is_hangup_ignored() { None } else { Some(unix::signal(SignalKind::hangup())?) }))
    }

    /// Waits for the signal. Cancel-safe.
    pub async fn received(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(target_os = "linux")]
fn is_hangup_ignored() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    // The first bit is signal 1, SIGHUP.
    status.is_ok_and(|status| status.sigign & 1 == 1)
}

/// It cannot be found out without unsafe code.
#[cfg(not(target_os = "linux"))]
fn is_hangup_ignored() -> bool {
    false
}

/// Completes at the first SIGTERM, SIGINT or SIGHUP. Where handlers cannot be installed it logs that and never completes.
pub(crate) async fn shutdown_signal() {
    if let Err(cause) = first_signal().await {
        tracing::error!(%cause, "signals cannot be handled, only killing will end this process");
        std::future::pending::<()>().await;
    }
}

async fn first_signal() -> io::Result<()> {
    let mut terminate = unix::signal(SignalKind::terminate())?;
    let mut interrupt = unix::signal(SignalKind::interrupt())?;
    let mut hangup = Hangup::listen()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = hangup.received() => {}
    }
    Ok(())
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a text".to_owned())
}
