//! How far long work has come: a trait for the work, a bar for people who wait.

use indicatif::{ProgressBar, ProgressStyle};

/// Reports how far long work has come.
pub trait Progress: Sync {
    /// Announces a stage of `total` steps.
    fn stage(&self, name: &str, total: u64);
    /// Reports `steps` more steps done.
    fn advance(&self, steps: u64);
    /// Says something that stays on the screen.
    fn note(&self, text: &str);
}

/// Reports nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _name: &str, _total: u64) {}
    fn advance(&self, _steps: u64) {}
    fn note(&self, _text: &str) {}
}

/// A bar on standard error that moves from stage to stage.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Returns a bar without a stage yet.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:>18} {wide_bar} {pos}/{len} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(0).with_style(style))
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bar {
    fn stage(&self, name: &str, total: u64) {
        self.0.set_length(total);
        self.0.set_position(0);
        self.0.set_message(name.to_owned());
    }

    fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }

    fn note(&self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
    }
}
