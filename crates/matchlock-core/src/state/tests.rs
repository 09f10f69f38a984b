//! The state with processes that live, die and are killed in the middle.

mod crash;
mod hostile;
mod power;
mod resolve;

use std::process::Child;
use std::time::Duration;

use super::ledger::Kind;
use super::process::{Here, ProcessRecord};
use super::stage::Stage;
use super::*;
use crate::phase::EndCause;
use crate::spec::{Lifetime, SandboxSpec, StartSpec};
use crate::testing::{sleeper, spec};

/// A home of its own.
struct Lab {
    home: tempfile::TempDir,
    state: StateRoot,
}

impl Lab {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("tempdir");
        let state = StateRoot::in_home(home.path());
        Self { home, state }
    }

    /// The same state as another process has it.
    fn elsewhere(&self) -> StateRoot {
        StateRoot::in_home(self.home.path())
    }

    fn register(&self) -> (SandboxId, StateDir) {
        self.register_as(&spec())
    }

    fn register_as(&self, spec: &SandboxSpec) -> (SandboxId, StateDir) {
        let id = SandboxId::random().expect("id");
        let directory = self.state.register(&id, spec).expect("register");
        (id, directory)
    }

    /// Gives a sandbox to this process, and returns where its files are.
    fn own(&self, id: &SandboxId, owner: &ProcessRecord) {
        let owner_json = json(owner).expect("JSON");
        let update = "UPDATE vms SET pid = ?2, owner_json = ?3 WHERE id = ?1";
        let params = rusqlite::params![id.as_str(), owner.pid, owner_json];
        let given = self.state.write(|transaction| Ok(transaction.execute(update, params)?));
        assert_eq!(given.expect("update"), 1);
    }

    /// A sandbox as a killed supervisor leaves it.
    fn abandoned(&self) -> (SandboxId, Child) {
        let (id, directory) = self.register();
        let monitor = sleeper();
        directory.record_monitor(monitor.id()).expect("record");
        std::mem::forget(directory);
        self.own(&id, &dead());
        (id, monitor)
    }

    fn phases(&self, id: &SandboxId) -> Vec<String> {
        let history = self.state.history(id).expect("history");
        history.into_iter().map(|record| record.phase).collect()
    }

    fn held(&self, id: &SandboxId) -> usize {
        self.state.read(|database| ledger::held(database, id)).expect("read").len()
    }

    fn status(&self, id: &SandboxId) -> SandboxStatus {
        self.state.record(id).expect("a row").status
    }
}

/// What is kept after its end.
fn kept_spec(recorded: bool) -> SandboxSpec {
    let spec = spec();
    let lifetime = Lifetime { recorded, ..spec.lifetime };
    SandboxSpec { lifetime, start: recorded.then(StartSpec::default), ..spec }
}

/// A process that was.
fn dead() -> ProcessRecord {
    let mut child = sleeper();
    let record = Here::read().record(child.id()).expect("alive");
    child.kill().expect("kill");
    child.wait().expect("wait");
    record
}

fn stopped() -> EndRecord {
    EndRecord::new(&EndCause::Stopped, Some(3), None)
}

#[test]
fn a_living_sandbox_is_not_swept_and_its_directory_goes_with_it() {
    let lab = Lab::new();
    let (id, directory) = lab.register();
    let other = lab.elsewhere();
    assert_eq!(other.sweep().expect("sweep"), Swept::default());
    assert!(matches!(other.remove(&id), Err(StateError::Running(_))));
    let path = directory.path().to_owned();
    assert!(path.is_dir());
    assert_eq!(lab.held(&id), 2);
    drop(directory);
    assert!(!path.exists());
    assert_eq!(lab.held(&id), 0);
    assert_eq!(lab.status(&id), SandboxStatus::Running, "until it says how it ended");
}

#[test]
fn the_end_takes_the_row_away_unless_it_is_recorded() {
    let lab = Lab::new();
    let (gone, directory) = lab.register();
    drop(directory);
    lab.state.conclude(&gone, false, &stopped()).expect("conclude");
    assert!(matches!(lab.state.find(gone.as_str()), Err(StateError::NotFound(_))));
    let remembered = lab.state.wait(&gone, None).expect("known").expect("over");
    assert_eq!((&*remembered.cause, remembered.exit_code), ("stopped", 3));
    let (kept, directory) = lab.register_as(&kept_spec(true));
    lab.state.advance(&kept, Stage::Starting).expect("write");
    lab.state.advance(&kept, Stage::Running).expect("write");
    drop(directory);
    lab.state.conclude(&kept, true, &stopped()).expect("conclude");
    let record = lab.state.find(kept.as_str()).expect("a row");
    assert_eq!((record.status, record.pid), (SandboxStatus::Stopped, 0));
    assert_eq!(record.ending.as_ref().map(|ending| ending.exit_code), Some(3));
    assert_eq!(lab.phases(&kept), ["creating", "starting", "running", "cleaning", "cleaned"]);
    // A second end, and an end of what is not there, change nothing.
    lab.state.conclude(&kept, false, &stopped()).expect("conclude");
    lab.state.conclude(&gone, true, &stopped()).expect("conclude");
    assert_eq!(lab.state.list().expect("list").len(), 1);
    assert!(lab.state.directory_of(&kept).is_dir(), "with its disk and its log");
    assert_eq!(lab.state.collect(&kept).expect("collect").cleaned, [""; 0]);
    lab.state.remove(&kept).expect("remove");
    assert!(!lab.state.directory_of(&kept).exists());
    assert!(lab.state.list().expect("list").is_empty());
    assert!(matches!(lab.state.remove(&kept), Err(StateError::NotFound(_))));
    assert!(lab.phases(&kept).is_empty());
}

