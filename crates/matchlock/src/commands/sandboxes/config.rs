//! What a sandbox was asked to be, in the keys of the method `create` (contract 2.4).

use std::collections::BTreeMap;
use std::path::Path;

use matchlock_core::volume::Access;
use matchlock_core::{
    ConfinementSpec, DiskSource, DiskSpec, ImageSpec, Level, NetworkSpec, SandboxSpec, ulimit_text,
};
use serde::Serialize;
use serde_json::Value;

/// There is no value of a secret in it, because there is none in a [`SandboxSpec`].
#[derive(Debug, Serialize)]
struct Config<'a> {
    image: &'a str,
    privileged: bool,
    security: Security,
    resources: Resources,
    limits: Limits,
    network: Network<'a>,
    env: BTreeMap<String, String>,
    extra_disks: Vec<Disk<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_log: Option<&'a Path>,
    /// Whether it is still listed after its end.
    recorded: bool,
}

/// What programs may do with the guest's kernel.
#[derive(Debug, Serialize)]
struct Security {
    hardened: bool,
    cap_add: Vec<&'static str>,
    cap_drop: Vec<&'static str>,
    no_new_privileges: bool,
    seccomp: &'static str,
}

/// What programs may take.
#[derive(Debug, Serialize)]
struct Limits {
    ulimits: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shm_size: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Resources {
    cpus: f64,
    memory_mb: u32,
    disk_size_mb: u64,
    /// 0: no limit.
    timeout_seconds: u64,
}

#[derive(Debug, Default, Serialize)]
struct Network<'a> {
    no_network: bool,
    allowed_hosts: Vec<String>,
    add_hosts: Vec<HostIp>,
    block_private_ips: bool,
    allowed_private: Vec<&'a str>,
    intercept: bool,
    secrets: BTreeMap<&'a str, Secret<'a>>,
    dns_servers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<Value>,
}

#[derive(Debug, Serialize)]
struct HostIp {
    host: String,
    ip: String,
}

#[derive(Debug, Serialize)]
struct Secret<'a> {
    placeholder: &'a str,
    hosts: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Disk<'a> {
    host_path: String,
    guest_mount: &'a str,
    readonly: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_gid: Option<u32>,
}

/// The configuration of a sandbox as it is shown. One that another version of matchlock wrote is shown as it
/// was stored.
pub(super) fn shown(stored: &Value) -> Value {
    let spec = serde_json::from_value::<SandboxSpec>(stored.clone());
    let shown = spec.and_then(|spec| serde_json::to_value(Config::of(&spec)));
    shown.unwrap_or_else(|_| stored.clone())
}

impl<'a> Config<'a> {
    fn of(spec: &'a SandboxSpec) -> Self {
        let image = match &spec.image {
            ImageSpec::Stored { reference, .. } => reference,
            _ => "host",
        };
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let limit = spec.lifetime.limit.unwrap_or_default();
        Self {
            image,
            privileged: spec.confinement.is_privileged(),
            security: Security::of(&spec.confinement),
            resources: Resources {
                cpus: spec.cpus.into(),
                memory_mb: spec.memory.mib(),
                disk_size_mb: spec.disk.bytes() >> 20,
                timeout_seconds: limit.as_secs() + u64::from(limit.subsec_nanos() > 0),
            },
            limits: Limits::of(&spec.limits),
            network: Network::of(spec),
            env: spec.env.iter().map(|(name, value)| (text(name), text(value))).collect(),
            extra_disks: spec.disks.iter().map(Disk::of).collect(),
            audit_log: spec.audit_log.as_deref(),
            recorded: spec.lifetime.recorded,
        }
    }
}

impl Security {
    fn of(spec: &ConfinementSpec) -> Self {
        let resolved = spec.resolve();
        let hardened = spec.level == Level::Hardened;
        Self {
            hardened,
            cap_add: spec.cap_add.names(),
            cap_drop: spec.cap_drop.names(),
            no_new_privileges: resolved.no_new_privs,
            seccomp: match (resolved.seccomp, hardened) {
                (false, _) => "unconfined",
                (true, false) => "default",
                (true, true) => "hardened",
            },
        }
    }
}

impl Limits {
    fn of(limits: &matchlock_core::Limits) -> Self {
        let matchlock_core::Limits { ulimits, pids, shm_size } = limits;
        let ulimits = ulimits.iter().map(ulimit_text).collect();
        Self { ulimits, pids: *pids, shm_size: *shm_size }
    }
}

