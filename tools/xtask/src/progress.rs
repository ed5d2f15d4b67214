//! Progress of what takes longer than a second: a spinner on a terminal, a line at each end elsewhere. Always on stderr, because
//! stdout belongs to the command that the user runs.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(120);

/// One step of work that is under way.
pub(crate) struct Step {
    name: String,
    bar: ProgressBar,
    start: Instant,
    loud: bool,
}

impl Step {
    /// Begins a step whose end cannot be foreseen.
    pub(crate) fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}");
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(name.clone());
        bar.enable_steady_tick(REDRAW);
        let loud = !io::stderr().is_terminal();
        if loud {
            eprintln!("{name} ...");
        }
        Self {
            name,
            bar,
            start: Instant::now(),
            loud,
        }
    }

    /// What the step does at the moment.
    pub(crate) fn doing(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Ends the step and says how long it took, unless that was not worth a line.
    pub(crate) fn done(self, result: &str) {
        self.bar.finish_and_clear();
        let elapsed = self.start.elapsed();
        if self.loud || elapsed >= Duration::from_secs(1) {
            let separator = if result.is_empty() { "" } else { ": " };
            eprintln!(
                "{}{separator}{result} ({:.1} s)",
                self.name,
                elapsed.as_secs_f64()
            );
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
