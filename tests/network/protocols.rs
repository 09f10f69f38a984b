//! All of HTTP goes through, in both versions and both directions.

use matchlock_testkit::origin::{Options, Origin, Received, Version, pattern};
use matchlock_testkit::{PATIENCE, Running};
use sha2::{Digest, Sha256};

use crate::lab::{API, EVIL, NetLab};
use crate::machine::Shared;

cases![
    an_event_arrives_before_the_next_one_is_sent,
    both_directions_of_a_request_stream_at_once,
    interim_responses_arrive,
    an_early_refusal_of_an_upload_arrives,
    trailers_arrive,
    responses_without_a_body_keep_their_framing,
    connections_are_kept_and_closed_as_the_server_says,
    a_broken_response_is_no_complete_one,
    compressed_responses_are_what_the_server_sent,
    large_bodies_are_whole_at_the_usual_packet_size,
    large_bodies_are_whole_at_the_largest_packet_size,
    other_ports_are_the_same,
];

const ALLOW: [&str; 2] = ["--allow-host", API];
const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

/// A sandbox that other cases use too.
fn shared() -> Shared {
    NetLab::shared(&ALLOW, &[API, EVIL])
}

/// Starts `curl` in a sandbox, its input and output as they come.
fn curl(lab: &NetLab, flags: &[&str], arguments: &[&str]) -> Running {
    let argv: Vec<&str> = ["curl", "-sS", "-N"].iter().chain(arguments).copied().collect();
    lab.argv(flags, &argv).piped().spawn()
}

fn an_event_arrives_before_the_next_one_is_sent() {
    for version in VERSIONS {
        let lab = NetLab::new();
        let url = format!("https://{API}/sse?n=3&wait");
        let mut running = curl(&lab, &ALLOW, &[version, &url]);
        for id in 0..3 {
            lab.origin.release(1);
            running.wait_for(&format!("\"id\":{id},"), PATIENCE);
        }
        running.finish(PATIENCE).expect(0);
    }
}

fn both_directions_of_a_request_stream_at_once() {
    for version in VERSIONS {
        let lab = NetLab::new();
        let url = format!("https://{API}/reflect");
        let flags = [&ALLOW[..], &["-i"]].concat();
        let mut running = curl(&lab, &flags, &[version, "-X", "POST", "-T", ".", &url]);
        for text in ["first\n", "second\n", "third\n"] {
            running.write(text.as_bytes());
            running.wait_for(text, PATIENCE);
        }
        running.close_input();
        let finished = running.finish(PATIENCE).expect(0);
        assert_eq!(finished.out(), "first\nsecond\nthird\n", "{version}");
        assert_eq!(lab.origin.last().body_length, 19, "{version}");
    }
}

fn interim_responses_arrive() {
    let lab = shared();
    let script = format!(
        "for version in --http1.1 --http2; do
             curl -sS $version -D - https://{API}/early-hints; echo
         done
         head -c 100000 /dev/zero | tr '\\0' x > /tmp/x
         curl -sS --http1.1 -D - -H 'Expect: 100-continue' --expect100-timeout 100 \
             --data-binary @/tmp/x https://{API}/upload"
    );
    let out = lab.out(&ALLOW, &script).replace('\r', "");
    let [one, rest] = out.splitn(2, "after the hints\n").collect::<Vec<_>>()[..] else {
        panic!("{out}")
    };
    assert!(one.starts_with("HTTP/1.1 103 Early Hints\n"), "{out}");
    assert!(one.contains("</style.css>; rel=preload\n\nHTTP/1.1 200 OK\n"), "{out}");
    let [two, upload] = rest.splitn(2, "after the hints\n").collect::<Vec<_>>()[..] else {
        panic!("{out}")
    };
    assert!(two.starts_with("HTTP/2 103"), "{out}");
    assert!(two.contains("rel=preload\n\nHTTP/2 200"), "{out}");
    assert!(upload.starts_with("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\n"), "{out}");
    assert!(upload.contains("\"length\":100000"), "{out}");
}