impl<'a> Network<'a> {
    fn of(spec: &'a SandboxSpec) -> Self {
        let host_ip = |(host, ip): &(_, _)| HostIp { host: format!("{host}"), ip: format!("{ip}") };
        let hostname = spec.hostname.as_ref().map(matchlock_core::Hostname::as_str);
        let add_hosts = spec.hosts.iter().map(host_ip).collect();
        let Some(network) = &spec.network else {
            return Self { no_network: true, add_hosts, hostname, ..Self::default() };
        };
        let NetworkSpec { mtu, allowed_hosts, private, intercept, secrets, dns_servers, .. } =
            network;
        Self {
            no_network: false,
            allowed_hosts: allowed_hosts.iter().map(ToString::to_string).collect(),
            add_hosts,
            block_private_ips: private.is_empty(),
            allowed_private: private.iter().map(matchlock_core::PrivateRule::as_str).collect(),
            intercept: *intercept,
            secrets: secrets.iter().map(|secret| (&*secret.name, Secret::of(secret))).collect(),
            dns_servers: dns_servers.iter().map(ToString::to_string).collect(),
            hostname,
            mtu: serde_json::to_value(mtu).ok(),
        }
    }
}

impl<'a> Secret<'a> {
    fn of(secret: &'a matchlock_core::SecretRule) -> Self {
        let hosts = secret.hosts.iter().map(ToString::to_string).collect();
        Self { placeholder: &secret.placeholder, hosts }
    }
}

impl<'a> Disk<'a> {
    fn of(disk: &'a DiskSpec) -> Self {
        let host_path = match &disk.source {
            DiskSource::Volume(name) => format!("@{name}"),
            DiskSource::File(path) => path.to_string_lossy().into_owned(),
            _ => "the cache of builds".to_owned(),
        };
        let (owner_uid, owner_gid) = disk.owner.unzip();
        let readonly = disk.access == Access::ReadOnly;
        Self { host_path, guest_mount: disk.target.as_str(), readonly, owner_uid, owner_gid }
    }
}

#[cfg(test)]
pub(super) fn sample() -> SandboxSpec {
    serde_json::from_value(serde_json::json!({
        "name": "web", "image": "host", "cpus": 0.5, "memory": 64, "disk": 64,
        "disks": [{
            "source": {"volume": "data"}, "target": "/data", "access": "read_write", "owner": [1, 2]
        }],
        "export": false, "hostname": "box", "env": [["NAME", "value"]],
        "confinement": {
            "level": "default", "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"],
            "no_new_privileges": false, "seccomp_unconfined": true
        },
        "limits": {
            "ulimits": [{"resource": "nofile", "soft": 1024, "hard": 2048}], "pids": 100,
            "shm_size": 67_108_864
        },
        "hosts": [["db.example.com", "10.0.0.5"]],
        "network": {
            "mtu": 1500, "allowed_hosts": ["*.example.org"], "default_egress": "deny",
            "private": ["10.0.0.0/8"], "intercept": false,
            "secrets": [{
                "name": "API_KEY", "placeholder": "SANDBOX_SECRET_0", "hosts": ["api.example.com"],
                "body": false, "https_only": true, "scrub": false
            }],
            "dns_servers": ["1.1.1.1:53"], "upstream_ca": []
        },
        "audit_log": "/audit.jsonl",
        "lifetime": {
            "limit": {"secs": 1, "nanos": 500_000_000}, "grace": {"secs": 5, "nanos": 0},
            "keep": false, "recorded": false
        }
    }))
    .expect("a description")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_keys_are_those_of_create() {
        let shown = shown(&serde_json::to_value(sample()).expect("JSON"));
        assert_eq!(shown["env"]["NAME"], "value");
        let resources =
            json!({"cpus": 0.5, "memory_mb": 64, "disk_size_mb": 64, "timeout_seconds": 2});
        assert_eq!(shown["resources"], resources);
        let secrets =
            json!({"API_KEY": {"placeholder": "SANDBOX_SECRET_0", "hosts": ["api.example.com"]}});
        assert_eq!(shown["network"]["secrets"], secrets);
        assert_eq!(
            shown["network"]["add_hosts"],
            json!([{"host": "db.example.com", "ip": "10.0.0.5"}])
        );
        assert_eq!(shown["extra_disks"][0]["host_path"], "@data");
        assert_eq!(shown["privileged"], false);
        assert_eq!(
            shown["security"],
            json!({
                "hardened": false, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"],
                "no_new_privileges": false, "seccomp": "unconfined"
            })
        );
        let limits = json!({"ulimits": ["nofile=1024:2048"], "pids": 100, "shm_size": 67_108_864});
        assert_eq!(shown["limits"], limits);
        let offline =
            serde_json::to_value(SandboxSpec { network: None, ..sample() }).expect("JSON");
        assert_eq!(super::shown(&offline)["network"]["no_network"], true);
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_it_is() {
        let newer = json!({"image": "host", "wings": 2});
        assert_eq!(shown(&newer), newer);
    }
}
