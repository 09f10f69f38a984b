//! Host name, `/etc/hosts`, `/etc/resolv.conf`.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;

use matchlock_proto::{BootConfig, BootStep, HostEntry};
use rustix::fs::{Mode, OFlags, open, unlink};
use rustix::io::Errno;

use super::mounts::directory;
use super::{Required, StepFailed};

/// Sets the name and writes the files.
pub(super) fn write(config: &BootConfig) -> Result<(), StepFailed> {
    let step = BootStep::Identity;
    rustix::system::sethostname(config.hostname.as_bytes()).required(step, "set the host name")?;
    directory("/etc", 0o755).required(step, "create /etc")?;
    let files = [
        ("/etc/hostname", format!("{}\n", config.hostname)),
        ("/etc/hosts", hosts(&config.hostname, &config.hosts)),
        ("/etc/resolv.conf", resolv_conf(&config.dns_servers)),
    ];
    for (path, text) in files {
        replace(path, &text).required(step, format_args!("write {path}"))?;
    }
    Ok(())
}

/// The text of `/etc/hosts`.
#[must_use]
pub fn hosts(hostname: &str, entries: &[HostEntry]) -> String {
    let mut text = format!("127.0.0.1 localhost localhost.localdomain {hostname}\n");
    for HostEntry { ip, name } in entries {
        let _infallible = writeln!(text, "{ip} {name}");
    }
    text.push_str("::1 localhost ip6-localhost ip6-loopback\n");
    text.push_str("ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n");
    text
}

/// The text of `/etc/resolv.conf`.
#[must_use]
pub fn resolv_conf(servers: &[IpAddr]) -> String {
    servers.iter().map(|server| format!("nameserver {server}\n")).collect()
}

/// Writes a new file: an image may have a link of that name, to anywhere.
fn replace(path: &str, text: &str) -> io::Result<()> {
    match unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::from_raw_mode(0o644))?;
    io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_has_the_format_of_the_contract() {
        let entry = |ip: &str, name: &str| HostEntry {
            ip: ip.parse().expect("an address"),
            name: name.into(),
        };
        let text = hosts("box", &[entry("10.0.0.1", "db"), entry("fd00::1", "six")]);
        assert_eq!(
            text,
            "127.0.0.1 localhost localhost.localdomain box\n\
             10.0.0.1 db\n\
             fd00::1 six\n\
             ::1 localhost ip6-localhost ip6-loopback\n\
             ff02::1 ip6-allnodes\n\
             ff02::2 ip6-allrouters\n"
        );
    }

    #[test]
    fn resolv_conf_is_nameserver_lines_and_empty_without_servers() {
        let servers = ["192.168.1.1", "fd00::53"].map(|ip| ip.parse().expect("an address"));
        assert_eq!(resolv_conf(&servers), "nameserver 192.168.1.1\nnameserver fd00::53\n");
        assert_eq!(resolv_conf(&[]), "");
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        std::fs::write(&target, "untouched").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        replace(link.to_str().expect("UTF-8"), "new").expect("replaced");
        assert_eq!(std::fs::read_to_string(&target).expect("read"), "untouched");
        assert_eq!(std::fs::read_to_string(&link).expect("read"), "new");
    }
}
