//! Browsers, which have roots of their own: a policy of the machine's administrator adds to them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::AUTHORITY;
use crate::authority::Authority;
use crate::console;

/// Chromium, Chrome, and Chrome for tests: every file in these directories counts.
const CHROMIUM: [&str; 3] = [
    "etc/chromium/policies/managed",
    "etc/opt/chrome/policies/managed",
    "etc/opt/chrome_for_testing/policies/managed",
];

/// Firefox has one file.
const FIREFOX: &str = "etc/firefox/policies";

pub(super) fn install(root: &Path, authority: &Authority) {
    let chromium = format!("{{\"CACertificates\": [\"{}\"]}}\n", authority.base64());
    for directory in CHROMIUM {
        let written = create(&root.join(directory), "matchlock.json", &chromium);
        console::optional("tell Chromium of the authority", written);
    }
    let firefox =
        format!("{{\"policies\": {{\"Certificates\": {{\"Install\": [\"{AUTHORITY}\"]}}}}}}\n");
    let written = create(&root.join(FIREFOX), "policies.json", &firefox);
    console::optional("tell Firefox of the authority", written);
}

/// Leaves a file of the image as it is.
fn create(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(directory.join(name))?;
    file.write_all(text.as_bytes())
}
