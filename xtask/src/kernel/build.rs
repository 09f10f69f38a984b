//! The build itself: packages, source, configuration, compilation.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::config::{self, Config};
use super::manifest::{self, Artefact, Entry, FileDigest, Manifest};
use super::{Args, Variant};

/// What a kernel build needs beside the source package.
const PACKAGES: &[&str] = &[
    "bc",
    "bison",
    "binutils",
    "flex",
    "gcc",
    "libc6-dev",
    "libelf-dev",
    "make",
    "patch",
    "perl",
    "xz-utils",
];

/// Fixed, so that the same source, configuration and compiler give the same bytes.
const REPRODUCIBLE: &[(&str, &str)] = &[
    ("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 2026"),
    ("KBUILD_BUILD_USER", "matchlock"),
    ("KBUILD_BUILD_HOST", "matchlock"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("LC_ALL", "C"),
];

/// Builds one variant and writes configuration, kernel and manifest into `dir` (`guest/kernel`);
/// `work` is a scratch folder that is kept, so that a second build is quick.
pub(super) fn build(args: &Args, dir: &Path, work: &Path) -> Result<()> {
    let variant = args.variant;
    let tools = Tools::of(variant);
    install_packages(&args.source_package, &tools)?;
    let source_version = package_version(&args.source_package)?;
    let source = unpack_source(&args.source_package, &source_version, dir, work)?;
    let out = work.join(format!("build-{}", variant.name()));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;

    let make = |target: &str| -> Command {
        let mut command = Command::new("make");
        command.arg("-C").arg(&source).arg(format!("O={}", out.display()));
        command.arg(format!("ARCH={}", tools.arch));
        if let Some(prefix) = tools.cross {
            command.arg(format!("CROSS_COMPILE={prefix}"));
        }
        command.arg(target).envs(REPRODUCIBLE.iter().copied());
        command
    };

    let request = config::read_all(dir, variant.fragments())?;
    let merged = out.join("merged.fragment");
    fs::write(&merged, request.render())
        .with_context(|| format!("cannot write {}", merged.display()))?;
    run(make("allnoconfig").arg("-s").env("KCONFIG_ALLCONFIG", &merged))?;
    let resulting = out.join(".config");
    let result = config::read(&resulting)?;
    verify(variant, dir, &request, &result)?;
    copy(&resulting, &dir.join(variant.config()))?;
    println!("configuration: all requests and promises hold");

    let artefact = if args.config_only {
        None
    } else {
        let jobs =
            args.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
        run(make(tools.target).arg("-s").arg(format!("-j{jobs}")))?;
        let kernel = out.join("kernel.stripped");
        if tools.strip {
            run(Command::new(tools.tool("strip"))
                .args(["--strip-all", "-o"])
                .arg(&kernel)
                .arg(out.join(tools.output)))?;
        } else {
            copy(&out.join(tools.output), &kernel)?;
        }
        Some(pack(dir, variant, &tools, &kernel)?)
    };

    let upstream_version = output(make("kernelversion").arg("-s"))?;
    let mut manifest = Manifest::load_or_default(dir)?;
    manifest.put(Entry {
        variant: variant.name().to_owned(),
        arch: variant.arch().to_owned(),
        source_package: args.source_package.clone(),
        source_version,
        upstream_version,
        patches: manifest::patches(dir)?
            .iter()
            .map(|file| FileDigest::of(dir, file))
            .collect::<Result<_>>()?,
        fragments: variant
            .fragments()
            .iter()
            .map(|file| FileDigest::of(dir, file))
            .collect::<Result<_>>()?,
        config: FileDigest::of(dir, variant.config())?,
        artefact,
        rebuild: variant.rebuild().to_owned(),
        license: "GPL-2.0-only".to_owned(),
    });
    manifest.store(dir)
}

/// How one architecture is compiled.
struct Tools {
    /// Kernel's name of the architecture.
    arch: &'static str,
    /// Prefix of a cross compiler.
    cross: Option<&'static str>,
    /// Package of the cross compiler.
    cross_package: Option<&'static str>,
    /// Make target.
    target: &'static str,
    /// Where make leaves the kernel.
    output: &'static str,
    /// Whether that is an ELF file with symbols.
    strip: bool,
}

impl Tools {
    fn of(variant: Variant) -> Self {
        match variant {
            Variant::Guest | Variant::KvmHost => Self {
                arch: "x86_64",
                cross: None,
                cross_package: None,
                target: "vmlinux",
                output: "vmlinux",
                strip: true,
            },
            Variant::GuestAarch64 => Self {
                arch: "arm64",
                cross: Some("aarch64-linux-gnu-"),
                cross_package: Some("gcc-aarch64-linux-gnu"),
                target: "Image",
                output: "arch/arm64/boot/Image",
                strip: false,
            },
        }
    }

    fn tool(&self, name: &str) -> String {
        format!("{}{name}", self.cross.unwrap_or_default())
    }
}

/// Fails with the full list of what Kconfig dropped or switched on, if anything.
fn verify(variant: Variant, dir: &Path, request: &Config, result: &Config) -> Result<()> {
    let lost = request.unmet_by(result);
    if !lost.is_empty() {
        bail!(
            "{} requested options did not survive Kconfig (renamed, or a dependency is missing):\n  {}",
            lost.len(),
            lost.join("\n  ")
        );
    }
    let broken = config::read_all(dir, variant.promises())?.unmet_by(result);
    if !broken.is_empty() {
        bail!("{} promises are broken:\n  {}", broken.len(), broken.join("\n  "));
    }
    Ok(())
}

/// Compresses the kernel into `dir` and describes it.
fn pack(dir: &Path, variant: Variant, tools: &Tools, kernel: &Path) -> Result<Artefact> {
    let bytes = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let packed = zstd::encode_all(bytes.as_slice(), 19).context("cannot compress the kernel")?;
    let file = dir.join(variant.artefact());
    fs::write(&file, &packed).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}: {} bytes, {} compressed", variant.artefact(), bytes.len(), packed.len());
    Ok(Artefact {
        file: variant.artefact().to_owned(),
        sha256: manifest::sha256(&packed),
        bytes: packed.len() as u64,
        unpacked_sha256: manifest::sha256(&bytes),
        unpacked_bytes: bytes.len() as u64,
        compiler: first_line(Command::new(tools.tool("gcc")).arg("--version"))?,
        linker: first_line(Command::new(tools.tool("ld")).arg("--version"))?,
    })
}

