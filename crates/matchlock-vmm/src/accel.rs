//! Which accelerator runs the guest, and the proof that it can.
//!
//! A `/dev/kvm` proves nothing: a paravirtual KVM offers one on which ordinary kernels die, and a
//! nested one may be broken. So hardware virtualisation counts only after a guest has booted on it
//! and answered; the result is remembered until the machine, its kernel, the monitor or our guest
//! kernel changes.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Backend;
use crate::error::VmmError;

/// How long a guest may take to answer on KVM before it is asked whether KVM hangs or the machine is slow.
/// One nested on emulated hardware needs about 5 s.
const PROOF_TIMEOUT: Duration = Duration::from_secs(30);

/// How long is waited for KVM's guest before it is looked whether that of the emulation was faster.
const TURN: Duration = Duration::from_millis(500);

/// Turns after which nothing is expected any more: 10 minutes.
const TURNS: u32 = 1200;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualisation by Linux KVM.
    Kvm,
    /// QEMU's software emulation (Tiny Code Generator).
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// What the user asks for (`MATCHLOCK_ACCEL`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AcceleratorRequest {
    /// The best one that is proven to work.
    #[default]
    Auto,
    /// KVM without a proof, for a KVM that runs the given kernel only.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// The text is none of `auto`, `kvm` and `tcg`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown accelerator {0:?}: it is one of auto, kvm and tcg")]
pub struct UnknownAccelerator(String);

impl std::str::FromStr for AcceleratorRequest {
    type Err = UnknownAccelerator;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            other => Err(UnknownAccelerator(other.to_owned())),
        }
    }
}

/// A decision and its reason, for the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AcceleratorChoice {
    /// What runs the guest.
    pub accelerator: Accelerator,
    /// Why, as half a sentence.
    pub reason: String,
}

/// What a proof boots, and where its result is remembered.
#[derive(Debug, Clone, Copy)]
pub struct ProofKit<'a> {
    /// The guest kernel.
    pub kernel: &'a File,
    /// A text that changes when the kernel or the initramfs does.
    pub kernel_id: &'a str,
    /// The initramfs with the agent.
    pub initramfs: &'a File,
    /// Directory for the result; `None` proves every time.
    pub cache: Option<&'a Path>,
}

/// Chooses the accelerator of a back end.
///
/// # Errors
/// [`VmmError`] when the monitor cannot be run at all, or KVM is demanded and absent.
pub fn choose(
    request: AcceleratorRequest,
    backend: &dyn Backend,
    kit: ProofKit<'_>,
) -> Result<AcceleratorChoice, VmmError> {
    let decided = |accelerator, reason: &str| {
        Ok(AcceleratorChoice { accelerator, reason: reason.to_owned() })
    };
    match request {
        AcceleratorRequest::Tcg => decided(Accelerator::Tcg, "demanded by MATCHLOCK_ACCEL"),
        AcceleratorRequest::Kvm => match kvm_device() {
            Ok(()) => decided(Accelerator::Kvm, "demanded by MATCHLOCK_ACCEL"),
            Err(reason) => Err(VmmError::KvmUnusable { reason }),
        },
        AcceleratorRequest::Auto => match candidate() {
            Err(reason) => Ok(AcceleratorChoice { accelerator: Accelerator::Tcg, reason }),
            Ok(()) => match proven(backend, kit)? {
                Ok(()) => decided(Accelerator::Kvm, "a guest has booted on it"),
                Err(reason) => Ok(AcceleratorChoice {
                    accelerator: Accelerator::Tcg,
                    reason: format!("/dev/kvm is there but cannot run a guest: {reason}"),
                }),
            },
        },
    }
}

/// Whether KVM is worth a proof. Only this much is believed without one: that it is absent.
fn candidate() -> Result<(), String> {
    let modules = modules_of(Path::new("/sys/module"));
    if !Path::new("/dev/kvm").exists() {
        return Err("this machine has no /dev/kvm".to_owned());
    }
    if let Some(reason) = paravirtual(&modules) {
        return Err(reason);
    }
    kvm_device()
}

/// A KVM without the vendor's module runs guests by paravirtualisation only; its device is not even
/// opened.
fn paravirtual(modules: &[String]) -> Option<String> {
    let has = |name: &str| modules.iter().any(|module| module == name);
    if !cfg!(target_arch = "x86_64") || has("kvm_intel") || has("kvm_amd") || !has("kvm") {
        return None;
    }
    let other = modules.iter().find(|module| module.starts_with("kvm_"));
    let kind = other.map_or_else(String::new, |module| format!(" ({module})"));
    Some(format!("the KVM of this machine is a paravirtual one{kind} that runs no ordinary kernel"))
}

fn modules_of(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn kvm_device() -> Result<(), String> {
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    match opened {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err("no permission for /dev/kvm (add the user to the group kvm)".to_owned())
        }
        Err(error) => Err(format!("/dev/kvm cannot be opened: {error}")),
    }
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    key: String,
    result: Result<(), String>,
}

fn proven(backend: &dyn Backend, kit: ProofKit<'_>) -> Result<Result<(), String>, VmmError> {
    let key = key(backend, kit);
    let file = kit.cache.map(|dir| dir.join("kvm-proof.json"));
    let remembered = file
        .as_deref()
        .and_then(|file| std::fs::read(file).ok())
        .and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok())
        .filter(|remembered| remembered.key == key);
    if let Some(remembered) = remembered {
        return Ok(remembered.result);
    }
    let result = boots(backend, kit)?;
    if let Some(file) = file
        && let Ok(json) = serde_json::to_vec(&Remembered { key, result: result.clone() })
    {
        crate::cache::replace(&file, &json);
    }
    Ok(result)
}

