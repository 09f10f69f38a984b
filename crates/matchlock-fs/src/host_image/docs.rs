//! The tables as a document.

use std::fmt::Write as _;

use super::rows::{MASKS, ROWS, Source};

/// What stands before the tables.
const INTRODUCTION: &str = "\
# The image `host`

<!-- Rendered from crates/matchlock-fs/src/host_image/. To change it, change that, and run
     UPDATE_DOCS=1 cargo test -p matchlock-fs docs -->

`--image host` needs no image: the guest sees the host's own system directories, read-only, beneath an
overlay that takes its writes. Nothing that the guest does changes the host.

## What is never readable

- A file that not everyone on the host may read (its mode lacks `o+r`), even when the invoking user, or
  root, could. A directory without `o+x` is not entered, one without `o+r` is not listed.
- What the invoking user cannot read.
- A file below `/etc` with a private key in it, whatever its name and mode: in PEM (`… PRIVATE KEY-----`), be it
  within JSON, YAML or a script, or as a whole in Base64; in the forms of OpenSSH, OpenPGP, PuTTY and age. The
  whole file is searched. One of more than 16 MiB is not searched and therefore not readable.
- Devices, FIFOs and sockets, which are absent.
- What the second table names, in upper or lower case, which is absent with everything below it; and backups of
  it by their name: `NAME~`, `NAME-`, `NAME.bak`, `NAME.old`, `NAME.dpkg-old`, `NAME.1`, `.NAME.swp` and the like.
- Other file systems mounted inside a served directory: they are empty directories. A served directory may
  itself be a mount.

A file that is not readable can still be seen: its name, size and owner. Reading it fails with `EACCES`. Where
the image is the only thing that a connection serves, the guest's kernel is told not to ask before it opens a
file, so it is then the first read that fails and not the open.

## What is different from the host

- Names, attributes and contents are believed for one hour, absent names too. What a package manager of
  the host changes meanwhile may be seen late, and a file that it replaced may be stale (`ESTALE`) for a
  program that still has the old one open. This is the price of a fast start: each question that the guest
  need not ask saves a switch between the machines.
- Extended attributes are not served, so file capabilities (`security.capability`) have no effect. Set-user-id
  bits, owners and groups are the host's.
- A program that may be executed but not read by everyone (`--x` for others) cannot be executed.
- Symbolic links are the guest's to resolve: one that leads out of the served directories dangles.
- `/etc/apt/sources.list*` is served where everyone may read it. A password in a URL there is for every user of
  the host to see, and for the guest too: its place is `/etc/apt/auth.conf`, which is masked.
- A mask is about a name. A masked file that everyone on the host may read, and that has a second name below
  `/etc` (a hard link), is readable by that name if no mask covers it.
- Secrets that everyone on the host may read outside `/etc`, say a token in a file of `/opt`, are readable in
  the guest.
";

/// The text of `docs/host-image.md`.
#[must_use]
pub fn render() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## What is served\n\n| path | from | why |\n|---|---|---|\n");
    for row in ROWS {
        let source = match row.source {
            Source::Host => "the host, if it has it".to_owned(),
            Source::Empty(permissions) => format!("empty directory, {permissions:04o}"),
            Source::Link(target) => format!("link to `{target}`"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{}` | {source} | {} |", row.path, row.reason);
    }
    text.push_str("\n## What is masked\n\n| path | why |\n|---|---|\n");
    for (pattern, reason) in MASKS {
        let _ = writeln!(text, "| `{pattern}` | {reason} |");
    }
    text
}
