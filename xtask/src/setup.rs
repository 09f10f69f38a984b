//! `cargo xtask setup`, and what the other commands call first: installs what is missing.
//!
//! Programs come from the distribution. As root on a Debian system they are installed; elsewhere
//! the command to do that is printed and the call fails, for an installation on someone's own
//! machine is theirs to start.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::run;
use crate::workspace::Workspace;

const MUSL: &str = "x86_64-unknown-linux-musl";
const AARCH64: &str = "aarch64-unknown-linux-musl";
pub(crate) const GNU: &str = "x86_64-unknown-linux-gnu";

/// A program that something here runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A C compiler for the host: the linker of Rust programs, and the C code of zstd.
    CCompiler,
    /// A C++ compiler for the host: libFuzzer is C++.
    CxxCompiler,
    /// The C compiler for musl, for the C code in the static binary.
    MuslCompiler,
    /// The C compiler for aarch64: crates with C code compile it even to be checked.
    Aarch64Compiler,
    /// The virtual machine monitor.
    Qemu,
    /// An interpreter on the host, for `--image host` to bring into a sandbox.
    Python,
    /// What makes environments of the interpreter in `PATH`.
    Venv,
    /// `mke2fs` and `e2fsck`.
    E2fsprogs,
    /// Clients that the network tests run in a sandbox.
    Curl,
    Git,
    Node,
    Go,
    Requests,
    Httpx,
    Grpc,
    WebSockets,
    /// `javac`, and what runs its classes.
    Java,
    /// `openssl s_client`.
    Openssl,
    /// Servers whose reading of first bytes ours is held against.
    Nginx,
    Netty,
    /// `ip`, for the network namespace of the network tests.
    Iproute,
    /// Makes the root file system of the test images.
    Mmdebstrap,
    /// The registry that tests push to and pull from.
    DockerRegistry,
    /// Fills that registry, and is what pulling is compared to.
    Skopeo,
    /// What programs in a sandbox make sandboxes of their own with.
    Bubblewrap,
    /// An engine for containers, which a privileged sandbox runs.
    Docker,
    /// Traces programs in a sandbox.
    Strace,
    /// `fsck.erofs`, a second opinion on what the writer of EROFS writes.
    ErofsUtils,
}

/// What the network tests run, in a sandbox or around it.
pub(crate) const NETWORK_TESTS: [Need; 13] = [
    Need::Curl,
    Need::Git,
    Need::Node,
    Need::Go,
    Need::Requests,
    Need::Httpx,
    Need::Grpc,
    Need::WebSockets,
    Need::Java,
    Need::Openssl,
    Need::Nginx,
    Need::Netty,
    Need::Iproute,
];

/// What the tests of the guest run in a sandbox with the host's programs.
pub(crate) const GUEST_TESTS: [Need; 3] = [Need::Bubblewrap, Need::Docker, Need::Strace];

/// What the tests of images run on the host.
pub(crate) const IMAGE_TESTS: [Need; 3] = [Need::DockerRegistry, Need::Skopeo, Need::ErofsUtils];

/// A package manager: its name and the words that make it install.
type Manager = (&'static str, &'static str);

/// Where the scripts of packages look for programs, by APT's default.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const APT: Manager = ("apt-get", "apt-get install --no-install-recommends");
const DNF: Manager = ("dnf", "dnf install");
const PACMAN: Manager = ("pacman", "pacman -S");
const APK: Manager = ("apk", "apk add");

