//! A real registry for tests: Debian's `docker-registry` on a port of its own, and `skopeo` to fill
//! it. `cargo xtask test` installs both.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::origin::tls::Identity;
use crate::wait::wait_until;

/// The user that a registry with [`Options::auth`] knows.
pub const USER: &str = "tester";
/// The password of [`USER`].
pub const PASSWORD: &str = "open sesame";

/// [`USER`] and bcrypt of [`PASSWORD`] with a fixed salt and 2⁵ rounds: the only scheme that the
/// registry takes, which `openssl passwd` lacks.
const HTPASSWD: &str = "tester:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";
/// Longest time from its start to its first word; it is 0.1 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest time that it may take to die.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Starts the program in its arguments and kills it when the standard input ends: when the fixture
/// is dropped, and also when the test's process is killed.
const GUARD: &str = "\"$@\" 2>&1 & exec >/dev/null; read -r _; kill -9 $!; wait";

/// How a registry is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// HTTPS, with a certificate for `localhost`, 127.0.0.1 and `::1`.
    pub tls: bool,
    /// Basic credentials are asked for: [`USER`] and [`PASSWORD`].
    pub auth: bool,
}

/// A running registry. Dropping it kills it and deletes what it stored.
#[derive(Debug)]
pub struct DockerRegistry {
    guard: Child,
    directory: TempDir,
    options: Options,
    port: u16,
    log: Arc<Mutex<String>>,
}

