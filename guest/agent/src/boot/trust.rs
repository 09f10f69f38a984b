//! The authority of the sandbox in the guest's trust stores.
//!
//! A program finds its roots in one of three ways, and each must lead to the same answer: a bundle
//! at the distribution's path (appended to), OpenSSL's directory of hashed names (one more link), or
//! a bundle that an environment variable names. Sources for tools that build the bundles anew
//! (`update-ca-certificates`, `update-ca-trust`) are left too, so that ours survives them. Java and browsers
//! have stores of their own.

mod browsers;
mod java;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use matchlock_proto::BootStep;

use super::{Required, StepFailed};
use crate::authority::Authority;
use crate::console;

/// The authority alone (contract 3.7).
const AUTHORITY: &str = "/etc/ssl/certs/matchlock-ca.crt";

/// OpenSSL's hash of the authority's subject, `CN=Matchlock Sandbox CA` (X509_NAME_hash(3)).
const SUBJECT_HASH: &str = "c185044c";

/// Bundles of the distributions: Debian and Alpine, RHEL, SUSE, Alpine's OpenSSL, older RHEL.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// Directories whose files the distributions' tools put into the bundles.
const SOURCES: [&str; 3] = [
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/source/anchors",
    "/etc/pki/trust/anchors",
];

/// Variables that name a bundle which replaces the built-in roots of a program.
const BUNDLE_VARIABLES: [&str; 12] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "BUNDLE_SSL_CA_CERT",
    "COMPOSER_CAFILE",
    "HEX_CACERTS_PATH",
];

/// Variables that name a file which adds to the roots of a program: Node, Deno.
const EXTRA_VARIABLES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

type Variable = (Vec<u8>, Vec<u8>);

/// Puts the authority everywhere; returns the environment that names it. `home` is `JAVA_HOME`.
pub(super) fn install(
    authority: &Authority,
    home: Option<&[u8]>,
) -> Result<Vec<Variable>, StepFailed> {
    let root = Path::new("/");
    let bundle = install_below(root, authority.pem()).required(BootStep::Trust, "trust stores")?;
    java::install(root, authority, home);
    browsers::install(root, authority);
    let set = |value: &str| {
        let value = value.to_owned();
        move |name: &&str| (name.as_bytes().to_vec(), value.clone().into_bytes())
    };
    let extra = EXTRA_VARIABLES.iter().map(set(AUTHORITY));
    Ok(BUNDLE_VARIABLES.iter().map(set(bundle)).chain(extra).collect())
}

/// Returns the path of a bundle that holds the image's roots and the authority.
fn install_below(root: &Path, pem: &str) -> io::Result<&'static str> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let authority = at(AUTHORITY);
    fs::create_dir_all(authority.parent().unwrap_or(root))?;
    // That of an earlier life of this sandbox, whose key is gone.
    let earlier = fs::read_to_string(&authority).unwrap_or_default();
    create(&authority, pem)?;
    let link = authority.with_file_name(format!("{SUBJECT_HASH}.0"));
    console::optional("link the authority by its hash", link_to(&link, "matchlock-ca.crt"));
    for directory in SOURCES.map(at).into_iter().filter(|directory| directory.is_dir()) {
        let copied = create(&directory.join("matchlock-ca.crt"), pem);
        console::optional("leave the authority to the trust tools", copied);
    }
    let mut done: Vec<(u64, u64)> = Vec::new();
    let mut chosen = None;
    for bundle in BUNDLES {
        let path = at(bundle);
        // Bundles are links to each other on most distributions.
        let Some(id) = identity(&path) else { continue };
        if !done.contains(&id) {
            without(&path, &earlier)?;
            append(&path, pem)?;
            // The copy in the upper layer is another inode than the one below it.
            done.extend(identity(&path).into_iter().chain([id]));
        }
        chosen = chosen.or(Some(bundle));
    }
    if let Some(bundle) = chosen {
        return Ok(bundle);
    }
    // An image without roots: programs find this one at the most common of the default places.
    let [bundle, ..] = BUNDLES;
    create(&at(bundle), pem)?;
    Ok(bundle)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((metadata.dev(), metadata.ino()))
}

/// A new file: an image may have a link of that name, to anywhere.
fn create(path: &PathBuf, pem: &str) -> io::Result<()> {
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(pem.as_bytes())
}

