//! From parameters to a description, and what is refused on the way.

use super::*;

const CANARY: &str = "canary-7d02";

fn plan_of(json: &str) -> Result<Plan, RpcError> {
    let params = serde_json::from_str(json).expect("parameters");
    Plan::new(params, DefaultEgress::Deny, &Bounds::default())
}

fn plan(json: &str) -> Plan {
    plan_of(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn refused(json: &str) -> (i64, String, String) {
    let error = plan_of(json).err().unwrap_or_else(|| panic!("{json} was accepted"));
    let field = error.data.as_ref().and_then(|data| data.field.clone()).unwrap_or_default();
    (error.code.number(), field, error.message)
}

#[test]
fn what_is_not_said_is_the_default_of_the_wire_and_the_network_is_sealed() {
    let plan = plan(r#"{"image":"alpine"}"#);
    let SandboxSpec { cpus, memory, disk, network, .. } = &plan.spec;
    assert_eq!(*cpus, Cpus::new(1.0, host_cpus()).expect("valid"));
    assert_eq!((memory.mib(), disk.bytes()), (512, 5120 << 20));
    let network = network.as_ref().expect("a network");
    assert_eq!(network.default_egress, DefaultEgress::Deny);
    assert!(network.allowed_hosts.is_empty() && network.private.is_empty() && !network.intercept);
    let lifetime = Lifetime { recorded: true, ..Lifetime::default() };
    assert_eq!(plan.spec.lifetime, lifetime, "its time ends nothing");
}

#[test]
fn all_that_the_sdk_sends_has_its_place() {
    let plan = plan(&format!(
        r#"{{"image":"a","kernel":{{"ref":"file:///k"}},"privileged":true,"launch_entrypoint":true,
        "resources":{{"cpus":0.5,"memory_mb":64,"disk_size_mb":100}},
        "network":{{"allowed_hosts":["a.example.com"],"block_private_ips":false,"mtu":1400,
          "add_hosts":[{{"host":"db.internal","ip":"10.0.0.5"}}],"dns_servers":["1.1.1.1","::1"],
          "hostname":"box","intercept":false,
          "interception":{{"rules":[{{"action":"block","hosts":["x.example.com"],"phase":"before"}},
             {{"callback_id":"network_hook_2","hosts":null}}],"callback_socket":"/s"}},
          "secrets":{{"KEY":{{"value":"{CANARY}","hosts":["api.example.com"],"placeholder":"PLACEHOLDER_0123456789"}}}}}},
        "env":{{"A":"b"}},"vfs":{{}},
        "extra_disks":[{{"host_path":"/d.ext4","guest_mount":"/data","owner_uid":7}}],
        "image_config":{{"user":"web","cmd":["x"]}}}}"#
    ));
    let network = plan.spec.network.as_ref().expect("a network");
    assert_eq!(network.private.len(), 1, "private addresses were opened");
    assert!(network.intercept && network.secrets.len() == 1 && network.dns_servers.len() == 2);
    assert_eq!(network.secrets[0].placeholder, "PLACEHOLDER_0123456789");
    assert_eq!(plan.spec.hosts.len(), 1);
    assert_eq!(plan.spec.disks[0].owner, Some((7, 0)));
    assert_eq!(plan.spec.env, [(b"A".to_vec(), b"b".to_vec())]);
    assert!(!plan.rules.is_empty() && plan.callback_socket == Some("/s".into()));
    assert_eq!((plan.kernel.as_deref(), plan.launch), (Some("file:///k"), true));
    assert!(!format!("{plan:?}").contains(CANARY));
}

#[test]
fn a_network_without_a_network_has_no_device() {
    let plan = plan(r#"{"image":"a","network":{"no_network":true,"dns_servers":["1.1.1.1"]}}"#);
    assert!(plan.spec.network.is_none());
}

#[test]
fn what_is_not_done_yet_is_refused_by_its_name() {
    for (json, field) in [
        (r#""vfs":{"workspace":"/w","mounts":{"/w":{"type":"memory"}}}"#, "vfs.mounts"),
        (r#""vfs":{"direct_mounts":{"/w":{}}}"#, "vfs.direct_mounts"),
        (r#""network":{"policy_script":"x"}"#, "network.policy_script"),
    ] {
        let (code, named, text) = refused(&format!(r#"{{"image":"a",{json}}}"#));
        assert_eq!((code, named.as_str()), (-32602, field));
        assert!(text.starts_with("invalid configuration: ") && text.contains(field), "{text}");
    }
    for json in [
        r#""vfs":null"#,
        r#""vfs":{"workspace":"","mounts":{},"direct_mounts":{}}"#,
        r#""network":{"policy_script":""}"#,
    ] {
        plan(&format!(r#"{{"image":"a",{json}}}"#));
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_field() {
    for (json, code, field) in [
        (r#""resources":{"cpus":1e9}"#, -32000, "resources.cpus"),
        (r#""resources":{"memory_mb":1}"#, -32602, "resources.memory_mb"),
        (r#""resources":{"memory_mb":999999999}"#, -32000, "resources.memory_mb"),
        (r#""resources":{"disk_size_mb":999999999999}"#, -32602, "resources.disk_size_mb"),
        (r#""network":{"hostname":"a b"}"#, -32602, "network.hostname"),
        (r#""network":{"mtu":1}"#, -32602, "network.mtu"),
        (r#""network":{"allowed_hosts":["ok","a b"]}"#, -32602, "network.allowed_hosts[1]"),
        (r#""network":{"dns_servers":["x"]}"#, -32602, "network.dns_servers[0]"),
        (r#""network":{"add_hosts":[{"host":"a","ip":"x"}]}"#, -32602, "network.add_hosts[0]"),
        (r#""network":{"secrets":{"K":{"value":"v"}}}"#, -32602, "network.secrets.K.hosts"),
        (r#""network":{"secrets":{"K":{"value":"","hosts":["a"]}}}"#, -32602, "network.secrets.K"),
        (
            r#""network":{"interception":{"rules":[{"hosts":["a b"]}]}}"#,
            -32602,
            "network.interception.rules[0]",
        ),
        (
            r#""network":{"interception":{"rules":[{"callback_id":"x"}]}}"#,
            -32602,
            "network.interception.rules[0]",
        ),
        (
            r#""network":{"interception":{"callback_socket":"relative"}}"#,
            -32602,
            "network.interception.callback_socket",
        ),
        (r#""env":{"A=B":"x"}"#, -32602, "env"),
        (r#""env":{"A":"\u0000"}"#, -32602, "env"),
        (r#""extra_disks":[{"host_path":"d","guest_mount":"/d"}]"#, -32000, "extra_disks[0]"),
        (r#""extra_disks":[{"host_path":"/d","guest_mount":"d"}]"#, -32000, "extra_disks[0]"),
    ] {
        let (number, named, text) = refused(&format!(r#"{{"image":"a",{json}}}"#));
        assert_eq!((number, named.as_str()), (code, field), "{json}: {text}");
    }
}

#[test]
fn no_refusal_holds_a_value() {
    for json in [
        format!(r#""secrets":{{"K":{{"value":"{CANARY}"}}}}"#),
        format!(r#""secrets":{{"K":{{"value":"{CANARY}\n","hosts":["a"]}}}}"#),
        format!(r#""secrets":{{"K K":{{"value":"{CANARY}","hosts":["a"]}}}}"#),
        format!(r#""secrets":{{"K":{{"value":"{CANARY}","hosts":["a b"]}}}}"#),
        format!(r#""secrets":{{"K":{{"value":"{CANARY}","hosts":["a"],"placeholder":""}}}}"#),
        format!(r#""interception":{{"rules":[{{"set_headers":{{"X":["{CANARY}"]}}}}]}}"#),
        format!(r#""interception":{{"rules":[{{"set_headers":{{"X Y":"{CANARY}"}}}}]}}"#),
    ] {
        let (_, _, text) = refused(&format!(r#"{{"image":"a","network":{{{json}}}}}"#));
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn lists_are_bounded() {
    let many = vec!["\"a\""; MAX_ENTRIES + 1].join(",");
    let json = format!(r#"{{"image":"a","network":{{"allowed_hosts":[{many}]}}}}"#);
    assert_eq!(refused(&json).1, "network.allowed_hosts");
}
