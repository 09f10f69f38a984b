//! Honest programs work through the interception without being told of it, and none of them has the
//! secret that its server gets.

use std::path::Path;
use std::process::Command;

use matchlock_testkit::Finished;
use matchlock_testkit::dns::Reply;
use matchlock_testkit::origin::{Received, Version};
use sha2::{Digest, Sha256};

use crate::lab::{API, EVIL, NetLab, fresh_address};
use crate::machine::Shared;
use crate::servers::{PYTHON, Program};

cases![
    curl_works_with_each_version_of_http,
    curl_sends_a_secret_as_basic_query_and_form,
    pythons_clients_work,
    nodes_clients_work,
    gos_client_works,
    git_clones_and_pushes,
    grpc_calls_and_streams,
    a_websocket_has_the_secret_in_its_handshake_only,
    openssl_and_wget_verify_and_ask,
    many_requests_to_many_names_go_at_once,
];

const SECRET: &str = "sk-live-5f2c81d09a";
const GIT: &str = "git.example.com";

/// A sandbox that has the secret for one host.
fn secret_for(host: &str) -> String {
    format!("API_KEY={SECRET}@{host}")
}

/// A sandbox with the secret for [`API`] that other cases use too.
fn shared() -> Shared {
    NetLab::shared(&["--secret", &secret_for(API)], &[API, EVIL])
}

fn bearer() -> String {
    format!("Bearer {SECRET}")
}

/// The request whose target contains `part`.
#[track_caller]
fn received(lab: &NetLab, part: &str) -> Received {
    let all = lab.origin.requests();
    let found = all.iter().find(|request| request.target.contains(part));
    found.unwrap_or_else(|| panic!("no {part} in {all:?}")).clone()
}

/// It succeeded, and never had the secret.
#[track_caller]
fn innocent(lab: &NetLab, finished: Finished) -> String {
    let finished = finished.expect(0);
    let trail = std::fs::read_to_string(lab.path("audit.jsonl")).expect("read");
    for text in [finished.out(), finished.err(), trail] {
        assert!(!text.contains(SECRET), "{text}");
    }
    let kept = Command::new("grep").args(["-rlaF", SECRET]).arg(lab.home()).output();
    assert_eq!(String::from_utf8_lossy(&kept.expect("grep runs").stdout), "", "files with it");
    finished.out()
}