#[test]
fn what_cannot_be_removed_stays_in_the_ledger_and_with_it_the_row() {
    let lab = Lab::new();
    let (id, directory) = lab.register();
    // As if the directory could not be removed: its owner says nothing of it.
    std::mem::forget(directory);
    lab.state.conclude(&id, false, &stopped()).expect("conclude");
    assert_eq!(lab.status(&id), SandboxStatus::Stopped);
    assert_eq!(lab.phases(&id).last().map(String::as_str), Some("cleanup_failed"));
    assert_eq!(lab.state.sweep().expect("sweep").removed, [id.to_string()]);
    assert_eq!(lab.held(&id), 0);
    assert!(!lab.state.directory_of(&id).exists());
}

#[test]
fn a_dead_sandbox_is_marked_and_all_of_it_is_taken_back() {
    let lab = Lab::new();
    let (id, mut monitor) = lab.abandoned();
    assert!(lab.state.directory_of(&id).exists());
    assert_eq!(lab.elsewhere().sweep().expect("sweep").removed, [id.to_string()]);
    assert!(!monitor.wait().expect("wait").success(), "killed");
    assert!(!lab.state.directory_of(&id).exists());
    let record = lab.state.find(id.as_str()).expect("it is still listed");
    assert_eq!((record.status, record.pid), (SandboxStatus::Crashed, 0));
    assert_eq!(record.ending.expect("an ending").cause, "crashed");
    let history = lab.state.history(&id).expect("history");
    let last = history.last().expect("steps");
    assert_eq!((&*last.phase, &last.cleanup["monitor"]["status"]), ("cleaned", &"ok".into()));
    assert_eq!(lab.elsewhere().sweep().expect("sweep"), Swept::default());
    lab.state.remove(&id).expect("remove");
}

#[test]
fn of_a_dead_sandbox_that_is_kept_only_what_stays_is_left_until_it_is_removed() {
    let lab = Lab::new();
    let (id, directory) = lab.register_as(&kept_spec(true));
    let mut monitor = sleeper();
    directory.record_monitor(monitor.id()).expect("record");
    std::fs::write(crate::disk::path(directory.path()), "data").expect("write");
    std::mem::forget(directory);
    lab.own(&id, &dead());
    assert_eq!(lab.elsewhere().sweep().expect("sweep").removed, [id.to_string()]);
    assert!(!monitor.wait().expect("wait").success(), "killed");
    assert_eq!((lab.status(&id), lab.held(&id)), (SandboxStatus::Crashed, 2));
    assert_eq!(lab.elsewhere().sweep().expect("sweep"), Swept::default());
    assert!(crate::disk::path(&lab.state.directory_of(&id)).is_file());
    // Who removes it dies in the middle: it is gone on with by the next.
    lab.state.write(|transaction| ledger::doom(transaction, &id)).expect("doom");
    assert_eq!(lab.elsewhere().sweep().expect("sweep").removed, [id.to_string()]);
    assert_eq!(lab.held(&id), 0);
    assert!(!lab.state.directory_of(&id).exists());
    lab.state.remove(&id).expect("remove");
}

#[test]
fn a_process_that_reuses_the_id_of_the_monitor_is_spared() {
    let lab = Lab::new();
    let (id, mut other) = lab.abandoned();
    let update =
        "UPDATE resources SET json = json_set(json, '$.start_time', 1) WHERE kind = 'monitor'";
    lab.state.write(|transaction| Ok(transaction.execute(update, [])?)).expect("update");
    assert_eq!(lab.state.sweep().expect("sweep").removed, [id.to_string()]);
    assert_eq!(other.try_wait().expect("wait"), None, "still alive");
    other.kill().expect("kill");
    other.wait().expect("wait");
}

