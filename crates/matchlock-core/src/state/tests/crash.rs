//! Whatever a life was, and wherever it was cut off: the next command puts it in order.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::stage::Stage;
use super::*;
use crate::phase::Phase;

/// A step of a life, or of one who cleans up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Register {
        recorded: bool,
    },
    MakeDirectory,
    StartMonitor,
    Go(Phase),
    EndMonitor,
    GiveBack {
        recorded: bool,
    },
    Conclude {
        recorded: bool,
    },
    /// A kept sandbox is started again.
    Resume,
}

/// The steps of a sandbox that goes through these phases, in the order in which they happen.
pub(super) fn life(fate: &[Phase], recorded: bool) -> Vec<Step> {
    let mut steps = vec![Step::Register { recorded }, Step::MakeDirectory];
    for phase in fate {
        steps.push(Step::Go(*phase));
        match phase {
            Phase::Booting => steps.push(Step::StartMonitor),
            Phase::Ending | Phase::Unwinding => {
                steps.extend([Step::EndMonitor, Step::GiveBack { recorded }]);
            }
            _ => {}
        }
    }
    steps.push(Step::Conclude { recorded });
    steps
}

/// All ways through the phases, each without its last one, which the end writes.
pub(super) fn fates() -> Vec<Vec<Phase>> {
    let mut open = VecDeque::from([vec![Phase::Preparing]]);
    let mut fates = Vec::new();
    while let Some(fate) = open.pop_front() {
        let last = *fate.last().expect("a phase");
        if last.is_over() {
            fates.push(fate[1..fate.len() - 1].to_vec());
            continue;
        }
        for next in Phase::ALL.into_iter().filter(|next| last.may_become(*next)) {
            open.push_back(fate.iter().copied().chain([next]).collect());
        }
    }
    fates
}

/// A sandbox whose owner does one step after the other, until it is killed.
pub(super) struct Actor<'a> {
    lab: &'a Lab,
    id: SandboxId,
    phase: Phase,
    monitor: Option<Child>,
}

impl<'a> Actor<'a> {
    pub(super) fn new(lab: &'a Lab) -> Self {
        let id = SandboxId::random().expect("id");
        Self { lab, id, phase: Phase::Preparing, monitor: None }
    }

    pub(super) fn take(&mut self, step: Step) {
        let (state, id) = (&self.lab.state, &self.id);
        match step {
            Step::Register { recorded } => {
                let owner = Here::read().record(std::process::id()).expect("alive");
                state.enter(id, &kept_spec(recorded), &owner).expect("enter");
            }
            Step::MakeDirectory => {
                std::fs::create_dir_all(state.directory_of(id)).expect("mkdir");
            }
            Step::StartMonitor => {
                let monitor = sleeper();
                let record = Here::read().record(monitor.id()).expect("alive");
                state.write(|t| ledger::describe(t, id, &record)).expect("describe");
                self.monitor = Some(monitor);
            }
            Step::Go(next) => {
                let stage = Stage::of_step(self.phase, next).expect("a step");
                state.advance(id, stage).expect("write");
                self.phase = next;
            }
            Step::EndMonitor => {
                if let Some(mut monitor) = self.monitor.take() {
                    monitor.kill().expect("kill");
                    monitor.wait().expect("wait");
                }
            }
            Step::GiveBack { recorded: true } => {
                state.write(|t| ledger::leave(t, id, Kind::Monitor)).expect("leave");
            }
            Step::GiveBack { recorded: false } => {
                ledger::remove(&state.directory_of(id)).expect("remove");
                let all = || Kind::ALL.into_iter();
                state
                    .write(|t| all().try_for_each(|kind| ledger::leave(t, id, kind)))
                    .expect("leave");
            }
            Step::Resume => {
                // Its directory is what `recover` looks at.
                std::mem::forget(state.resume(id, &kept_spec(true)).expect("resume"));
                self.phase = Phase::Preparing;
            }
            Step::Conclude { recorded } => {
                state.conclude(id, recorded, &stopped()).expect("conclude");
            }
        }
    }

    /// Whether its monitor goes on, if it was started and not ended. It is ended by this.
    pub(super) fn monitor_lives(&mut self) -> bool {
        let Some(mut monitor) = self.monitor.take() else { return true };
        let lives = monitor.try_wait().expect("wait").is_none();
        drop(monitor.kill());
        monitor.wait().expect("wait");
        lives
    }

    /// Kills the owner, and has somebody put things in order, twice.
    fn recover(self, ended: bool, recorded: bool) {
        self.recover_with(ended, recorded, |_| {});
    }

    /// The same of one that is kept; `then` before it is removed.
    fn recover_kept(self, ended: bool, then: impl FnOnce(&StateRoot)) {
        self.recover_with(ended, true, then);
    }