impl Need {
    fn program(self) -> &'static str {
        match self {
            Self::CCompiler => "cc",
            Self::CxxCompiler => "c++",
            Self::MuslCompiler => "musl-gcc",
            Self::Aarch64Compiler => "aarch64-linux-gnu-gcc",
            Self::Qemu => "qemu-system-x86_64",
            Self::Python => "python3",
            Self::Venv => "ensurepip",
            Self::E2fsprogs => "mke2fs",
            Self::Curl => "curl",
            Self::Git => "git",
            Self::Node => "node",
            Self::Go => "go",
            Self::Requests => "requests",
            Self::Httpx => "httpx",
            Self::Grpc => "grpc",
            Self::WebSockets => "websockets",
            Self::Java => "javac",
            Self::Openssl => "openssl",
            Self::Nginx => "nginx",
            Self::Netty => "netty-codec-http.jar",
            Self::Iproute => "ip",
            Self::Mmdebstrap => "mmdebstrap",
            Self::DockerRegistry => "docker-registry",
            Self::Skopeo => "skopeo",
            Self::ErofsUtils => "fsck.erofs",
            Self::Bubblewrap => "bwrap",
            Self::Docker => "dockerd",
            Self::Strace => "strace",
        }
    }

    fn is_there(self) -> bool {
        match self {
            // One in a home directory is none that a sandbox sees.
            Self::Python | Self::Node => ["/usr/bin", "/usr/local/bin"]
                .iter()
                .any(|dir| Path::new(dir).join(self.program()).exists()),
            // Modules of the interpreter that a sandbox sees, which need not be the one in `PATH`.
            Self::Requests | Self::Httpx | Self::Grpc | Self::WebSockets => {
                let import = format!("import {}", self.program());
                let mut python = Command::new("/usr/bin/python3");
                python.args(["-c", &import]).stderr(Stdio::null());
                python.status().is_ok_and(|status| status.success())
            }
            Self::Venv => {
                let mut python = Command::new("python3");
                python.args(["-c", "import venv, ensurepip"]).stderr(Stdio::null());
                python.status().is_ok_and(|status| status.success())
            }
            // Where Debian has the libraries of Java.
            Self::Netty => Path::new("/usr/share/java").join(self.program()).exists(),
            _ => run::find_program(self.program()).is_some(),
        }
    }

    /// The packages that bring the program, as this package manager's distribution names them.
    fn packages(self, manager: Manager) -> &'static str {
        match (self, manager) {
            (Self::CCompiler, APT) => "gcc libc6-dev",
            (Self::CCompiler, APK) => "gcc musl-dev",
            (Self::CCompiler, _) => "gcc",
            (Self::CxxCompiler, DNF) => "gcc-c++",
            (Self::CxxCompiler, PACMAN) => "gcc",
            (Self::CxxCompiler, _) => "g++",
            (Self::MuslCompiler, APT) => "musl-tools",
            (Self::MuslCompiler, DNF) => "musl-gcc",
            (Self::MuslCompiler, _) => "musl",
            (Self::Aarch64Compiler, APT) => "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
            (Self::Aarch64Compiler, PACMAN) => "aarch64-linux-gnu-gcc",
            (Self::Aarch64Compiler, _) => "gcc-aarch64-linux-gnu",
            (Self::Qemu, APT) => "qemu-system-x86",
            (Self::Qemu, DNF) => "qemu-system-x86-core",
            (Self::Qemu, APK) => "qemu-system-x86_64",
            (Self::Qemu, _) => "qemu-system-x86",
            (Self::Python, PACMAN) => "python",
            (Self::Python, _) => "python3",
            (Self::Venv, APT) => "python3-venv",
            (Self::Venv, PACMAN) => "python",
            (Self::Venv, _) => "python3",
            (Self::E2fsprogs, _) => "e2fsprogs",
            (Self::Node, _) => "nodejs",
            (Self::Go, APT) => "golang-go",
            (Self::Go, _) => "go",
            (Self::Requests, _) => "python3-requests",
            (Self::Httpx, _) => "python3-httpx",
            (Self::Grpc, _) => "python3-grpcio",
            (Self::WebSockets, _) => "python3-websockets",
            (Self::Java, APT) => "default-jdk-headless ca-certificates-java",
            (Self::Java, DNF) => "java-devel",
            (Self::Java, PACMAN) => "jdk-openjdk",
            (Self::Java, _) => "openjdk17-jdk",
            (Self::Iproute, APT | APK) => "iproute2",
            (Self::Iproute, _) => "iproute",
            (Self::ErofsUtils, _) => "erofs-utils",
            (Self::Bubblewrap, _) => "bubblewrap",
            (Self::Docker, APT) => "docker.io",
            (Self::Docker, DNF) => "moby-engine",
            (Self::Docker, _) => "docker",
            (Self::Nginx, APT) => "nginx-light",
            (Self::Nginx, _) => "nginx",
            (Self::Netty, APT) => "libnetty-java",
            (Self::Netty, _) => "netty",
            (
                Self::Curl
                | Self::Git
                | Self::Openssl
                | Self::Mmdebstrap
                | Self::Strace
                | Self::DockerRegistry
                | Self::Skopeo,
                _,
            ) => self.program(),
        }
    }
}

