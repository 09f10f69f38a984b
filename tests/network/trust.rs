//! Whom the programs of a sandbox trust.

use matchlock_testkit::Finished;

use crate::lab::{API, NetLab};

cases![
    programs_without_an_environment_trust_the_authority_through_the_system,
    the_variables_of_the_contract_name_files_that_are_there,
    each_sandbox_has_an_authority_of_its_own,
];

/// The authority alone.
const AUTHORITY: &str = "/etc/ssl/certs/matchlock-ca.crt";

fn programs_without_an_environment_trust_the_authority_through_the_system() {
    let lab = NetLab::new();
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
