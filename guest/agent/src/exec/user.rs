//! Users and groups: `name`, `uid`, `uid:gid`, `name:group`, from the guest's own files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::environment::excerpt;

/// Larger account files are cut here; no distribution comes near.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one included.
    pub groups: Vec<u32>,
    /// Home directory of the account; `/` for a number without one.
    pub home: Vec<u8>,
}

/// The account files of the guest.
#[derive(Debug, Default)]
pub struct Accounts {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl Accounts {
    /// Reads `/etc/passwd` and `/etc/group` beneath `root`; a missing file is an empty one.
    ///
    /// # Errors
    /// Any other failure to read.
    pub fn read(root: &Path) -> io::Result<Self> {
        Ok(Self {
            passwd: read_bounded(&root.join("etc/passwd"))?,
            group: read_bounded(&root.join("etc/group"))?,
        })
    }

    /// Accounts from the texts of the two files.
    #[must_use]
    pub fn new(passwd: &[u8], group: &[u8]) -> Self {
        Self { passwd: passwd.to_vec(), group: group.to_vec() }
    }

    /// Resolves a user specification; an empty user part is root.
    ///
    /// # Errors
    /// A text for the user when a name is unknown or a number is none.
    pub fn resolve(&self, spec: &str) -> Result<Identity, String> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (spec, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let account = self.account(user);
        let uid = match account {
            Some(account) => account.uid,
            None if user == "root" => 0,
            None => number(user)
                .ok_or_else(|| format!("no user {:?} in /etc/passwd", excerpt(user.as_bytes())))?,
        };
        let home = account.map_or(&b"/"[..], |a| if a.home.is_empty() { b"/" } else { a.home });
        let gid = match group {
            Some(group) => self.group(group)?,
            None => account.map_or(uid, |account| account.gid),
        };
        let mut groups = vec![gid];
        if let (None, Some(account)) = (group, account) {
            groups.extend(self.memberships(account.name).filter(|&g| g != gid));
        }
        Ok(Identity { uid, gid, groups, home: home.to_vec() })
    }

    /// By name first: a name may consist of digits.
    fn account(&self, user: &str) -> Option<Account<'_>> {
        let by_name = self.accounts().find(|account| account.name == user.as_bytes());
        by_name.or_else(|| {
            let uid = number(user)?;
            self.accounts().find(|account| account.uid == uid)
        })
    }

    fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        lines(&self.passwd).filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            let name = fields.next()?;
            let uid = parse(fields.nth(1)?)?;
            let gid = parse(fields.next()?)?;
            Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
        })
    }

    fn group(&self, group: &str) -> Result<u32, String> {
        let by_name = self.groups().find(|(name, _, _)| *name == group.as_bytes());
        by_name
            .map(|(_, gid, _)| gid)
            .or_else(|| number(group))
            .ok_or_else(|| format!("no group {:?} in /etc/group", excerpt(group.as_bytes())))
    }

    fn groups(&self) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
        lines(&self.group).filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            let name = fields.next()?;
            let gid = parse(fields.nth(1)?)?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }

    fn memberships(&self, user: &[u8]) -> impl Iterator<Item = u32> {
        self.groups()
            .filter(move |(_, _, members)| members.split(|&byte| byte == b',').any(|m| m == user))
            .map(|(_, gid, _)| gid)
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_FILE).read_to_end(&mut text).map(|_| text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(text),
        Err(error) => Err(error),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn parse(field: &[u8]) -> Option<u32> {
    number(OsStr::from_bytes(field).to_str()?)
}

/// A decimal id without sign; the highest one means "no change" to the kernel and is none.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id| digits && id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accounts() -> Accounts {
        Accounts::new(
            b"root:x:0:0:root:/root:/bin/sh\n\
              # a comment\n\
              broken:x:abc:1::/:\n\
              alice:x:1000:100:Alice:/home/alice:/bin/sh\r\n\
              12:x:77:78::/numeric:\n\
              nohome:x:55:56",
            b"root:x:0:\nusers:x:100:\nwheel:x:10:root,alice\ndocker:x:999:alice\n\
              users2:x:100:alice\nempty:x\n",
        )
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity { uid, gid, groups: groups.to_vec(), home: home.into() }
    }

    #[test]
    fn resolves_the_forms_of_the_contract() {
        let cases = [
            ("", identity(0, 0, &[0, 10], "/root")),
            ("root", identity(0, 0, &[0, 10], "/root")),
            ("alice", identity(1000, 100, &[100, 10, 999], "/home/alice")),
            ("1000", identity(1000, 100, &[100, 10, 999], "/home/alice")),
            ("1000:5", identity(1000, 5, &[5], "/home/alice")),
            ("alice:wheel", identity(1000, 10, &[10], "/home/alice")),
            (":docker", identity(0, 999, &[999], "/root")),
            ("4242", identity(4242, 4242, &[4242], "/")),
            ("4242:7", identity(4242, 7, &[7], "/")),
            ("12", identity(77, 78, &[78], "/numeric")),
            ("nohome", identity(55, 56, &[56], "/")),
        ];
        for (spec, expected) in cases {
            assert_eq!(accounts().resolve(spec), Ok(expected), "{spec:?}");
        }
    }

    #[test]
    fn refuses_unknown_names_and_impossible_numbers() {
        for spec in ["bob", "broken", "-1", "+1", "4294967295", "99999999999", "alice:", "alice:no"]
        {
            assert!(accounts().resolve(spec).is_err(), "{spec:?}");
        }
        assert_eq!(accounts().resolve("bob"), Err("no user \"bob\" in /etc/passwd".into()));
    }

    #[test]
    fn works_without_any_file() {
        let none = Accounts::read(Path::new("/nonexistent")).expect("missing files are empty");
        assert_eq!(none.resolve(""), Ok(identity(0, 0, &[0], "/")));
        assert!(none.resolve("root").is_ok(), "root needs no entry");
    }

    proptest! {
        #[test]
        fn any_files_and_any_specification_are_survived(
            passwd in proptest::collection::vec(any::<u8>(), 0..300),
            group in "[a-c:,0-9\n]{0,200}",
            spec in "\\PC{0,12}",
        ) {
            let _any_answer = Accounts::new(&passwd, group.as_bytes()).resolve(&spec);
        }
    }
}