/// Installs all that building and testing need.
pub(crate) fn run() -> Result<()> {
    ensure(&[Need::CCompiler, Need::Qemu, Need::Python])?;
    let target = static_target(CCode::Yes)?;
    eprintln!("setup: complete; static programs are built for {}", target.triple);
    Ok(())
}

/// Makes sure that these programs are there.
///
/// # Errors
/// With the command to type when they are missing and are not ours to install.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs.iter().copied().filter(|need| !need.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let manager = manager();
    if manager != Some(APT) || !is_root() {
        bail!(advice(&missing, manager));
    }
    install(&missing)?;
    for need in missing {
        let program = need.program();
        ensure!(need.is_there(), "{program} is still missing");
        eprintln!("setup: installed {} for {program}", need.packages(APT));
    }
    Ok(())
}

fn advice(missing: &[Need], manager: Option<Manager>) -> String {
    let programs: Vec<_> = missing.iter().map(|need| need.program()).collect();
    let missing_programs = programs.join(", ");
    let Some(manager) = manager else {
        return format!("missing programs: {missing_programs}; install them and call again");
    };
    let packages: Vec<_> = missing.iter().map(|need| need.packages(manager)).collect();
    let (_, install) = manager;
    let packages = packages.join(" ");
    format!(
        "missing programs: {missing_programs}; install them and call again:\n  sudo {install} {packages}"
    )
}

fn install(missing: &[Need]) -> Result<()> {
    let packages = missing.iter().flat_map(|need| need.packages(APT).split(' '));
    refresh()?;
    let no_services = no_services().context("cannot keep packages from starting services")?;
    let path = format!("DPkg::Path={}:{SYSTEM_PATH}", no_services.path().display());
    run::checked(
        quiet_apt()
            .args(["-qq", "-y", "install", "--no-install-recommends", "-o", &path])
            .args(packages),
    )
    .context("cannot install Debian packages")
}

/// Has APT read again what its sources have.
pub(crate) fn refresh() -> Result<()> {
    run::checked(quiet_apt().args(["-qq", "update"])).context("cannot refresh the package lists")
}

/// Programs that do nothing, in the place of those with which packages start and enable services
/// (invoke-rc.d(8), deb-systemd-helper(1p)): we want the programs, not a registry on this machine.
fn no_services() -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    for name in ["invoke-rc.d", "update-rc.d", "deb-systemd-invoke", "deb-systemd-helper"] {
        std::os::unix::fs::symlink("/bin/true", directory.path().join(name))?;
    }
    Ok(directory)
}

fn quiet_apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    // Docker and the registry are for tests: no service starts with their packages.
    command.env("SYSTEMD_OFFLINE", "1").env("RUNLEVEL", "1");
    command
}

fn manager() -> Option<Manager> {
    [APT, DNF, PACMAN, APK].into_iter().find(|(program, _)| run::find_program(program).is_some())
}

fn is_root() -> bool {
    run::output(Command::new("id").arg("-u")).is_ok_and(|uid| uid == "0")
}

/// Whether a static program has C code in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CCode {
    /// Only Rust: the target's own linker input is enough.
    No,
    /// A C compiler for the target is needed.
    Yes,
}

/// How to build programs that need no shared library.
#[derive(Debug)]
pub(crate) struct StaticTarget {
    /// Target triple for Cargo.
    pub(crate) triple: &'static str,
    flags: &'static [&'static str],
}

impl StaticTarget {
    /// Adds the target and the compiler's flags to a call of Cargo.
    ///
    /// The flags also take the builder's directories out of panic messages, so that the same
    /// sources give the same bytes wherever they lie.
    pub(crate) fn apply(&self, cargo: &mut Command, workspace: &Workspace) {
        let mut more = vec![remap(workspace.root(), "matchlock")];
        more.extend(cargo_home().map(|home| remap(&home, "cargo")));
        self.apply_with(cargo, &more);
    }