/// Installs the Debian packages that are missing; needs root for that.
fn install_packages(source_package: &str, tools: &Tools) -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .copied()
        .chain([source_package])
        .chain(tools.cross_package)
        .filter(|package| package_version(package).is_err())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install --no-install-recommends -y {}", missing.join(" "));
    if output(Command::new("id").arg("-u"))? != "0" {
        bail!("packages are missing; as root, run: {command}");
    }
    println!("{command}");
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get")
        .args(["install", "--no-install-recommends", "-y"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The installed version of a Debian package.
fn package_version(package: &str) -> Result<String> {
    let answer = output(
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}${Version}"]).arg(package),
    )
    .with_context(|| format!("package {package} is not installed"))?;
    answer
        .strip_prefix("ii ")
        .map(str::to_owned)
        .with_context(|| format!("package {package} is not installed"))
}

/// Unpacks the source and applies our patches, once for each combination of the two.
fn unpack_source(package: &str, version: &str, dir: &Path, work: &Path) -> Result<PathBuf> {
    let patches = manifest::patches(dir)?;
    let mut key = format!("{package} {version}");
    for patch in &patches {
        key.push_str(&FileDigest::of(dir, patch)?.sha256);
    }
    let digest = manifest::sha256(key.as_bytes());
    let source = work.join(format!("source-{}", digest.get(..12).unwrap_or(&digest)));
    if source.exists() {
        return Ok(source);
    }
    let archive = Path::new("/usr/src").join(format!("{package}.tar.xz"));
    // Unpacked beside its place and then renamed: an interrupted run leaves nothing half done.
    let partial = source.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    println!("unpacking {package} {version}");
    run(Command::new("tar")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(&partial)
        .arg("--strip-components=1"))?;
    for patch in &patches {
        println!("applying {patch}");
        let file =
            fs::File::open(dir.join(patch)).with_context(|| format!("cannot open {patch}"))?;
        run(Command::new("patch")
            .args(["-p1", "--fuzz=0", "--silent", "-d"])
            .arg(&partial)
            .stdin(Stdio::from(file)))?;
    }
    fs::rename(&partial, &source).with_context(|| format!("cannot create {}", source.display()))?;
    Ok(source)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Runs a command to its successful end.
fn run(command: &mut Command) -> Result<()> {
    let name = display(command);
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed, trimmed.
fn output(command: &mut Command) -> Result<String> {
    let name = display(command);
    let output =
        command.stderr(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", output.status);
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("output of {name}"))?;
    Ok(text.trim().to_owned())
}

fn first_line(command: &mut Command) -> Result<String> {
    Ok(output(command)?.lines().next().unwrap_or_default().to_owned())
}

fn display(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}