    fn recover_with(mut self, ended: bool, recorded: bool, then: impl FnOnce(&StateRoot)) {
        let (lab, id) = (self.lab, self.id.clone());
        if !ended && lab.state.record(&id).is_ok() {
            lab.own(&id, &dead());
        }
        for _ in 0..2 {
            lab.elsewhere().sweep().expect("sweep");
        }
        if let Some(monitor) = &mut self.monitor {
            assert!(!monitor.wait().expect("wait").success(), "the monitor was killed");
        }
        let record = lab.state.record(&id).ok();
        let status = record.map(|record| record.status);
        if recorded && status.is_some() {
            assert_eq!(lab.held(&id), 2, "its disk and its directory");
        } else {
            assert!(!lab.state.directory_of(&id).exists());
            assert_eq!(lab.held(&id), 0);
        }
        match (ended, recorded) {
            (true, true) => assert_eq!(status, Some(SandboxStatus::Stopped)),
            (true, false) => assert_eq!(status, None),
            (false, _) => assert!(matches!(status, None | Some(SandboxStatus::Crashed))),
        }
        if status.is_some() {
            let phases = lab.phases(&id);
            assert_eq!(phases.last().map(String::as_str), Some("cleaned"));
            let stages: Vec<_> =
                phases.iter().map(|word| Stage::of_word(word).expect("a word")).collect();
            assert!(stages.windows(2).all(|two| two[0].may_become(two[1])), "{phases:?}");
            then(&lab.state);
            lab.state.remove(&id).expect("remove");
            assert!(!lab.state.directory_of(&id).exists());
            assert_eq!(lab.held(&id), 0);
        }
    }
}

#[test]
fn a_crash_after_every_step_of_every_life_is_put_in_order() {
    let lab = Lab::new();
    for fate in fates() {
        for recorded in [true, false] {
            let steps = life(&fate, recorded);
            for cut in 0..=steps.len() {
                let mut actor = Actor::new(&lab);
                steps.iter().take(cut).for_each(|step| actor.take(*step));
                actor.recover(cut == steps.len(), recorded);
            }
        }
    }
    assert!(lab.state.list().expect("list").is_empty());
}

#[test]
fn a_crash_after_every_step_of_a_second_life_is_put_in_order() {
    let lab = Lab::new();
    let fates = fates();
    for (first, second) in fates.iter().zip(fates.iter().rev()) {
        let mut steps = life(first, true);
        let begun = steps.len();
        steps.push(Step::Resume);
        steps.extend(life(second, true).into_iter().skip(2));
        for cut in begun..=steps.len() {
            let mut actor = Actor::new(&lab);
            steps.iter().take(cut).for_each(|step| actor.take(*step));
            let id = actor.id.clone();
            let ended = cut == steps.len() || cut == begun;
            actor.recover_kept(ended, |state| {
                // And a third one, after whatever came.
                let directory = state.resume(&id, &kept_spec(true)).expect("resume");
                assert_eq!(lab.held(&id), 3);
                drop(directory);
                state.conclude(&id, true, &stopped()).expect("conclude");
            });
        }
    }
    assert!(lab.state.list().expect("list").is_empty());
}

/// What others do meanwhile.
#[derive(Debug, Clone, Copy)]
enum Other {
    Sweep,
    List,
    Remove,
    Collect,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Several sandboxes at once, others who clean up in between, and a crash of each at any step.
    #[test]
    fn any_order_of_lives_crashes_and_sweeps_ends_in_order(
        lives in proptest::collection::vec((0..fates().len(), any::<bool>(), 0..12_usize), 1..5),
        order in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
            None, None, Some(Other::Sweep), Some(Other::List), Some(Other::Remove), Some(Other::Collect),
        ])), 0..40),
    ) {
        let lab = Lab::new();
        let fates = fates();
        let mut actors: Vec<_> = lives.iter().map(|(fate, recorded, cut)| {
            let steps = life(&fates[*fate], *recorded);
            let ended = *cut >= steps.len();
            let left: VecDeque<_> = steps.into_iter().take(*cut).collect();
            (Actor::new(&lab), left, ended, *recorded)
        }).collect();
        let ids: Vec<_> = actors.iter().map(|(actor, ..)| actor.id.clone()).collect();
        for (index, other) in order {
            let other_state = lab.elsewhere();
            let id = index.get(&ids);
            match other {
                // They are refused for what lives, and find nothing of what has gone.
                Some(Other::Remove) => drop(other_state.remove(id)),
                Some(Other::Collect) => drop(other_state.collect(id)),
                Some(Other::Sweep) => drop(other_state.sweep().expect("sweep")),
                Some(Other::List) => drop(other_state.list().expect("list")),
                None => {
                    let at = index.index(actors.len());
                    if let Some(step) = actors[at].1.pop_front() {
                        actors[at].0.take(step);
                    }
                }
            }
        }
        for (mut actor, left, ended, recorded) in actors {
            left.into_iter().for_each(|step| actor.take(step));
            if ended && recorded && lab.state.record(&actor.id).is_err() {
                // Somebody has removed it in the meantime, which is allowed at its end.
                continue;
            }
            actor.recover(ended, recorded);
        }
        prop_assert!(lab.state.list().expect("list").is_empty());
    }
}
