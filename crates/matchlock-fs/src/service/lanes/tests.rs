//! Every job runs once, none of a lane keeps another lane's from running.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use proptest::prelude::*;

use super::*;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A job that runs until it is told to end, and a way to tell it.
fn hanging() -> (Receiver<()>, Sender<()>) {
    let (end, wait) = channel();
    (wait, end)
}

#[test]
fn a_lane_that_hangs_holds_up_no_other() {
    let (sender, done) = channel();
    let lanes = Lanes::new(move |job: (Option<Receiver<()>>, usize)| {
        if let Some(wait) = job.0 {
            let _ = wait.recv();
        }
        let _ = sender.send(job.1);
    });
    let ends: Vec<_> = (0..3)
        .flat_map(|lane| (0..LANE_THREADS + 2).map(move |_| lane))
        .map(|lane| {
            let (wait, end) = hanging();
            assert!(lanes.push(lane, (Some(wait), 0)).is_ok());
            end
        })
        .collect();
    for number in 1..=50 {
        assert!(lanes.push(3, (None, number)).is_ok());
        assert_eq!(done.recv_timeout(PATIENCE), Ok(number), "the other lane goes on");
    }
    assert!(lanes.threads() <= 4 * LANE_THREADS);
    drop(ends);
    for _ in 0..3 * (LANE_THREADS + 2) {
        assert_eq!(done.recv_timeout(PATIENCE), Ok(0));
    }
}

#[test]
fn a_lane_has_a_bounded_number_of_threads() {
    let (lanes, most) = {
        let (running, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let lanes = Lanes::new(move |_: u32| {
            seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
        });
        (lanes, most)
    };
    for job in 0..2000 {
        assert!(lanes.push(5, job).is_ok());
    }
    assert!(lanes.threads() <= LANE_THREADS);
    lanes.stop(soon());
    assert!(most.load(Ordering::SeqCst) <= LANE_THREADS);
    assert_eq!(lanes.threads(), 0);
    assert_eq!(lanes.push(5, 7), Err(7), "nothing is taken any more");
}

#[test]
fn what_hangs_is_left_behind_and_what_waits_is_dropped() {
    let lanes = Lanes::new(|wait: Arc<Mutex<Receiver<()>>>| {
        let _ = lock(&wait).recv();
    });
    let (wait, _end) = hanging();
    let job = Arc::new(Mutex::new(wait));
    for _ in 0..LANE_THREADS + 3 {
        assert!(lanes.push(0, Arc::clone(&job)).is_ok());
    }
    lanes.stop(Instant::now());
    assert!(Arc::strong_count(&job) <= 1 + LANE_THREADS);
}

#[test]
fn a_panic_ends_one_job() {
    let (sender, done) = channel();
    let lanes = Lanes::new(move |job: u32| {
        assert_ne!(job, 1, "as asked");
        let _ = sender.send(job);
    });
    for job in [1, 1, 1, 1, 1, 1, 2] {
        assert!(lanes.push(9, job).is_ok());
    }
    assert_eq!(done.recv_timeout(PATIENCE), Ok(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any jobs, pushed from two threads at once, in any lanes.
    #[test]
    fn each_job_runs_once(jobs in prop::collection::vec((0usize..LANES, any::<bool>()), 0..300)) {
        let (sender, done) = channel();
        let lanes = Lanes::new(move |job: usize| {
            let _ = sender.send(job);
        });
        std::thread::scope(|scope| {
            for half in [false, true] {
                let (lanes, jobs) = (&lanes, &jobs);
                scope.spawn(move || {
                    let ours = jobs.iter().enumerate().filter(|(_, (_, of))| *of == half);
                    for (job, (lane, _)) in ours {
                        assert!(lanes.push(*lane, job).is_ok());
                    }
                });
            }
        });
        let mut ran: Vec<_> = jobs.iter().map_while(|_| done.recv_timeout(PATIENCE).ok()).collect();
        ran.sort_unstable();
        prop_assert_eq!(ran, (0..jobs.len()).collect::<Vec<_>>());
        lanes.stop(soon());
        prop_assert!(done.try_recv().is_err(), "and no more");
    }
}
