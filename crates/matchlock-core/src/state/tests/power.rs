//! The power goes, and what the disk has of the state is opened again after the next boot.

use std::fs;

use proptest::prelude::*;
use proptest::sample::Index;

use super::crash::{Actor, fates, life};
use super::*;

/// What a disk may have behind the last byte that was written.
#[derive(Debug, Clone, Copy)]
enum Tail {
    /// All was written.
    Whole,
    /// The log ends early: what it had there was on its way.
    Cut(Index),
    /// Blocks were added to the log, and what belongs into them did not come.
    Zeros(Index),
}

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![
        Just(Tail::Whole),
        any::<Index>().prop_map(Tail::Cut),
        any::<Index>().prop_map(Tail::Zeros),
    ]
}

impl Lab {
    /// What another boot finds of this state.
    fn after_power_loss(&self, tail: Tail) -> Self {
        let copy = Self::new();
        let [from, to] = [self, &copy].map(|lab| lab.home.path().join(".matchlock"));
        fs::create_dir_all(to.join("vms")).expect("mkdir");
        for entry in fs::read_dir(from.join("vms")).into_iter().flatten().flatten() {
            fs::create_dir(to.join("vms").join(entry.file_name())).expect("mkdir");
        }
        // Not the index of the log, which is memory.
        fs::copy(from.join("state.db"), to.join("state.db")).expect("a database");
        let mut log = fs::read(from.join("state.db-wal")).expect("a log");
        match tail {
            Tail::Whole => {}
            Tail::Cut(at) => log.truncate(at.index(log.len() + 1)),
            Tail::Zeros(at) => {
                let (at, length) = (at.index(log.len() + 1), log.len());
                log.truncate(at);
                log.resize(length, 0);
            }
        }
        fs::write(to.join("state.db-wal"), log).expect("written");
        copy.reboot();
        copy
    }

    /// Processes of an earlier boot have ended, whoever has their numbers now.
    fn reboot(&self) {
        for (table, column) in [("vms", "owner_json"), ("resources", "json")] {
            let update = format!(
                "UPDATE {table} SET {column} = json_set({column}, '$.boot_id', 'the last one')
                WHERE {column} <> 'null'"
            );
            self.state.write(|t| Ok(t.execute(&update, [])?)).expect("another boot");
        }
    }
}

/// What must hold whatever was lost.
fn is_in_order(lab: &Lab) -> Result<(), TestCaseError> {
    for _ in 0..2 {
        lab.elsewhere().sweep().expect("sweep");
    }
    let integrity: String = lab
        .state
        .read(|d| Ok(d.query_row("PRAGMA integrity_check", [], |row| row.get(0))?))
        .expect("a database");
    prop_assert_eq!(integrity, "ok");
    for record in lab.state.list().expect("list") {
        prop_assert_ne!(record.status, SandboxStatus::Running, "{:?}", record);
        prop_assert!(record.ending.is_some(), "it has a cause: {:?}", record);
        if record.config["start"].is_null() {
            prop_assert_eq!(lab.held(&record.id), 0);
            prop_assert!(!lab.state.directory_of(&record.id).exists());
        } else {
            prop_assert_eq!(lab.held(&record.id), 2, "its disk and its directory");
        }
        let phases = lab.phases(&record.id);
        let stages: Vec<_> =
            phases.iter().map(|word| Stage::of_word(word).expect("a word")).collect();
        prop_assert!(stages.windows(2).all(|two| two[0].may_become(two[1])), "{:?}", phases);
        prop_assert_eq!(phases.last().map(String::as_str), Some("cleaned"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_state_whose_power_went_at_any_moment_is_put_in_order_by_the_next_boot(
        lives in proptest::collection::vec((0..fates().len(), any::<bool>()), 1..4),
        moments in proptest::collection::vec((any::<Index>(), tail()), 1..5),
    ) {
        let lab = Lab::new();
        let fates = fates();
        let mut actors: Vec<_> = lives.iter().map(|_| Actor::new(&lab)).collect();
        let steps: Vec<_> = lives.iter().enumerate().flat_map(|(at, (fate, recorded))| {
            life(&fates[*fate], *recorded).into_iter().map(move |step| (at, step))
        }).collect();
        let moments: Vec<_> =
            moments.into_iter().map(|(moment, tail)| (moment.index(steps.len()), tail)).collect();
        for (number, (actor, step)) in steps.into_iter().enumerate() {
            actors[actor].take(step);
            for (_, tail) in moments.iter().filter(|(moment, _)| *moment == number) {
                let known = lab.state.list().expect("list").len();
                let copy = lab.after_power_loss(*tail);
                if matches!(tail, Tail::Whole) {
                    prop_assert_eq!(copy.state.list().expect("list").len(), known);
                }
                is_in_order(&copy)?;
            }
        }
        // Nobody took them for processes of the boot that is over.
        for actor in &mut actors {
            prop_assert!(actor.monitor_lives(), "a monitor of another boot was killed");
        }
    }
}