impl DockerRegistry {
    /// Starts a registry on a free port of 127.0.0.1 and waits until it listens.
    ///
    /// # Panics
    /// When it does not start; the message has its log.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let directory = tempfile::Builder::new().prefix("mregistry").tempdir().expect("tempdir");
        let configuration = configuration(directory.path(), options);
        Self::run(directory, options, &configuration)
    }

    fn run(directory: TempDir, options: Options, configuration: &Value) -> Self {
        let config = directory.path().join("config.json");
        // Its format is YAML, of which JSON is a part.
        fs::write(&config, configuration.to_string()).expect("write the configuration");
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh", "docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let output = guard.stdout.take().expect("a pipe");
        let mut registry =
            Self { guard, directory, options, port: 0, log: Arc::new(Mutex::new(String::new())) };
        registry.port = registry.wait_for_port(output);
        registry
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its name in references: `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate of the authority that signed its certificate, in PEM.
    ///
    /// # Panics
    /// When it has no TLS.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        assert!(self.options.tls, "a registry without TLS");
        self.certificates().join("ca.crt")
    }

    /// What it has logged so far, all requests included.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pushes the image in an archive, as `docker save` writes it or an OCI layout, under `name`,
    /// which is `name:tag`. Returns the reference to pull it by.
    ///
    /// Layers without compression arrive in gzip, others as they are.
    ///
    /// # Panics
    /// When `skopeo` fails.
    pub fn push(&self, archive: &Path, name: &str) -> String {
        self.push_with(archive, name, &[])
    }

    /// The same with layers in zstd, whatever they were, and so with a manifest of OCI's type.
    ///
    /// # Panics
    /// When `skopeo` fails.
    pub fn push_zstd(&self, archive: &Path, name: &str) -> String {
        let flags = ["--dest-compress-format", "zstd", "--format", "oci"];
        self.push_with(archive, name, &flags)
    }

    /// `skopeo copy` of an image of this registry into a directory, not started: what pulling is
    /// compared to.
    #[must_use]
    pub fn copy_out(&self, name: &str, directory: &Path) -> Command {
        let mut skopeo = self.skopeo("src");
        skopeo.arg(format!("docker://{}/{name}", self.host()));
        skopeo.arg(format!("dir:{}", directory.display()));
        skopeo
    }

    fn push_with(&self, archive: &Path, name: &str, flags: &[&str]) -> String {
        let reference = format!("{}/{name}", self.host());
        let mut skopeo = self.skopeo("dest");
        skopeo.args(flags);
        skopeo.arg(format!("{}:{}", transport(archive), archive.display()));
        skopeo.arg(format!("docker://{reference}"));
        let output = skopeo.output().expect("skopeo is missing: run `cargo xtask test`");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "skopeo: {error}\nregistry: {}", self.log());
        reference
    }

    /// `skopeo copy` with nothing of the user's configuration. `side` is which of the two is here.
    fn skopeo(&self, side: &str) -> Command {
        let mut skopeo = Command::new("skopeo");
        skopeo.stdin(Stdio::null()).env("TMPDIR", self.directory.path());
        skopeo.args(["copy", "--quiet", "--insecure-policy"]);
        skopeo.arg("--authfile").arg(self.directory.path().join("auth.json"));
        if self.options.tls {
            skopeo.arg(format!("--{side}-cert-dir")).arg(self.certificates());
        } else {
            skopeo.arg(format!("--{side}-tls-verify=false"));
        }
        if self.options.auth {
            skopeo.arg(format!("--{side}-creds")).arg(format!("{USER}:{PASSWORD}"));
        }
        skopeo
    }

    /// A directory with the authority's certificate alone, as `skopeo` wants it.
    fn certificates(&self) -> PathBuf {
        self.directory.path().join("certificates")
    }

    /// Follows the log, from now on until the registry's end, and finds the port in it.
    fn wait_for_port(&self, output: ChildStdout) -> u16 {
        let (report, found) = mpsc::channel();
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(port) = listening_port(&line) {
                    let _gone = report.send(port);
                }
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                *log += &line;
                log.push('\n');
            }
        });
        match found.recv_timeout(START_LIMIT) {
            Ok(port) => port,
            Err(RecvTimeoutError::Timeout) => panic!("not within {START_LIMIT:?}: {}", self.log()),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("no docker-registry (`cargo xtask test` installs it): {}", self.log())
            }
        }
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if std::thread::panicking() {
            // No second panic.
            drop(self.guard.wait());
            return;
        }
        let guard = &mut self.guard;
        wait_until("the end of docker-registry", END_LIMIT, || guard.try_wait().expect("wait"));
    }
}

fn configuration(directory: &Path, options: Options) -> Value {
    let mut http = json!({ "addr": "127.0.0.1:0" });
    let mut auth = json!({});
    if options.tls {
        let identity = Identity::new(&["localhost".into()], &[]);
        let certificates = directory.join("certificates");
        fs::create_dir(&certificates).expect("create a directory");
        fs::write(certificates.join("ca.crt"), identity.ca_pem).expect("write a certificate");
        let leaf = directory.join("leaf.pem");
        fs::write(&leaf, identity.leaf_pem).expect("write a certificate");
        http["tls"] = json!({ "certificate": leaf, "key": leaf });
    }
    if options.auth {
        let users = directory.join("htpasswd");
        fs::write(&users, HTPASSWD).expect("write the users");
        auth = json!({ "htpasswd": { "realm": "test registry", "path": users } });
    }
    let storage = json!({
        "filesystem": { "rootdirectory": directory.join("storage") },
        "delete": { "enabled": true },
    });
    json!({ "version": "0.1", "log": { "level": "info" }, "storage": storage, "http": http, "auth": auth })
}

/// The port in the line `… msg="listening on 127.0.0.1:PORT…" …`.
fn listening_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// What `skopeo` calls the form of an archive.
fn transport(archive: &Path) -> &'static str {
    let file = fs::File::open(archive).expect("open the archive");
    let mut tar = tar::Archive::new(file);
    let mut entries = tar.entries_with_seek().expect("a tar archive");
    let is_layout = entries
        .any(|entry| entry.expect("an entry").path().expect("a path").as_os_str() == "oci-layout");
    if is_layout { "oci-archive" } else { "docker-archive" }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::image_archive::{Format, ImageArchive, LayerTar, Packing};

    /// An archive of one small layer.
    fn archive(format: Format, packing: Packing) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("tempfile");
        let layer = LayerTar::new().directory("d").file("d/f", 0o644, &[b'x'; 10_000]).finish();
        let image = ImageArchive::new(vec![layer]).config(json!({ "Cmd": ["/d/f"] }));
        image.write(file.as_file_mut(), format, packing, "small:1").expect("write the archive");
        file
    }

    /// Pulls into a directory; its manifest.
    fn pull(registry: &DockerRegistry, name: &str) -> Value {
        let directory = tempfile::tempdir().expect("tempdir");
        let output = registry.copy_out(name, directory.path()).output().expect("skopeo");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "skopeo: {error}");
        let manifest = fs::read(directory.path().join("manifest.json")).expect("a manifest");
        serde_json::from_slice(&manifest).expect("JSON")
    }

    /// Status line of a request without credentials, over plain HTTP.
    fn status(registry: &DockerRegistry) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", registry.port())).expect("connect");
        let head = "GET /v2/ HTTP/1.1\r\nHost: registry.example\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// How many processes have the directory in their arguments.
    fn processes(directory: &Path) -> usize {
        let directory = directory.to_string_lossy();
        let processes = fs::read_dir("/proc").expect("procfs").flatten();
        processes
            .filter(|process| {
                let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&arguments).contains(&*directory)
            })
            .count()
    }

    #[test]
    fn both_forms_of_archives_are_pushed_and_pulled() {
        let registry = DockerRegistry::start(Options::default());
        let docker = archive(Format::Docker, Packing::Plain);
        let reference = registry.push(docker.path(), "one/docker:1");
        assert_eq!(reference, format!("127.0.0.1:{}/one/docker:1", registry.port()));
        let oci = archive(Format::Oci, Packing::Gzip);
        registry.push(oci.path(), "one/oci:1");
        for name in ["one/docker:1", "one/oci:1"] {
            let layers = pull(&registry, name)["layers"].clone();
            let media_type = layers[0]["mediaType"].as_str().expect("a type");
            assert!(media_type.ends_with("gzip"), "{name}: {media_type}");
        }
        assert!(registry.log().contains("/v2/one/oci/manifests/1"));
    }

    #[test]
    fn layers_can_arrive_in_zstd() {
        let registry = DockerRegistry::start(Options::default());
        for format in [Format::Docker, Format::Oci] {
            registry.push_zstd(archive(format, Packing::Plain).path(), "z:1");
            let manifest = pull(&registry, "z:1");
            let layer = &manifest["layers"][0];
            assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
        }
    }

    #[test]
    fn it_wants_the_password_and_shows_its_certificate() {
        let open = DockerRegistry::start(Options::default());
        assert_eq!(status(&open), "HTTP/1.1 200 OK");
        let plain = DockerRegistry::start(Options { auth: true, ..Options::default() });
        assert_eq!(status(&plain), "HTTP/1.1 401 Unauthorized");
        let secure = DockerRegistry::start(Options { auth: true, tls: true });
        assert_eq!(status(&secure), "HTTP/1.0 400 Bad Request", "plain HTTP");
        assert!(fs::read_to_string(secure.ca()).expect("a file").contains("BEGIN CERTIFICATE"));
        let archive = archive(Format::Docker, Packing::Plain);
        for registry in [&plain, &secure] {
            registry.push(archive.path(), "private:1");
            assert_eq!(pull(registry, "private:1")["schemaVersion"], 2);
        }
    }

    #[test]
    fn nothing_is_left_of_it() {
        let registry = DockerRegistry::start(Options::default());
        let directory = registry.directory.path().to_owned();
        assert_eq!(processes(&directory), 2, "the guard and the registry");
        drop(registry);
        assert_eq!(processes(&directory), 0);
        assert!(!directory.exists());
    }

    #[test]
    #[should_panic(expected = "no docker-registry")]
    fn one_that_does_not_start_says_why() {
        // What `start` does, with a configuration that is none.
        let directory = tempfile::tempdir().expect("tempdir");
        drop(DockerRegistry::run(directory, Options::default(), &json!({ "version": "9" })));
    }
}
