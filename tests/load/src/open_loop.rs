//! Calls at given times, whether or not those before have been answered: a server that falls behind cannot slow its
//! callers down, and the wait counts from the time at which a call was due.

use anyhow::Result;
use nearfield_engine::golden::Random;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// Longest wait for the answers after the last call; what comes later has failed.
const DRAIN: Duration = Duration::from_secs(10);

/// What came of the calls of one trial.
#[derive(Default)]
pub(crate) struct Trial {
    /// From the time at which a call was due to its answer, in microseconds; of those that were answered well.
    pub(crate) latencies_us: Vec<u32>,
    /// Calls that were made.
    pub(crate) calls: usize,
    /// What the first call said that was not answered well.
    pub(crate) failure: Option<String>,
    /// From the first call's time to the last answer, in seconds.
    pub(crate) seconds: f64,
}

impl Trial {
    /// Calls that were not answered well.
    pub(crate) fn failed(&self) -> usize {
        self.calls - self.latencies_us.len()
    }

    /// Adds another one of the same rate.
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.calls += other.calls;
        self.seconds += other.seconds;
        self.failure = self.failure.take().or(other.failure);
    }

    /// The latency that a share of the calls does not exceed, in milliseconds; a call that failed exceeds all.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let at = ((self.calls as f64 * share).ceil() as usize).saturating_sub(1);
        sorted.get(at).map_or(f64::INFINITY, |us| f64::from(*us) / 1e3)
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies_us.len() as f64 / self.seconds
    }
}

/// Makes calls for some seconds, at a rate, with gaps of the exponential distribution.
pub(crate) async fn run<F: Future<Output = Result<()>> + 'static>(
    rate: f64,
    seconds: f64,
    seed: u64,
    call: impl Fn(usize) -> F,
) -> Trial {
    let mut random = Random(seed);
    let mut at = 0.0;
    let mut times = Vec::new();
    while at < seconds {
        times.push(Duration::from_secs_f64(at));
        // In (0, 1].
        let uniform = ((random.draw() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        at -= uniform.ln() / rate;
    }
    let calls = times.len();
    let (send, mut due) = tokio::sync::mpsc::unbounded_channel();
    // A thread wakes more exactly than the runtime's timer, which counts milliseconds.
    let started = Instant::now();
    let clock = std::thread::spawn(move || {
        for (index, time) in times.into_iter().enumerate() {
            std::thread::sleep(time.saturating_sub(started.elapsed()));
            if send.send((index, started + time)).is_err() {
                break;
            }
        }
    });
    let answered: Rc<RefCell<Trial>> = Rc::default();
    let local = LocalSet::new();
    let all = local.run_until(async {
        let mut waiting = tokio::task::JoinSet::new();
        while let Some((index, time)) = due.recv().await {
            let answer = call(index);
            let answered = Rc::clone(&answered);
            waiting.spawn_local(async move {
                let result = answer.await;
                let took = time.elapsed();
                let mut trial = answered.borrow_mut();
                match result {
                    Ok(()) => {
                        trial.latencies_us.push(took.as_micros() as u32);
                        trial.seconds = started.elapsed().as_secs_f64();
                    }
                    Err(error) => {
                        trial.failure.get_or_insert_with(|| format!("{error:#}"));
                    }
                }
            });
            while waiting.try_join_next().is_some() {}
        }
        let drained = async { while waiting.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let late = || format!("no answer within {} s after the last call", DRAIN.as_secs());
            answered.borrow_mut().failure.get_or_insert_with(late);
        }
    });
    all.await;
    let _ended = clock.join();
    drop(local);
    let mut trial = answered.take();
    trial.calls = calls;
    // A trial lasts as long as it was planned at least: the last call may come early.
    trial.seconds = trial.seconds.max(seconds);
    trial
}
