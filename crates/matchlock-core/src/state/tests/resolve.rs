//! Which sandbox is meant.

use super::super::resolve::resolve;
use super::super::{SandboxRecord, SandboxStatus, StateError};

fn record(id: &str, name: Option<&str>, status: SandboxStatus) -> SandboxRecord {
    SandboxRecord {
        id: id.parse().expect("an id"),
        name: name.map(str::to_owned),
        pid: 0,
        status,
        image: "host".into(),
        created_at: String::new(),
        updated_at: String::new(),
        starts: 1,
        started_at: String::new(),
        config: serde_json::Value::Null,
        ending: None,
        owner: None,
    }
}

#[test]
fn an_id_a_name_or_the_beginning_of_an_id() {
    use SandboxStatus::{Crashed, Running, Stopped};
    let all = [
        record("vm-0123abcd", Some("web"), Running),
        record("vm-0123ffff", Some("web"), Stopped),
        record("vm-aaaa0000", Some("old"), Stopped),
        record("vm-aaaa1111", Some("old"), Crashed),
        record("vm-bbbb0000", Some("aaaa"), Stopped),
        record("vm-cccc0000", None, Running),
    ];
    let found = |wanted| resolve(wanted, &all).map(|record| record.id.to_string());
    let cases = [
        ("vm-0123ffff", "vm-0123ffff"),
        ("web", "vm-0123abcd"),
        ("vm-0123a", "vm-0123abcd"),
        ("0123a", "vm-0123abcd"),
        ("c", "vm-cccc0000"),
        // A name before the beginning of an id.
        ("aaaa", "vm-bbbb0000"),
    ];
    for (wanted, id) in cases {
        assert_eq!(found(wanted).expect(wanted), id, "{wanted}");
    }
    for (wanted, several) in [("old", 2), ("vm-", 5), ("0123", 2)] {
        let error = found(wanted).expect_err(wanted);
        assert!(matches!(&error, StateError::Several { found, .. } if found.len() == several));
    }
    let says = found("0123").expect_err("two").to_string();
    assert_eq!(says, "VM 0123 could be several: vm-0123abcd, vm-0123ffff");
    for wanted in ["", "we", "d", "vm-0123abcde", "VM-0123ABCD"] {
        let error = found(wanted).expect_err(wanted);
        assert_eq!(error.to_string(), format!("VM {wanted} not found"));
    }
}