fn link_to(link: &Path, target: &str) -> io::Result<()> {
    remove(link)?;
    symlink(target, link)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Appends the certificate, on a line of its own even if the bundle has no end of line.
fn append(path: &Path, pem: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let separator = if ends_with_newline(&mut file)? { "" } else { "\n" };
    file.write_all(format!("{separator}{pem}").as_bytes())
}

/// Takes a certificate out of a bundle.
fn without(path: &Path, pem: &str) -> io::Result<()> {
    if !pem.starts_with("-----BEGIN CERTIFICATE-----") {
        return Ok(());
    }
    let bundle = fs::read(path)?;
    let found = bundle.windows(pem.len()).position(|window| window == pem.as_bytes());
    let Some((before, after)) = found.and_then(|at| {
        bundle
            .split_at_checked(at)
            .and_then(|(before, rest)| Some((before, rest.get(pem.len()..)?)))
    }) else {
        return Ok(());
    };
    fs::write(path, [before, after].concat())
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    use std::io::{Seek, SeekFrom};
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_second_start_puts_the_new_authority_in_the_place_of_the_earlier_one() {
        let bundle = "etc/ssl/certs/ca-certificates.crt";
        let root = image(&[(bundle, "roots\n")]);
        let second = PEM.replace("AAAA", "BBBB");
        for pem in [PEM, PEM, &second] {
            install_below(root.path(), pem).expect("installed");
            let text = fs::read_to_string(root.path().join(bundle)).expect("read");
            assert_eq!(text, format!("roots\n{pem}"));
        }
    }

    fn image(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    fn text(root: &tempfile::TempDir, path: &str) -> String {
        fs::read_to_string(root.path().join(path)).expect("read")
    }

    #[test]
    fn a_debian_bundle_keeps_its_roots_and_gets_ours() {
        let root = image(&[("etc/ssl/certs/ca-certificates.crt", "ROOTS")]);
        let bundle = install_below(root.path(), PEM).expect("installed");
        assert_eq!(bundle, "/etc/ssl/certs/ca-certificates.crt");
        assert_eq!(text(&root, "etc/ssl/certs/ca-certificates.crt"), format!("ROOTS\n{PEM}"));
        assert_eq!(text(&root, "etc/ssl/certs/matchlock-ca.crt"), PEM);
        assert_eq!(text(&root, &format!("etc/ssl/certs/{SUBJECT_HASH}.0")), PEM);
    }

    #[test]
    fn bundles_that_are_one_file_are_appended_to_once() {
        let path = "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem";
        let root = image(&[(path, "ROOTS\n"), ("etc/pki/tls/certs/x", "")]);
        let link = root.path().join("etc/pki/tls/certs/ca-bundle.crt");
        symlink("../../ca-trust/extracted/pem/tls-ca-bundle.pem", link).expect("linked");
        fs::create_dir_all(root.path().join("etc/pki/ca-trust/source/anchors")).expect("made");
        let bundle = install_below(root.path(), PEM).expect("installed");
        assert_eq!(bundle, format!("/{path}"));
        assert_eq!(text(&root, "etc/pki/tls/certs/ca-bundle.crt"), format!("ROOTS\n{PEM}"));
        assert_eq!(text(&root, "etc/pki/ca-trust/source/anchors/matchlock-ca.crt"), PEM);
    }

    #[test]
    fn every_bundle_of_an_image_is_appended_to() {
        let root = image(&[("etc/ssl/ca-bundle.pem", "A\n"), ("etc/ssl/cert.pem", "B\n")]);
        assert_eq!(install_below(root.path(), PEM).expect("installed"), "/etc/ssl/ca-bundle.pem");
        assert_eq!(text(&root, "etc/ssl/ca-bundle.pem"), format!("A\n{PEM}"));
        assert_eq!(text(&root, "etc/ssl/cert.pem"), format!("B\n{PEM}"));
    }

    #[test]
    fn an_image_without_roots_gets_a_bundle() {
        let root = image(&[]);
        let bundle = install_below(root.path(), PEM).expect("installed");
        assert_eq!(text(&root, bundle.trim_start_matches('/')), PEM);
    }

    #[test]
    fn a_link_in_the_place_of_the_authority_is_replaced_and_not_followed() {
        let root = image(&[("outside", "untouched"), ("etc/ssl/certs/x", "")]);
        let link = root.path().join("etc/ssl/certs/matchlock-ca.crt");
        symlink(root.path().join("outside"), link).expect("linked");
        install_below(root.path(), PEM).expect("installed");
        assert_eq!(text(&root, "outside"), "untouched");
        assert_eq!(text(&root, "etc/ssl/certs/matchlock-ca.crt"), PEM);
    }
}