/// Over HTTP/2 it is Go's client that is asked: `curl` and Node do not read what came before the
/// reset of a stream, with or without a sandbox.
fn an_early_refusal_of_an_upload_arrives() {
    let lab = shared();
    let script = format!(
        "head -c 20000000 /dev/zero > /tmp/zeroes
         ask() {{ curl -sS -o /dev/null -w '%{{http_code}} %{{size_upload}}\\n' \"$@\" \
             --http1.1 --data-binary @/tmp/zeroes https://{API}/refuse; }}
         ask -H 'Expect: 100-continue' --expect100-timeout 100
         ask -H Expect:"
    );
    let out = lab.out(&ALLOW, &script);
    let statuses: Vec<&str> = out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(statuses, ["413", "413"], "{out}");
    assert!(out.starts_with("413 0\n"), "not asked for: {out}");
}

fn trailers_arrive() {
    let lab = shared();
    let script = format!(
        "for version in --http1.1 --http2; do
             curl -sS $version -D /tmp/fields https://{API}/trailers?n=2; tail -n 2 /tmp/fields
         done
         printf 'POST /reflect HTTP/1.1\\r\\nHost: {API}\\r\\nTransfer-Encoding: chunked\\r\\n\
             Trailer: X-Sum\\r\\nTE: trailers\\r\\nConnection: close, TE\\r\\n\\r\\n\
             5\\r\\nhello\\r\\n0\\r\\nX-Sum: 99\\r\\n\\r\\n' |
             openssl s_client -quiet -verify_return_error -connect {API}:443 2>/dev/null"
    );
    let out = lab.out(&ALLOW, &script).replace('\r', "").to_lowercase();
    let fields = "chunk 0\nchunk 1\nx-checksum: abc123\nx-second: two\n";
    assert_eq!(out.matches(fields).count(), 2, "{out}");
    assert_eq!(lab.origin.last().trailers, [("X-Sum".to_owned(), "99".to_owned())]);
    assert!(out.trim_end().ends_with("x-sum: 99"), "{out}");
}

fn responses_without_a_body_keep_their_framing() {
    let lab = shared();
    let script = format!(
        "for version in --http1.1 --http2; do
             curl -sS $version -I https://{API}/bytes/1000 | grep -i content-length
             curl -sS $version -w '%{{http_code}} %{{num_connects}}\\n' \
                 -I https://{API}/chunked -o /dev/null \
                 https://{API}/status/204 -o /dev/null https://{API}/status/200 -o /dev/null
             curl -sS $version -w '%{{http_code}} %{{num_connects}}\\n' \
                 https://{API}/status/304 -o /dev/null https://{API}/status/204 -o /dev/null \
                 https://{API}/status/200
         done"
    );
    let out = lab.out(&ALLOW, &script).replace('\r', "").to_lowercase();
    let each = "content-length: 1000\n200 1\n204 0\n200 0\n304 1\n204 0\nstatus200 0\n";
    assert_eq!(out, [each, each].concat());
}

fn connections_are_kept_and_closed_as_the_server_says() {
    let lab = shared();
    let script = format!(
        "for version in --http1.1 --http2; do
             curl -sS $version https://{API}/status/200 https://{API}/status/201 \
                 https://{API}/status/202; echo
         done
         curl -sS http://{API}/status/203 http://{API}/status/206; echo
         curl -sS --http1.1 https://{API}/close https://{API}/close; echo
         curl -sS --http1.1 https://{API}/until-close https://{API}/until-close; echo
         curl -sS --http1.1 https://{API}/stale https://{API}/stale; echo
         curl -sS --http1.1 -w ' %{{num_connects}}' -H 'Connection: close' https://{API}/status/205; echo"
    );
    let out = lab.out(&ALLOW, &script);
    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        "statusstatusstatus",
        "statusstatusstatus",
        "statusstatus",
        "byebye",
        "until the enduntil the end",
        "freshfresh",
        "status 1",
    ];
    assert_eq!(lines, expected);
    let requests = lab.origin.requests();
    let connections: Vec<u64> = requests.iter().map(|request| request.connection).collect();
    let kept = |range: std::ops::Range<usize>| connections[range].windows(2).all(|w| w[0] == w[1]);
    assert!(kept(0..3) && kept(3..6) && kept(6..8), "{connections:?}");
}

fn a_broken_response_is_no_complete_one() {
    let lab = shared();
    let script = format!(
        "for version in --http1.1 --http2; do for path in truncate abort; do
             curl -s $version -o /dev/null -w '%{{http_code}} ' https://{API}/$path; echo $?
         done; done"
    );
    let out = lab.out(&ALLOW, &script);
    let lines: Vec<&str> = out.lines().collect();
    // 18: a partial file, 56: a connection cut off, 92: a stream reset, here together with its head.
    assert!(["200 18", "200 56"].contains(&lines[0]), "{out}");
    assert_eq!(lines[1..], ["502 0", "000 92", "000 92"], "{out}");
}

fn compressed_responses_are_what_the_server_sent() {
    let lab = shared();
    let script = format!(
        "for coding in gzip deflate br zstd; do
             curl -sS --compressed -D /tmp/fields https://{API}/$coding?$coding | grep -c target
             grep -ic \"content-encoding: $coding\" /tmp/fields
         done"
    );
    assert_eq!(lab.out(&ALLOW, &script), "1\n".repeat(8));
}

const LARGE: usize = 64 << 20;

/// Down with these flags of curl, and what came up again with those.
fn large_bodies_are_whole(mtu: &str, down: &str, up: &str) -> Received {
    let lab = NetLab::new();
    let script = format!(
        "set -e; cat /sys/class/net/eth0/mtu; cd /tmp
         curl -sS {down} -o large https://{API}/bytes/{LARGE}; sha256sum < large
         curl -sS {up} https://{API}/upload < large"
    );
    let flags = [&ALLOW[..], &["--mtu", mtu, "--memory", "1024"]].concat();
    let out = lab.out(&flags, &script);
    let digest = Sha256::digest(pattern(0, LARGE));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], [mtu, &format!("{digest}  -")]);
    assert!(lines[2].contains(&digest) && lines[2].contains(&LARGE.to_string()), "{out}");
    let upload = lab.origin.last();
    assert_eq!(upload.body_sha256.as_deref(), Some(&*digest));
    assert_eq!(upload.body_length, LARGE as u64);
    upload
}