#[test]
fn two_names_of_the_living_are_never_the_same() {
    let lab = Lab::new();
    let named = SandboxSpec { name: Some("web".parse().expect("a name")), ..spec() };
    let register = || {
        let id = SandboxId::random().expect("id");
        lab.state.register(&id, &named).map(|directory| (id, directory))
    };
    let (first, directory) = register().expect("free");
    let error = register().expect_err("taken");
    assert!(matches!(&error, StateError::NameTaken { id, .. } if *id == first), "{error}");
    assert_eq!(lab.state.list().expect("list").len(), 1, "nothing is left of the second");
    std::mem::forget(directory);
    lab.own(&first, &dead());
    // Nobody has noticed its death before.
    let (second, _directory) = register().expect("free again");
    assert_eq!(lab.status(&first), SandboxStatus::Crashed);
    assert_eq!(lab.state.find("web").expect("the living one").id, second);
}

#[test]
fn who_waits_is_told_of_the_end() {
    let lab = Lab::new();
    let (id, directory) = lab.register();
    assert_eq!(lab.state.wait(&id, Some(Duration::ZERO)).expect("runs"), None);
    let (state, waited) = (lab.elsewhere(), id.clone());
    let waiting = std::thread::spawn(move || state.wait(&waited, None));
    drop(directory);
    lab.state.conclude(&id, false, &stopped()).expect("conclude");
    let ending = waiting.join().expect("no panic").expect("known").expect("over");
    assert_eq!(ending.exit_code, 3);
    let (id, mut monitor) = lab.abandoned();
    let ending = lab.state.wait(&id, None).expect("known").expect("over");
    assert_eq!(ending.cause, "crashed");
    lab.state.remove(&id).expect("remove");
    monitor.wait().expect("wait");
    let unknown = SandboxId::random().expect("id");
    assert!(matches!(lab.state.wait(&unknown, None), Err(StateError::NotFound(_))));
}

#[test]
fn the_owner_is_signalled_and_killed_and_nobody_else() {
    let lab = Lab::new();
    let (id, directory) = lab.register();
    std::mem::forget(directory);
    let mut owner = sleeper();
    lab.own(&id, &Here::read().record(owner.id()).expect("alive"));
    let record = lab.state.find(id.as_str()).expect("found");
    assert_eq!(record.pid, owner.id());
    assert!(matches!(lab.state.signal(&record, 99), Err(StateError::Process { .. })));
    lab.state.signal(&record, 15).expect("signal");
    assert!(!owner.wait().expect("wait").success());
    assert!(matches!(lab.state.signal(&record, 15), Err(StateError::NotRunning(_))));
    let mut owner = sleeper();
    lab.own(&id, &Here::read().record(owner.id()).expect("alive"));
    let record = lab.state.find(id.as_str()).expect("found");
    assert!(matches!(lab.state.collect(&id), Err(StateError::Running(_))));
    lab.state.kill_owner(&record).expect("kill");
    assert!(!owner.wait().expect("wait").success());
    assert_eq!(lab.state.collect(&id).expect("collect").cleaned, ["directory", "monitor"]);
    assert_eq!(lab.status(&id), SandboxStatus::Crashed);
    let record = lab.state.find(id.as_str()).expect("found");
    assert!(matches!(lab.state.signal(&record, 15), Err(StateError::NotRunning(_))));
}

#[test]
fn ends_that_are_remembered_are_bounded() {
    let lab = Lab::new();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
        INSERT INTO endings (vm_id, json) SELECT 'vm-00000000', '{}' FROM n";
    lab.state.write(|transaction| Ok(transaction.execute(fill, [])?)).expect("fill");
    let (id, directory) = lab.register();
    drop(directory);
    lab.state.conclude(&id, false, &stopped()).expect("conclude");
    let count = "SELECT count(*) FROM endings";
    let count: i64 =
        lab.state.read(|d| Ok(d.query_row(count, [], |row| row.get(0))?)).expect("count");
    assert_eq!(count, 1000);
    assert!(lab.state.wait(&id, None).expect("known").is_some());
}

#[test]
fn steps_that_are_remembered_are_bounded() {
    let lab = Lab::new();
    let (id, directory) = lab.register_as(&kept_spec(true));
    let fill = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
        INSERT INTO vm_lifecycle SELECT ?1, i, 'qemu', 'creating', '', NULL, '{}', '{}' FROM n";
    let head = "UPDATE vm_lifecycle_head SET last_version = 1500 WHERE vm_id = ?1";
    for query in [fill, head] {
        lab.state.write(|t| Ok(t.execute(query, [id.as_str()])?)).expect("fill");
    }
    lab.state.advance(&id, Stage::Starting).expect("write");
    let history = lab.state.history(&id).expect("history");
    assert_eq!((history.len(), history[0].version), (1000, 502));
    assert_eq!(history.last().map(|step| step.version), Some(1501));
    drop(directory);
}

#[test]
fn what_a_monitor_said_last_is_kept_in_part() {
    let said = "ä".repeat(4096);
    let record = EndRecord::new(&EndCause::MonitorDied(said), None, None);
    assert_eq!((record.exit_code, record.error.expect("a message").len()), (125, 2048));
}
