//! No test sleeps, and none judges by the time that something took.
//!
//! Both say on a busy machine what is not so. A test waits for what it needs to have happened, for as
//! long as `wait_until` and the other bounded waits of the testkit let it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What is looked for.
const NEEDLES: &[&str] = &[
    "thread::sleep(",
    "time::sleep(",
    "park_timeout(",
    ".elapsed()",
    " time.sleep(",
    // What something took. A deadline is on the other side of the minus.
    "time.monotonic() - ",
];

/// Files that may, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("crates/matchlock-testkit/src/origin.rs", "a server that answers slowly when it is asked to"),
    (
        "crates/matchlock-net/src/stack/tests/guest.py",
        "measures the stack where somebody asks for that; nothing is judged by it",
    ),
    (
        "crates/matchlock-testkit/src/wait.rs",
        "the one bounded wait: it looks every few milliseconds",
    ),
    (
        "tests/guest/cpu_limit.rs",
        "the share of a processor is what is tested, on the guest's clocks",
    ),
    ("tests/lib.rs", "records the time of each case; nothing is judged by it"),
    ("tests/network/leaks.rs", "sends in parts; what is asserted holds however they arrive"),
    (
        "tests/network/sealed.rs",
        "tries again until the network has recovered, for a bounded number",
    ),
    ("tests/sdk/scenario.py", "the bounded wait of a script that has no testkit"),
    ("xtask/src/check/time.rs", "names what it looks for"),
];

pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in files {
        let name = file.to_string_lossy();
        let Some(part) = part(&name).filter(|_| !is_allowed(&name)) else { continue };
        let text = fs::read_to_string(root.join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let lines = found(&text, part).into_iter();
        findings.extend(lines.map(|(line, needle)| format!("{name}:{line}: a test with {needle}")));
    }
    Ok(findings)
}

/// How much of a file is test code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    /// Its module that is compiled for tests only, which is at its end.
    Unit,
}

fn part(name: &str) -> Option<Part> {
    let is_rust = name.ends_with(".rs");
    if !is_rust && !name.ends_with(".py") {
        return None;
    }
    let is_test = name.starts_with("tests/")
        || name.starts_with("crates/matchlock-testkit/")
        || name.contains("/tests/")
        || name.ends_with("/tests.rs");
    match (is_test, is_rust) {
        (true, _) => Some(Part::All),
        (false, true) => Some(Part::Unit),
        (false, false) => None,
    }
}

fn is_allowed(name: &str) -> bool {
    ALLOWED.iter().any(|(file, _why)| *file == name)
}

/// Numbers of the lines, and what is in them.
fn found(text: &str, part: Part) -> Vec<(usize, &'static str)> {
    let mut is_test = part == Part::All;
    let mut found = Vec::new();
    let mut is_marked = false;
    for (number, line) in (1..).zip(text.lines()) {
        is_test |= is_marked && line.starts_with("mod ");
        is_marked = line.starts_with("#[cfg(test)]");
        if is_test && !line.trim_start().starts_with("//") {
            let line = format!(" {line}");
            found.extend(
                NEEDLES.iter().filter(|needle| line.contains(**needle)).map(|n| (number, *n)),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_and_judged_times_of_tests_are_found() {
        let text = "std::thread::sleep(x);\n#[cfg(test)]\nmod tests {\n    \
                    tokio::time::sleep(x);\n    // start.elapsed()\n    a < start.elapsed()\n}";
        assert_eq!(found(text, Part::Unit), [(4, "time::sleep("), (6, ".elapsed()")]);
        assert_eq!(found(text, Part::All).len(), 3);
        assert_eq!(found("time.sleep(1)", Part::All), [(1, " time.sleep(")]);
        let judged = "assert time.monotonic() - start < 5";
        assert_eq!(found(judged, Part::All), [(1, "time.monotonic() - ")]);
        assert_eq!(found("left = end - time.monotonic()", Part::All), []);
    }

    #[test]
    fn test_code_is_told_by_its_place() {
        assert_eq!(part("tests/cli/main.rs"), Some(Part::All));
        assert_eq!(part("crates/x/src/y/tests.rs"), Some(Part::All));
        assert_eq!(part("crates/x/tests/guest.py"), Some(Part::All));
        assert_eq!(part("crates/x/src/y.rs"), Some(Part::Unit));
        assert_eq!(part("docs/x.md"), None);
    }
}
