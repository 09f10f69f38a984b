//! Whom the programs of a sandbox trust.

use std::process::Command;

use matchlock_testkit::Finished;

use crate::lab::{API, EVIL, NetLab};

cases![
    programs_without_an_environment_trust_the_authority_through_the_system,
    the_variables_of_the_contract_name_files_that_are_there,
    each_sandbox_has_an_authority_of_its_own,
    javas_clients_trust_the_authority_without_being_told,
    nothing_is_installed_where_nothing_is_intercepted,
];

/// The authority alone.
const AUTHORITY: &str = "/etc/ssl/certs/matchlock-ca.crt";

fn programs_without_an_environment_trust_the_authority_through_the_system() {
    let lab = NetLab::shared(&["--allow-host", API], &[API, EVIL]);
    let urllib = format!(
        "import urllib.request as u; print(u.urlopen(\"https://{API}/status/200?python\").status)"
    );
    let script = format!(
        "alone() {{ env -i PATH=/usr/bin:/bin HOME=/tmp \"$@\"; }}
         alone curl -sS -o /dev/null -w 'curl %{{http_code}}\\n' https://{API}/status/200?curl
         echo python $(alone /usr/bin/python3 -c '{urllib}')
         alone wget -q -O /dev/null https://{API}/status/200?wget && echo wget
         printf 'GET /status/200?openssl HTTP/1.1\\r\\nHost: {API}\\r\\nConnection: close\\r\\n\\r\\n' |
             alone openssl s_client -quiet -verify_return_error -connect {API}:443 2>/dev/null |
             head -n 1
         alone git ls-remote https://{API}/git 2>&1 | grep -ci -e certificate -e ssl"
    );
    let out = lab.out(&["--allow-host", API], &format!("{script}; true"));
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert_eq!(lines, ["curl 200", "python 200", "wget", "HTTP/1.1 200 OK", "0"], "{out}");
    let targets: Vec<String> = lab.origin.requests().into_iter().map(|r| r.target).collect();
    for part in ["?curl", "?python", "?wget", "?openssl", "/git/info/refs"] {
        assert!(targets.iter().any(|target| target.contains(part)), "{part}: {targets:?}");
    }
}

fn the_variables_of_the_contract_name_files_that_are_there() {
    let lab = NetLab::new();
    let script = format!(
        "for name in SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE NODE_EXTRA_CA_CERTS; do
             eval file=\\$$name
             openssl verify -CAfile \"$file\" {AUTHORITY} >/dev/null && echo $name $(stat -c %a $file)
         done
         stat -c '%a %u %g' {AUTHORITY}
         openssl x509 -in {AUTHORITY} -noout -text | grep -e CA:TRUE -e 'NIST CURVE' | tr -d ' '
         grep -c BEGIN {AUTHORITY}"
    );
    // Without any rule: a name may be allowed later.
    let out = lab.out(&["--network-intercept"], &script);
    let expected = "SSL_CERT_FILE 644\nREQUESTS_CA_BUNDLE 644\nCURL_CA_BUNDLE 644\n\
                    NODE_EXTRA_CA_CERTS 644\n644 0 0\nNISTCURVE:P-256\nCA:TRUE,pathlen:0\n1\n";
    assert_eq!(out, expected);
}

/// Compiled on the host, which takes a second there and a minute in an emulated machine.
const CLIENT: &str = r#"
public class Client {
    public static void main(String[] words) throws Exception {
        var connection = (java.net.HttpURLConnection) new java.net.URL(words[0]).openConnection();
        System.out.println(connection.getResponseCode());
    }
}
"#;

/// Issue 9: a JVM has its roots in a file of its own format.
fn javas_clients_trust_the_authority_without_being_told() {
    let lab = NetLab::new();
    std::fs::write(lab.path("Client.java"), CLIENT).expect("written");
    let compiled =
        Command::new("javac").args(["--release", "11"]).arg(lab.path("Client.java")).status();
    assert!(compiled.expect("a JDK, see `cargo xtask setup`").success());
    let class = std::fs::read(lab.path("Client.class")).expect("compiled");
    let script = format!(
        "cat >/tmp/Client.class
         env -i PATH=/usr/bin:/bin HOME=/tmp java -cp /tmp Client https://{API}/status/200?java
         env -i PATH=/usr/bin:/bin keytool -list -cacerts -storepass changeit -alias matchlock |
             grep -c trustedCertEntry"
    );
    let flags = ["--allow-host", API, "--memory", "1024", "-i"];
    let finished = lab.sh(&flags, &script).finish_with(class).expect(0);
    assert_eq!((&*finished.out(), &*finished.err()), ("200\n1\n", ""));
    assert_eq!(lab.origin.requests().len(), 1);
}

fn nothing_is_installed_where_nothing_is_intercepted() {
    let lab = NetLab::new();
    let script = "ls /etc/ssl/certs/matchlock-ca.crt /etc/chromium/policies/managed/matchlock.json
        env | grep -e CERT -e CA_BUNDLE; grep -c matchlock /etc/ssl/certs/java/cacerts";
    let open = lab.sh(&[], script).env("MATCHLOCK_DEFAULT_EGRESS", "public").finish();
    let none = lab.lab().run(&["--no-network"], &["sh", "-c", script]).finish();
    for finished in [open, none] {
        assert_eq!(finished.out(), "0\n", "{}", finished.err());
    }
}

fn each_sandbox_has_an_authority_of_its_own() {
    let lab = NetLab::new();
    let flags = ["--allow-host", API];
    let first = lab.out(&flags, &format!("cat {AUTHORITY}"));
    assert!(first.starts_with("-----BEGIN CERTIFICATE-----"), "{first}");
    let script = format!(
        "cat {AUTHORITY}
         cat > /tmp/other.pem <<'END'\n{first}\nEND
         curl -sS --cacert /tmp/other.pem --capath /nowhere https://{API}/status/200?other"
    );
    let refused: Finished = lab.finish(&flags, &script).expect(60);
    assert_ne!(refused.out(), first);
    assert!(refused.out().starts_with("-----BEGIN CERTIFICATE-----"), "{}", refused.out());
    assert!(refused.err().contains("SSL certificate problem"), "{}", refused.err());
    assert_eq!(lab.origin.requests().len(), 0, "nothing was asked");
}
