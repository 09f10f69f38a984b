//! A description is written and read again without a loss, and without a secret.

use std::num::NonZeroU16;

use matchlock_policy::{SecretSpec, Secrets};

use super::*;
use crate::values::Mtu;

const CANARY: &str = "canary-41d7";

fn values() -> SecretValues {
    let secret = SecretSpec::from_parts("API_KEY", CANARY.to_owned(), &["api.example.com"]);
    Secrets::new(vec![secret.expect("valid")], &mut || [7; 16]).expect("valid").into()
}

fn spec() -> SandboxSpec {
    let disk = DiskSpec {
        source: DiskSource::Volume("data".parse().expect("a name")),
        target: "/data".parse().expect("a directory"),
        access: Access::ReadWrite,
        owner: Some((1, 2)),
    };
    SandboxSpec {
        name: Some("web".parse().expect("valid")),
        image: ImageSpec::Host,
        cpus: Cpus::new(0.5, 1).expect("valid"),
        memory: MemorySize::new(512, 512).expect("valid"),
        disk: DiskSize::new(64).expect("valid"),
        disks: vec![disk],
        export: false,
        hostname: Some("box".parse().expect("valid")),
        confinement: ConfinementSpec::default(),
        limits: Limits::default(),
        env: vec![(b"TEXT".to_vec(), b"word".to_vec()), (b"BYTES".to_vec(), b"\xff\x00".to_vec())],
        hosts: vec![("db.example.com".parse().expect("a name"), [10, 0, 0, 5].into())],
        network: Some(NetworkSpec {
            allowed_hosts: vec!["*.example.org".parse().expect("a pattern")],
            private: vec!["10.0.0.0/8".parse().expect("a range")],
            mtu: Mtu::new(1400).expect("valid"),
            secrets: values().rules(),
            ..NetworkSpec::default()
        }),
        audit_log: None,
        start: Some(StartSpec {
            command: Some(CommandSpec {
                argv: vec![b"sh".to_vec(), b"\xff".to_vec()],
                env: vec![(b"TERM".to_vec(), b"vt220".to_vec())],
                working_dir: vec![b"/srv".to_vec()],
                user: Some("web".to_owned()),
            }),
            ports: vec![(NonZeroU16::MIN, NonZeroU16::MAX)],
            addresses: vec![[127, 0, 0, 1].into()],
            kernel: Some("/boot/vmlinux".into()),
        }),
        lifetime: Lifetime { limit: Some(Duration::from_millis(1500)), ..Lifetime::default() },
    }
}

#[test]
fn a_description_is_read_as_it_was_written_and_holds_no_secret() {
    let json = serde_json::to_string(&spec()).expect("JSON");
    assert_eq!(serde_json::from_str::<SandboxSpec>(&json).expect("a description"), spec());
    let debug = format!("{:?} {:?}", spec(), values());
    assert!(!json.contains(CANARY) && !debug.contains(CANARY));
    assert!(json.contains("API_KEY") && debug.contains("API_KEY"));
}

#[test]
fn what_is_read_is_checked_like_what_is_given() {
    let json = serde_json::to_value(spec()).expect("JSON");
    let bad = [
        ("cpus", serde_json::json!(-1.0)),
        ("memory", serde_json::json!(1)),
        ("disk", serde_json::json!(0)),
        ("hostname", serde_json::json!("a b")),
        ("name", serde_json::json!("a b")),
        ("image", serde_json::json!("other")),
        ("hosts", serde_json::json!([["a b", "1.2.3.4"]])),
        ("unknown", serde_json::json!(1)),
    ];
    for (field, value) in bad {
        let mut json = json.clone();
        json[field] = value;
        assert!(serde_json::from_value::<SandboxSpec>(json).is_err(), "{field}");
    }
}

#[test]
fn attachments_of_another_description_are_refused() {
    let alone = |spec: &SandboxSpec| spec.check(&Attachments::default());
    assert_eq!(alone(&spec()), Err(InvalidConfig::Unattached("disks")));
    let no_disks = SandboxSpec { disks: Vec::new(), ..spec() };
    assert_eq!(alone(&no_disks), Err(InvalidConfig::Unattached("network.secrets")));
    let with = Attachments { secrets: values(), ..Attachments::default() };
    assert_eq!(no_disks.check(&with), Ok(()));
    let offline = SandboxSpec { network: None, ..no_disks };
    assert_eq!(offline.check(&with), Err(InvalidConfig::Unattached("network.secrets")));
}
