//! A thread with a runtime of its own, which ends when its handle is dropped.

use crate::log;
use std::io;
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// The handle. Dropping it tells the work to end, and waits until it has.
pub struct Thread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Does `work` on a thread of this name. It is handed what resolves when it shall end.
    ///
    /// # Errors
    /// When the system has no more threads or files.
    pub fn start<Work: Future<Output = ()>>(
        name: &str,
        work: impl FnOnce(oneshot::Receiver<()>) -> Work + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || LocalSet::new().block_on(&runtime, async { work(stopped).await }))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Serves on a thread of this name until it shall end. A failure is logged: `what` is not served any more.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn serve<Work: Future<Output = io::Result<()>>>(
        name: &str,
        what: &'static str,
        serve: impl FnOnce() -> Work + Send + 'static,
    ) -> io::Result<Self> {
        Self::start(name, async move |stopped| {
            tokio::select! {
                outcome = serve() => {
                    if let Err(error) = outcome {
                        log::error(format!("{what} is not served any more: {error}"));
                    }
                }
                _ = stopped => {}
            }
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
