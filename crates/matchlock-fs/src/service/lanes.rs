//! Threads for work that may wait, in lanes that cannot hold each other up.
//!
//! A lane runs a few jobs at once and keeps the others in order. A thread is made when a job may run and no
//! thread is idle, and ends after a while without work. As no lane takes another's threads, a lane whose jobs
//! all hang costs the others nothing.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pool::lock;

/// How many lanes there are. Numbers beyond share them.
pub(super) const LANES: usize = 32;

/// Jobs of one lane that run at once, and so the most threads that it can hold.
pub(super) const LANE_THREADS: usize = 4;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(5);

/// A set of lanes. Dropping it stops them.
pub(super) struct Lanes<J: Send + 'static> {
    shared: Arc<Shared<J>>,
}

struct Shared<J> {
    state: Mutex<State<J>>,
    /// Wakes an idle thread, by a permit.
    work: Condvar,
    /// Tells the end of a thread.
    ended: Condvar,
    run: Box<dyn Fn(J) + Send + Sync>,
}

struct State<J> {
    lanes: [Lane<J>; LANES],
    /// Where to look first for the next job, so that each lane has its turn.
    turn: usize,
    threads: usize,
    /// Threads that wait and that no permit is meant for.
    idle: usize,
    permits: usize,
    stopping: bool,
}

struct Lane<J> {
    waiting: VecDeque<J>,
    running: usize,
}

impl<J: Send + 'static> Lanes<J> {
    /// `run` carries a job out; a panic of it ends only that job.
    pub(super) fn new(run: impl Fn(J) + Send + Sync + 'static) -> Self {
        let lane = || Lane { waiting: VecDeque::new(), running: 0 };
        let state = State {
            lanes: std::array::from_fn(|_| lane()),
            turn: 0,
            threads: 0,
            idle: 0,
            permits: 0,
            stopping: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            ended: Condvar::new(),
            run: Box::new(run),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Has a job carried out after those that wait in its lane.
    ///
    /// # Errors
    /// The job, when the lanes have stopped or the host gives no thread.
    pub(super) fn push(&self, lane: usize, job: J) -> Result<(), J> {
        let mut state = lock(&self.shared.state);
        if state.stopping {
            return Err(job);
        }
        state.lanes[lane].waiting.push_back(job);
        if state.lanes[lane].running_or_due() <= LANE_THREADS {
            if state.idle > 0 {
                // Counted here and not where the thread wakes: the next push must not count on it as well.
                state.idle -= 1;
                state.permits += 1;
                self.shared.work.notify_one();
            } else if spawn(&self.shared).is_ok() {
                state.threads += 1;
            } else {
                return state.lanes[lane].waiting.pop_back().map_or(Ok(()), Err);
            }
        }
        Ok(())
    }

    /// Takes no more jobs and drops those that wait. Returns when those that run have ended, or at the
    /// deadline; what hangs is left behind.
    pub(super) fn stop(&self, deadline: Instant) {
        let mut state = lock(&self.shared.state);
        state.stopping = true;
        let waiting: Vec<J> =
            state.lanes.iter_mut().flat_map(|lane| std::mem::take(&mut lane.waiting)).collect();
        self.shared.work.notify_all();
        drop(state);
        drop(waiting);
        let mut state = lock(&self.shared.state);
        while state.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = wait(&self.shared.ended, state, left);
        }
    }

    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        lock(&self.shared.state).threads
    }
}

impl<J: Send + 'static> Drop for Lanes<J> {
    fn drop(&mut self) {
        self.stop(Instant::now());
    }
}

impl<J: Send + 'static> fmt::Debug for Lanes<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("threads", &lock(&self.shared.state).threads).finish()
    }
}

impl<J> Lane<J> {
    fn running_or_due(&self) -> usize {
        self.running + self.waiting.len()
    }
}

impl<J> State<J> {
    /// The next job that may run, and its lane.
    fn next(&mut self) -> Option<(usize, J)> {
        for step in 0..LANES {
            let index = (self.turn + step) % LANES;
            let lane = &mut self.lanes[index];
            if lane.running < LANE_THREADS
                && let Some(job) = lane.waiting.pop_front()
            {
                lane.running += 1;
                self.turn = index + 1;
                return Some((index, job));
            }
        }
        None
    }
}

fn spawn<J: Send + 'static>(shared: &Arc<Shared<J>>) -> std::io::Result<()> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name("fs-worker".to_owned()).spawn(move || work(&shared)).map(drop)
}

/// A thread: one job after the other, until there has been none for a while.
fn work<J>(shared: &Shared<J>) {
    let mut state = lock(&shared.state);
    loop {
        if let Some((lane, job)) = state.next() {
            drop(state);
            // The panic hook has told of it.
            let _ = catch_unwind(AssertUnwindSafe(|| (shared.run)(job)));
            state = lock(&shared.state);
            state.lanes[lane].running -= 1;
            continue;
        }
        state.idle += 1;
        let until = Instant::now() + IDLE;
        while state.permits == 0 {
            let left = until.saturating_duration_since(Instant::now());
            if state.stopping || left.is_zero() {
                state.idle -= 1;
                state.threads -= 1;
                shared.ended.notify_all();
                return;
            }
            state = wait(&shared.work, state, left);
        }
        state.permits -= 1;
    }
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, left: Duration) -> MutexGuard<'a, T> {
    condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests;
