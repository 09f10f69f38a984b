//! What the harnesses of the end-to-end tests have in common; the tests are in the test targets.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Instant;

use libtest_mimic::Trial;
use matchlock_testkit::CASE_TIMES;

/// A case as the harness runs it: named after its module and its function, and with its time recorded
/// where somebody asks for that.
pub fn trial(module: &str, name: &str, case: impl FnOnce() + Send + 'static) -> Trial {
    let module = module.rsplit("::").next().unwrap_or_default();
    let name = format!("{module}::{name}");
    let clock_name = name.clone();
    Trial::test(name, move || {
        let _clock = Clock { name: clock_name, start: Instant::now() };
        case();
        Ok(())
    })
}

/// Records the time of a case that has run, however it ends.
#[derive(Debug)]
struct Clock {
    name: String,
    start: Instant,
}

impl Drop for Clock {
    fn drop(&mut self) {
        let Some(file) = std::env::var_os(CASE_TIMES) else { return };
        let suite = std::env::current_exe().unwrap_or_default();
        let suite = suite.file_stem().unwrap_or_default().to_string_lossy();
        let suite = suite.rsplit_once('-').map_or(&*suite, |(suite, _hash)| suite);
        let line = format!("{:.3} {suite}::{}\n", self.start.elapsed().as_secs_f64(), self.name);
        if let Ok(mut file) = OpenOptions::new().append(true).open(file) {
            file.write_all(line.as_bytes()).unwrap_or_default();
        }
    }
}