    /// The same with the builder's directories as they are.
    pub(crate) fn apply_unmapped(&self, cargo: &mut Command) {
        self.apply_with(cargo, &[]);
    }

    fn apply_with(&self, cargo: &mut Command, more: &[String]) {
        let flags: Vec<_> =
            self.flags.iter().copied().chain(more.iter().map(String::as_str)).collect();
        cargo.args(["--target", self.triple]);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    }
}

fn remap(directory: &Path, name: &str) -> String {
    format!("--remap-path-prefix={}={name}", directory.display())
}

fn cargo_home() -> Option<std::path::PathBuf> {
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(Into::into).or_else(home)
}

/// The target for static programs: musl, or glibc linked statically where musl cannot be had.
pub(crate) fn static_target(c_code: CCode) -> Result<StaticTarget> {
    if cfg!(not(all(target_arch = "x86_64", target_os = "linux"))) {
        bail!("matchlock is built on x86_64 Linux only, so far");
    }
    ensure(&[Need::CCompiler])?;
    match musl(c_code) {
        Ok(()) => Ok(StaticTarget { triple: MUSL, flags: &["-Ctarget-feature=+crt-static"] }),
        Err(error) => {
            eprintln!("setup: {error:#}; static programs are linked with glibc instead");
            let flags = &["-Ctarget-feature=+crt-static", "-Crelocation-model=static"];
            Ok(StaticTarget { triple: GNU, flags })
        }
    }
}

fn musl(c_code: CCode) -> Result<()> {
    if c_code == CCode::Yes {
        ensure(&[Need::MuslCompiler])?;
    }
    add_std(MUSL)
}

/// Makes sure that programs for aarch64 can be checked, and tells Cargo how.
///
/// # Errors
/// When this machine cannot have what that takes.
pub(crate) fn for_aarch64(cargo: &mut Command) -> Result<()> {
    ensure(&[Need::Aarch64Compiler])?;
    add_std(AARCH64)?;
    cargo.args(["--target", AARCH64]);
    // Nothing is linked, so the headers of glibc do for musl.
    cargo.env("CC_aarch64_unknown_linux_musl", Need::Aarch64Compiler.program());
    Ok(())
}

fn add_std(triple: &str) -> Result<()> {
    if has_std(triple) {
        return Ok(());
    }
    run::output(Command::new("rustup").args(["target", "add", triple]))
        .with_context(|| format!("cannot install the Rust target {triple}"))?;
    ensure!(has_std(triple), "rustup did not bring the standard library for {triple}");
    eprintln!("setup: installed the Rust target {triple}");
    Ok(())
}

/// Whether the toolchain has the standard library of a target.
fn has_std(triple: &str) -> bool {
    let mut rustc = Command::new("rustc");
    let Ok(directory) = run::output(rustc.args(["--print", "target-libdir", "--target", triple]))
    else {
        return false;
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_installed_starts_no_service() -> Result<()> {
        let directory = no_services()?;
        let path = format!("{}:{SYSTEM_PATH}", directory.path().display());
        // As the script of a package calls it, which Debian's own answers with a usage.
        let mut script = Command::new("/bin/sh");
        script.args(["-c", "command -v invoke-rc.d && invoke-rc.d nothing start"]);
        let program = run::output(script.env("PATH", path))?;
        assert!(Path::new(&program).starts_with(directory.path()));
        Ok(())
    }

    #[test]
    fn the_advice_is_a_command_to_type() {
        let text = advice(&[Need::Qemu, Need::MuslCompiler], Some(APT));
        assert!(
            text.ends_with(
                "sudo apt-get install --no-install-recommends qemu-system-x86 musl-tools"
            )
        );
        let text = advice(&[Need::Python], Some(PACMAN));
        assert!(text.ends_with("sudo pacman -S python"));
        let text = advice(&[Need::Qemu], None);
        assert!(text.contains("qemu-system-x86_64"));
    }
}
