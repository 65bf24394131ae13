//! Where the lab's lines go: to the terminal, or to the command that is attached to a lab in the background.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// A place for lines. Cloning it gives the same place.
#[derive(Clone)]
pub struct Output {
    sink: Arc<Mutex<Sink>>,
    attached: Arc<Notify>,
    began: Instant,
}

/// Takes one line; false when nobody listens any more.
type Sink = Box<dyn FnMut(&str) -> bool + Send>;

impl std::fmt::Debug for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    /// Lines go to whatever `sink` does with them.
    pub fn new(sink: impl FnMut(&str) -> bool + Send + 'static) -> Self {
        Self {
            sink: Arc::new(Mutex::new(Box::new(sink))),
            attached: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Lines go to standard output; those that it does not take are lost.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(|line| writeln!(std::io::stdout(), "{line}").is_ok())
    }

    /// Lines go nowhere.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| true)
    }

    /// Lines go elsewhere from now on.
    pub fn redirect(&self, sink: impl FnMut(&str) -> bool + Send + 'static) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(sink);
        self.attached.notify_one();
    }

    /// Told when lines have begun to go elsewhere.
    #[must_use]
    pub fn attached(&self) -> &Arc<Notify> {
        &self.attached
    }

    /// Says a line.
    pub fn line(&self, line: impl AsRef<str>) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        for line in line.as_ref().split('\n') {
            sink(line);
        }
    }

    /// Says a line with the time since the lab began in front.
    pub fn timed(&self, line: impl AsRef<str>) {
        self.line(format!(
            "  {:>7.3}s  {}",
            self.began.elapsed().as_secs_f64(),
            line.as_ref()
        ));
    }

    /// When the lab began.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }
}