/// What `/upload` answers about a body of this many `x`.
fn digest(length: usize) -> String {
    let digest = Sha256::digest(vec![b'x'; length]);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn curl_works_with_each_version_of_http() {
    let lab = shared();
    let script = format!(
        "ask() {{ curl -sS -o /dev/null -w '%{{http_version}} %{{http_code}}\\n' \
             -H \"Authorization: Bearer $API_KEY\" \"$@\"; }}
         ask https://{API}/status/200?default
         ask --http1.1 https://{API}/status/200?one
         ask --http1.0 http://{API}/status/200?zero
         ask --http2 https://{API}/status/200?two
         ask http://{API}/status/200?plain
         ask --http2-prior-knowledge http://{API}/status/200?prior"
    );
    let finished = lab.finish(&["--secret", &secret_for(API)], &script);
    let out = innocent(&lab, finished);
    let versions: Vec<&str> = out.lines().collect();
    assert_eq!(versions, ["2 200", "1.1 200", "1.1 200", "2 200", "1.1 200", "2 200"], "{out}");
    for (part, version, tls) in [
        ("default", Version::Http2, true),
        ("one", Version::Http11, true),
        ("zero", Version::Http11, false),
        ("two", Version::Http2, true),
        ("plain", Version::Http11, false),
        ("prior", Version::Http2, false),
    ] {
        let request = received(&lab, part);
        assert_eq!(request.header("authorization"), Some(&*bearer()), "{part}");
        assert_eq!((request.version, request.tls), (version, tls), "{part}");
    }
    let requests = lab.events("request");
    assert_eq!(requests.len(), 6, "{requests:?}");
    assert!(requests.iter().all(|request| request["secrets"][0] == "API_KEY"), "{requests:?}");
}

fn curl_sends_a_secret_as_basic_query_and_form() {
    let lab = NetLab::new();
    let script = format!(
        "curl -sS -u \"user:$API_KEY\" https://{API}/status/200?basic
         curl -sS -G --data-urlencode \"key=$API_KEY\" https://{API}/status/200
         curl -sS -d \"key=$API_KEY\" https://{API}/upload"
    );
    let flags = ["--secret", &secret_for(API), "--secret-body", "API_KEY"];
    innocent(&lab, lab.finish(&flags, &script));
    // user:sk-live-5f2c81d09a
    let basic = "Basic dXNlcjpzay1saXZlLTVmMmM4MWQwOWE=";
    assert_eq!(received(&lab, "basic").header("authorization"), Some(basic));
    received(&lab, &format!("/status/200?key={SECRET}"));
    let form = received(&lab, "/upload");
    assert_eq!(form.body, format!("key={SECRET}").into_bytes());
}

fn pythons_clients_work() {
    let lab = shared();
    let base = format!("https://{API}");
    let argv = [PYTHON, "-c", include_str!("programs/python_clients.py"), &base];
    let finished = lab.finish_argv(&["--secret", &secret_for(API)], &argv);
    let out = innocent(&lab, finished);
    let digest = digest(100_000);
    for who in ["urllib", "requests", "requests-chunked", "httpx"] {
        let line = out.lines().find(|line| line.starts_with(&format!("{who} ")));
        let line = line.unwrap_or_else(|| panic!("no {who}: {out}"));
        assert!(line.contains("200") && line.contains(&digest), "{line}");
        let request = received(&lab, &format!("/upload?{who}"));
        assert_eq!(request.header("authorization"), Some(&*bearer()), "{who}");
        assert_eq!(request.body_sha256.as_deref(), Some(&*digest), "{who}");
    }
    for line in ["requests-basic 200 status", "httpx-stream 200 100000"] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(out.contains("httpx-async 200 [1, 2, 3, 4, 5]"), "{out}");
    received(&lab, &format!("/status/200?key={SECRET}"));
}

fn nodes_clients_work() {
    let lab = shared();
    let base = format!("https://{API}");
    let program = include_str!("programs/node_clients.mjs");
    let argv = ["node", "--input-type=module", "-e", program, "--", &base];
    let finished = lab.finish_argv(&["--secret", &secret_for(API)], &argv);
    let out = innocent(&lab, finished);
    let digest = digest(100_000);
    for who in ["fetch", "https", "http2"] {
        let line = out.lines().find(|line| line.starts_with(&format!("{who} 200 ")));
        assert!(line.is_some_and(|line| line.contains(&digest)), "{who}: {out}");
        let request = received(&lab, &format!("/upload?{who}"));
        assert_eq!(request.header("authorization"), Some(&*bearer()), "{who}");
    }
    assert!(out.contains("fetch-stream 200 3"), "{out}");
    assert_eq!(received(&lab, "/upload?http2").version, Version::Http2);
}

fn gos_client_works() {
    let lab = NetLab::new();
    let (source, program) = (lab.path("client.go"), lab.path("client"));
    std::fs::write(&source, include_str!("programs/client.go")).expect("written");
    let mut build = Command::new("go");
    build.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
    let status = build.args(["build", "-o"]).arg(&program).arg(&source).status();
    assert!(status.expect("go runs").success());
    let script = format!("cat > /tmp/client && chmod +x /tmp/client && /tmp/client https://{API}");
    let flags = ["-i", "--secret", &secret_for(API)];
    let program = std::fs::read(program).expect("a program");
    let out = innocent(&lab, lab.sh(&flags, &script).finish_with(program));
    assert!(out.contains("refused 413 HTTP/2.0 too much\n"), "{out}");
    let digest = digest(100_000);
    for (who, said, version) in [
        ("default", "default 200 HTTP/2.0 ", Version::Http2),
        ("http1", "http1 200 HTTP/1.1 ", Version::Http11),
    ] {
        let line = out.lines().find(|line| line.starts_with(said));
        assert!(line.is_some_and(|line| line.contains(&digest)), "{who}: {out}");
        let request = received(&lab, &format!("/upload?{who}"));
        assert_eq!(request.header("authorization"), Some(&*bearer()), "{who}");
        assert_eq!(request.version, version, "{who}");
    }
}

/// A repository with one commit, for `git http-backend`.
fn repository(lab: &NetLab) -> std::path::PathBuf {
    let (work, root) = (lab.path("work"), lab.path("repositories"));
    let bare = root.join("repository.git");
    let git = |directory: &Path, arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.args(["-c", "user.name=a", "-c", "user.email=a@example.com"]).args(arguments);
        assert!(command.status().expect("git runs").success(), "{arguments:?}");
    };
    std::fs::create_dir_all(&work).expect("made");
    std::fs::create_dir_all(&root).expect("made");
    git(&work, &["init", "-q", "-b", "main"]);
    std::fs::write(work.join("README"), "from the server\n").expect("written");
    git(&work, &["add", "README"]);
    git(&work, &["commit", "-q", "-m", "first"]);
    git(&work, &["clone", "-q", "--bare", ".", bare.to_str().expect("UTF-8")]);
    git(&bare, &["config", "http.receivepack", "true"]);
    root
}

