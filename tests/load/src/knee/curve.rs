//! How latency rises with load, and where it bends.

use crate::open_loop::Trial;

/// The median answer of a step that keeps up comes within so many milliseconds.
const KEPT_UP_MS: f64 = 50.0;
/// The least share of the answers a second, as against the first step's share of what was offered, of a step that
/// keeps up.
const KEPT_UP_SHARE: f64 = 0.9;

/// What rises from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Calls, people or events a second, whether or not those before have been answered; the word for them.
    Open(&'static str),
    /// Callers, each of whom waits for an answer before the next call.
    Closed,
}

/// One thing that was asked of a server by one tool, at loads that rise.
pub(crate) struct Curve {
    /// What was asked, beginning with of whom.
    pub(crate) what: &'static str,
    /// The tool.
    pub(crate) by: &'static str,
    /// The curve that is the most that could be had.
    pub(crate) limit: Option<&'static str>,
    pub(crate) load: Load,
    pub(crate) steps: Vec<Step>,
}

/// One load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    /// The load, in its unit.
    pub(crate) offered: f64,
    /// Calls answered well, a second.
    pub(crate) answered: f64,
    pub(crate) p50_ms: f64,
    /// Of the 99th percentiles of the first, second and last third of the calls the median: one hiccup of the machine
    /// is in one of them.
    pub(crate) p99_ms: f64,
    /// Calls that were not answered well.
    pub(crate) failed: usize,
    /// What the first of those said.
    pub(crate) failure: Option<String>,
    /// Processors' time of the server, in microseconds a call.
    pub(crate) server_us: f64,
    /// Processors that the tool kept busy.
    pub(crate) tool_cores: f64,
}

impl Step {
    /// What came of a trial in which server and tool took so much processors' time.
    pub(crate) fn of(trial: &Trial, offered: f64, server_seconds: f64, tool_seconds: f64) -> Self {
        Self {
            offered,
            answered: trial.rate(),
            p50_ms: trial.percentile(0.5),
            p99_ms: median_of_thirds(&trial.latencies_us),
            failed: trial.failed(),
            failure: trial.failure.clone(),
            server_us: server_seconds * 1e6 / trial.calls.max(1) as f64,
            tool_cores: tool_seconds / trial.seconds,
        }
    }
}

/// The median of the 99th percentiles of the three thirds of latencies in microseconds, in milliseconds.
fn median_of_thirds(latencies_us: &[u32]) -> f64 {
    let third = latencies_us.len().div_ceil(3).max(1);
    let mut each: Vec<f64> = latencies_us
        .chunks(third)
        .map(|part| {
            let mut sorted = part.to_vec();
            sorted.sort_unstable();
            f64::from(sorted[(sorted.len() * 99).div_ceil(100) - 1]) / 1e3
        })
        .collect();
    each.sort_by(f64::total_cmp);
    each.get(each.len() / 2).copied().unwrap_or(f64::INFINITY)
}

impl Curve {
    /// The 99th percentile without a queue, in milliseconds: of one caller alone, or the median of the three lowest rates.
    pub(crate) fn calm_ms(&self) -> f64 {
        let calm = if self.load == Load::Closed { 1 } else { 3 };
        let mut calm: Vec<f64> = self.steps.iter().take(calm).map(|step| step.p99_ms).collect();
        calm.sort_by(f64::total_cmp);
        calm.get(calm.len() / 2).copied().unwrap_or(f64::INFINITY)
    }

    /// The last step whose 99th percentile is at most twice the calm one, and which keeps up.
    pub(crate) fn knee(&self) -> Option<&Step> {
        let doubled = 2.0 * self.calm_ms();
        self.steps.iter().rev().find(|step| self.kept_up(step) && step.p99_ms <= doubled)
    }

    /// Whether a higher load is worth trying: one of the last two was kept up with.
    pub(crate) fn goes_on(&self) -> bool {
        let last = self.steps.len().saturating_sub(2)..;
        self.steps.len() < 2 || self.steps[last].iter().any(|step| self.kept_up(step))
    }

    fn kept_up(&self, step: &Step) -> bool {
        let share = |step: &Step| step.answered / step.offered;
        let all_came = match self.load {
            Load::Open(_) => {
                self.steps.first().is_some_and(|first| share(step) >= KEPT_UP_SHARE * share(first))
            }
            Load::Closed => true,
        };
        step.failed == 0 && step.p50_ms <= KEPT_UP_MS && all_came
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(load: Load, steps: &[(f64, f64, f64)]) -> Curve {
        let step = |&(offered, answered, p99_ms)| Step { offered, answered, p99_ms, ..Step::default() };
        Curve { what: "", by: "", limit: None, load, steps: steps.iter().map(step).collect() }
    }

    #[test]
    fn the_knee_is_the_last_step_before_the_percentile_doubles() {
        let steps = [(1.0, 1.0, 2.0), (2.0, 2.0, 1.0), (4.0, 4.0, 1.5), (8.0, 8.0, 3.0), (16.0, 16.0, 3.1)];
        let knee = curve(Load::Open("calls"), &steps).knee().map(|step| step.offered);
        assert_eq!(knee, Some(8.0), "twice the median of 2, 1 and 1.5 ms");
    }

    #[test]
    fn a_tool_that_falls_behind_itself_is_no_knee() {
        let mut curve = curve(Load::Open("people"), &[(1.0, 9.0, 1.0), (2.0, 18.0, 1.0), (4.0, 32.0, 1.0)]);
        assert_eq!(curve.knee().map(|step| step.offered), Some(2.0), "of 36 calls a second 32 were made");
        assert!(curve.goes_on(), "once may be an accident");
        curve.steps.push(curve.steps[2].clone());
        assert!(!curve.goes_on());
        curve.load = Load::Closed;
        assert_eq!(
            curve.knee().map(|step| step.offered),
            Some(4.0),
            "who waits makes as many as are answered"
        );
    }

    #[test]
    fn one_hiccup_is_in_one_third() {
        let mut latencies = vec![1000; 300];
        latencies[..20].fill(90_000);
        assert!((median_of_thirds(&latencies) - 1.0).abs() < 1e-9);
        latencies[100..120].fill(80_000);
        assert!((median_of_thirds(&latencies) - 80.0).abs() < 1e-9, "two are no accident");
        assert!(median_of_thirds(&[]).is_infinite());
    }

    #[test]
    fn a_failure_ends_a_curve() {
        let mut curve = curve(Load::Open("calls"), &[(1.0, 1.0, 1.0), (2.0, 2.0, 1.0)]);
        curve.steps[1].failed = 1;
        assert_eq!(curve.knee().map(|step| step.offered), Some(1.0));
    }
}