/// Whether a guest boots on KVM. No time tells a slow machine from a KVM that hangs, but another guest
/// does: KVM hangs if that one boots by emulation, begun later, and is up before.
fn boots(backend: &dyn Backend, kit: ProofKit<'_>) -> Result<Result<(), String>, VmmError> {
    let begin = |accelerator| backend.prove(accelerator, kit.kernel, kit.initramfs);
    let proof = begin(Accelerator::Kvm)?;
    if let Some(result) = proof.wait(PROOF_TIMEOUT) {
        return Ok(result);
    }
    let emulated = begin(Accelerator::Tcg)?;
    for _ in 0..TURNS {
        if let Some(result) = proof.wait(TURN) {
            return Ok(result);
        }
        if emulated.wait(Duration::ZERO) == Some(Ok(())) {
            break;
        }
    }
    Ok(Err(proof.give_up()))
}

/// Everything whose change could change the result. The boot id stands for the machine's own state:
/// a proof of yesterday says nothing about modules loaded today.
fn key(backend: &dyn Backend, kit: ProofKit<'_>) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    [
        read("/proc/sys/kernel/random/boot_id"),
        read("/proc/sys/kernel/osrelease"),
        modules_of(Path::new("/sys/module"))
            .into_iter()
            .filter(|module| module.starts_with("kvm"))
            .collect::<Vec<_>>()
            .join(","),
        backend.fingerprint(),
        kit.kernel_id.to_owned(),
    ]
    .join("|")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Proof, Vmm};

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_paravirtual_kvm_counts_as_absent() {
        let reason = paravirtual(&names(&["kvm", "kvm_pvm"])).expect("paravirtual");
        assert!(reason.contains("kvm_pvm"));
        assert_eq!(paravirtual(&names(&["kvm", "kvm_amd"])), None);
        assert_eq!(paravirtual(&names(&["kvm", "kvm_intel", "kvm_pvm"])), None);
    }

    /// Guests that answer after so many waits; `None`: never.
    #[derive(Debug)]
    struct Scripted {
        kvm: Option<(u32, Result<(), String>)>,
        emulated: Option<(u32, Result<(), String>)>,
        begun: Mutex<Vec<Accelerator>>,
    }

    #[derive(Debug)]
    struct ScriptedProof {
        answer: Option<(u32, Result<(), String>)>,
        waits: Cell<u32>,
    }

    impl Proof for ScriptedProof {
        fn wait(&self, _: Duration) -> Option<Result<(), String>> {
            self.waits.set(self.waits.get() + 1);
            let answer = self.answer.as_ref().filter(|(after, _)| self.waits.get() > *after);
            answer.map(|(_, result)| result.clone())
        }

        fn give_up(self: Box<Self>) -> String {
            "silent".to_owned()
        }
    }

    impl Backend for Scripted {
        fn fingerprint(&self) -> String {
            String::new()
        }

        fn prove(
            &self,
            accelerator: Accelerator,
            _: &File,
            _: &File,
        ) -> Result<Box<dyn Proof>, VmmError> {
            self.begun.lock().expect("lock").push(accelerator);
            let is_kvm = accelerator == Accelerator::Kvm;
            let answer = if is_kvm { &self.kvm } else { &self.emulated };
            Ok(Box::new(ScriptedProof { answer: answer.clone(), waits: Cell::new(0) }))
        }

        fn on(&self, _: Accelerator) -> Arc<dyn Vmm> {
            unreachable!("nothing is run")
        }
    }

    type Answer = Option<(u32, Result<(), String>)>;

    /// The result, and what was booted for it.
    fn decided(kvm: Answer, emulated: Answer) -> (Result<(), String>, Vec<Accelerator>) {
        let backend = Scripted { kvm, emulated, begun: Mutex::default() };
        let file = File::open("/dev/null").expect("open");
        let kit = ProofKit { kernel: &file, kernel_id: "", initramfs: &file, cache: None };
        let result = proven(&backend, kit).expect("decided");
        (result, backend.begun.into_inner().expect("lock"))
    }

    #[test]
    fn a_kvm_that_answers_in_time_is_judged_alone() {
        let alone = vec![Accelerator::Kvm];
        assert_eq!(decided(Some((0, Ok(()))), None), (Ok(()), alone.clone()));
        let broken = Err("it breaks".to_owned());
        assert_eq!(decided(Some((0, broken.clone())), None), (broken, alone));
    }

    #[test]
    fn a_slow_kvm_works_if_emulation_is_slower() {
        let both = vec![Accelerator::Kvm, Accelerator::Tcg];
        assert_eq!(decided(Some((100, Ok(()))), Some((100, Ok(())))), (Ok(()), both.clone()));
        // An emulation that does not work says nothing of KVM.
        let broken = Err("no emulator".to_owned());
        assert_eq!(decided(Some((100, Ok(()))), Some((0, broken))), (Ok(()), both));
    }

    #[test]
    fn a_kvm_that_hangs_is_given_up() {
        let both = vec![Accelerator::Kvm, Accelerator::Tcg];
        let silent = || (Err("silent".to_owned()), both.clone());
        assert_eq!(decided(None, Some((3, Ok(())))), silent());
        assert_eq!(decided(Some((100, Ok(()))), Some((3, Ok(())))), silent());
        assert_eq!(decided(None, None), silent(), "nor is it waited for ever for both");
    }

    #[test]
    fn requests_are_parsed_strictly() {
        assert_eq!("kvm".parse(), Ok(AcceleratorRequest::Kvm));
        assert_eq!("".parse(), Ok(AcceleratorRequest::Auto));
        assert!("KVM ".parse::<AcceleratorRequest>().is_err());
    }
}