fn git_clones_and_pushes() {
    let lab = NetLab::with(&[API, GIT]);
    let root = repository(&lab);
    let address = fresh_address().to_string();
    lab.dns.set(GIT, Reply::addresses(&[&address]));
    let pem = lab.leaf_pem();
    let root = root.to_str().expect("UTF-8");
    let server = include_str!("programs/serve_git.py");
    let server = Program::python(server, &[&address, "443", &pem, root, SECRET]);
    let script = format!(
        "set -e; export HOME=/tmp
         git -c http.extraHeader=\"Authorization: Bearer $API_KEY\" \
             ls-remote https://{GIT}/repository.git main
         git clone -q https://agent:$API_KEY@{GIT}/repository.git /tmp/clone
         cd /tmp/clone; cat README
         head -c 3000000 /dev/urandom > large; git add large
         git -c user.name=b -c user.email=b@example.com commit -q -m second
         git push -q origin HEAD:main; git rev-parse HEAD"
    );
    let out = innocent(&lab, lab.finish(&["--secret", &secret_for(GIT)], &script));
    assert!(out.contains("refs/heads/main\n") && out.contains("from the server\n"), "{out}");
    let mut head = Command::new("git");
    head.args(["--git-dir", &format!("{root}/repository.git"), "rev-parse", "main"]);
    let head = String::from_utf8(head.output().expect("git runs").stdout).expect("UTF-8");
    assert_eq!(out.lines().last(), Some(head.trim()), "{out}");
    let said = server.said();
    let pushed = "POST /repository.git/git-receive-pack 200 chunked";
    assert!(said.iter().any(|line| line == pushed), "{said:?}");
}

fn grpc_calls_and_streams() {
    let lab = shared();
    let target = format!("{API}:443");
    let argv = [PYTHON, "-c", include_str!("programs/grpc_client.py"), &target];
    let finished = lab.finish_argv(&["--secret", &secret_for(API)], &argv);
    let out = innocent(&lab, finished);
    for line in [
        "unary b'hello' StatusCode.OK fine",
        "stream b'message 0'\nstream b'message 1'\nstream b'message 2'",
        "rest [] StatusCode.OK",
        "large True",
        "refused StatusCode.PERMISSION_DENIED",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    for call in ["/grpc/unary", "/grpc/stream", "/grpc/large"] {
        let request = received(&lab, call);
        assert_eq!(request.header("authorization"), Some(&*bearer()), "{call}");
        assert_eq!(request.header("te"), Some("trailers"), "{call}");
        assert_eq!(request.version, Version::Http2);
    }
}

fn a_websocket_has_the_secret_in_its_handshake_only() {
    let lab = shared();
    let address = lab.address.to_string();
    let server = include_str!("programs/serve_websocket.py");
    let server = Program::python(server, &[&address, "8443", &lab.leaf_pem()]);
    let url = format!("wss://{API}:8443/chat");
    let argv = [PYTHON, "-c", include_str!("programs/websocket_client.py"), &url];
    let finished = lab.finish_argv(&["--secret", &secret_for(API)], &argv);
    let out = innocent(&lab, finished);
    assert_eq!(out, "text hello\nbinary True\nuntouched True\npong\nclosed 1000\n");
    server.wait_for(&format!("Authorization: {}", bearer()));
    server.wait_for("closed 1000");
}

fn openssl_and_wget_verify_and_ask() {
    let lab = shared();
    let script = format!(
        "printf 'GET /status/200?openssl HTTP/1.1\\r\\nHost: {API}\\r\\n\
             Authorization: Bearer %s\\r\\nConnection: close\\r\\n\\r\\n' \"$API_KEY\" |
         openssl s_client -quiet -verify_return_error -verify_hostname {API} -connect {API}:443
         wget -q -O - --header \"Authorization: Bearer $API_KEY\" https://{API}/status/200?wget
         openssl s_client -quiet -verify_return_error -connect {API}:443 -servername {EVIL} \
             </dev/null && echo connected to another"
    );
    let finished = lab.finish(&["--secret", &secret_for(API)], &format!("{script}; true"));
    let out = innocent(&lab, finished);
    assert!(out.contains("HTTP/1.1 200 OK") && out.ends_with("status"), "{out}");
    for who in ["openssl", "wget"] {
        let request = received(&lab, who);
        assert_eq!(request.header("authorization"), Some(&*bearer()), "{who}");
    }
}

fn many_requests_to_many_names_go_at_once() {
    let lab = NetLab::with(&["*.example.com"]);
    let secret = secret_for("*.example.com");
    let urls = |host: &str| format!("'https://{host}.example.com/status/200?[1-30]' -o /dev/null");
    // Emulated, each handshake costs the guest seconds: few connections, many requests.
    let script = format!(
        "ask() {{ curl -sS -Z -w '%{{http_code}}\\n' \
             -H \"Authorization: Bearer $API_KEY\" \"$@\" | sort | uniq -c; }}
         ask --parallel-max 60 --http2 {one} {two}
         ask --parallel-max 4 --http1.1 {one} {two}
         ask 'https://n[1-6].example.com/status/200' -o /dev/null",
        one = urls("one"),
        two = urls("two"),
    );
    let out = innocent(&lab, lab.finish(&["--secret", &secret], &script));
    let counts: Vec<String> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(counts, ["60 200", "60 200", "6 200"], "{out}");
    let requests = lab.origin.requests();
    assert_eq!(requests.len(), 126);
    for request in &requests {
        assert_eq!(request.header("authorization"), Some(&*bearer()));
        let host = request.authority.as_deref().or(request.header("host"));
        assert_eq!(host, request.sni.as_deref(), "each to its own name");
    }
}
