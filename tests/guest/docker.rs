//! A container engine in a privileged sandbox.

use matchlock_core::{ConfinementSpec, Cpus, MemorySize, SandboxSpec};

use crate::lab::{Lab, spec};
use crate::run::sh;

cases![a_privileged_sandbox_runs_docker];

/// An image as `docker save` writes it, of the guest's shell and what it needs.
const IMAGE: &str = r#"
import hashlib, io, json, re, subprocess, tarfile
needed = subprocess.check_output(['ldd', '/bin/sh'], text=True)
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode='w', dereference=True) as archive:
    for path in ['/bin/sh', *re.findall(r'(/\S+)', needed)]:
        archive.add(path, path.lstrip('/'))
layer = layer.getvalue()
digest = 'sha256:' + hashlib.sha256(layer).hexdigest()
config = {'architecture': 'amd64', 'os': 'linux', 'config': {'Entrypoint': ['/bin/sh', '-c']},
          'rootfs': {'type': 'layers', 'diff_ids': [digest]}}
manifest = [{'Config': 'config.json', 'RepoTags': ['tiny:1'], 'Layers': ['layer.tar']}]
with tarfile.open('/tmp/tiny.tar', 'w') as archive:
    for name, content in (('layer.tar', layer), ('config.json', json.dumps(config).encode()),
                          ('manifest.json', json.dumps(manifest).encode())):
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
"#;

/// An overlay cannot lie on the overlay that is the root: the engine copies layers (`vfs`) instead.
const SCRIPT: &str = "
    (dockerd --storage-driver=vfs >/tmp/dockerd.log 2>&1 &)
    python3 -ISc \"$IMAGE\" || exit
    until docker version >/dev/null 2>&1; do
        pidof dockerd >/dev/null || break
        sleep 0.1
    done
    docker load --quiet --input /tmp/tiny.tar &&
    docker run --rm tiny:1 'echo process $$; while read name value; do
        case $name in CapEff:|Seccomp:) echo $name $value;; esac
    done </proc/self/status' || tail -n20 /tmp/dockerd.log";

/// With the distribution's packages, its own bridge and its packet filter.
async fn a_privileged_sandbox_runs_docker(lab: &Lab) {
    if !std::path::Path::new("/usr/sbin/dockerd").exists() {
        matchlock_testkit::skip("dockerd is not installed");
        return;
    }
    let wanted = SandboxSpec {
        confinement: ConfinementSpec::privileged(),
        memory: MemorySize::new(1024, 1024).expect("valid"),
        cpus: Cpus::new(2.0, 2).expect("valid"),
        ..spec()
    };
    let sandbox = lab.own(wanted.into()).await.expect("a sandbox");
    let ended = sh(SCRIPT).var("IMAGE", IMAGE).on(&sandbox).await;
    let expected = "Loaded image: tiny:1\nprocess 1\nCapEff: 00000000a80425fb\nSeccomp: 2\n";
    assert_eq!(ended.out(), expected, "{}", ended.err());
    sandbox.end().await;
}
