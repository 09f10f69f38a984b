//! What a sandbox or a pull may leave behind: processes, files, directories.

use std::fs;
use std::path::Path;

/// Everything that still belongs to the sandboxes of `home`, one line each; empty is what it should
/// be once they have ended.
///
/// A process belongs to them when `home` is in its environment or when it holds a file below it
/// open, named or not: the monitor's disk has no name and its environment is empty.
#[must_use]
pub fn leaks(home: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home.join(".matchlock/vms")).into_iter().flatten().flatten() {
        found.push(format!("file {}", entry.path().display()));
    }
    // Downloads that are not whole, and what pulls hold while they run. Whoever tests an end that
    // leaves such has to show that the next command does away with it.
    for directory in ["ingest", "leases"] {
        let directory = home.join(".cache/matchlock/images").join(directory);
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            found.push(format!("file {}", entry.path().display()));
        }
    }
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != own && name.bytes().all(|b| b.is_ascii_digit()) {
            let process = entry.path();
            if has_home(&process, home) || holds_file(&process, home) {
                let command = fs::read(process.join("cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                found.push(format!("process {name}: {command}"));
            }
        }
    }
    found
}

fn has_home(process: &Path, home: &Path) -> bool {
    let wanted = format!("HOME={}", home.display());
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment.split(|&b| b == 0).any(|variable| variable == wanted.as_bytes())
}

fn holds_file(process: &Path, home: &Path) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target.starts_with(home))
}