fn large_bodies_are_whole_at_the_usual_packet_size() {
    let upload = large_bodies_are_whole("1500", "--http2", "--http1.1 -T -");
    assert_eq!(upload.header("transfer-encoding"), Some("chunked"));
}

fn large_bodies_are_whole_at_the_largest_packet_size() {
    let upload = large_bodies_are_whole("65520", "--http1.1", "--http2 -T -");
    assert_eq!(upload.version, Version::Http2);
}

fn other_ports_are_the_same() {
    let lab = NetLab::new();
    let other = Origin::with(&Options {
        names: vec![API.to_owned()],
        http: lab.at(8080),
        https: lab.at(8443),
        ..Options::default()
    });
    lab.trust(&other);
    let script = format!(
        "curl -sS -H \"X-Key: $KEY\" https://{API}:8443/status/200?tls
         curl -sS -H \"X-Key: $KEY\" http://{API}:8080/status/200?plain
         curl -sS -H \"X-Key: $KEY\" -H 'Host: {API}:443' -w '%{{http_code}}' http://{API}:8080/"
    );
    let secret = format!("KEY=a-real-value@{API}");
    let out = lab.out(&["--secret", &secret], &script);
    assert!(out.starts_with("statusstatus"), "{out}");
    assert!(out.ends_with("421"), "a name for another port: {out}");
    let requests = other.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.header("x-key") == Some("a-real-value")));
    assert_eq!(lab.origin.requests().len(), 0);
}
