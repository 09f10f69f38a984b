//! The program's process, from its start to its `execve`.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use matchlock_proto::{ExecFailure, ExecRequest};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::environment::{Environment, candidates, excerpt};
use super::limits;
use super::process::system;
use super::user::{Accounts, Identity};
use crate::{Guest, sys};

/// Runs scripts without an interpreter line, as execvp(3) does.
const SHELL: &CStr = c"/bin/sh";

/// Becomes the program; returns only why it could not.
pub(crate) fn execute(guest: &Guest, request: &ExecRequest) -> ExecFailure {
    prepare(guest, request).map_or_else(|failure| failure, |image| image.execute())
}

fn prepare(guest: &Guest, request: &ExecRequest) -> Result<Image, ExecFailure> {
    rustix::process::setsid().map_err(|e| system("start a session", e))?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    if request.tty.is_some() {
        let terminal = rustix::stdio::stdin();
        rustix::process::ioctl_tiocsctty(terminal).map_err(|e| system("take the terminal", e))?;
    }
    let accounts = Accounts::read(Path::new("/")).map_err(|e| system("read the accounts", e))?;
    let user = accounts.resolve(request.user.as_deref().unwrap_or_default());
    let user = user.map_err(ExecFailure::User)?;
    let image = Image::new(guest, request, &user)?;
    limits::set(&guest.ulimits)?;
    guest.confinement.apply().map_err(|(what, error)| system(what, error))?;
    become_user(&user).map_err(|e| system("change the user", e))?;
    guest.confinement.drop_privileges().map_err(|e| system("drop capabilities", e))?;
    enter(request.working_dir.as_deref().unwrap_or(b"/"))?;
    Ok(image)
}

fn become_user(user: &Identity) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if user.uid != 0 {
        own_streams(uid)?;
    }
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Lets the user open `/dev/stdout` and its terminal by name.
fn own_streams(uid: Uid) -> Result<(), Errno> {
    use rustix::fs::{FileType, fchown, fstat};
    use rustix::stdio::{stderr, stdin, stdout};
    for stream in [stdin(), stdout(), stderr()] {
        // Not /dev/null, which everybody shares.
        let is_null = {
            let stat = fstat(stream)?;
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
                && !rustix::termios::isatty(stream)
        };
        if !is_null {
            fchown(stream, Some(uid), None)?;
        }
    }
    Ok(())
}

/// As the user who runs the program: a directory that is closed to it is no place to start in.
fn enter(directory: &[u8]) -> Result<(), ExecFailure> {
    rustix::process::chdir(directory).map_err(|errno| {
        ExecFailure::WorkingDirectory(format!("{}: {}", excerpt(directory), io::Error::from(errno)))
    })
}

/// What remains to be executed.
struct Image {
    argv: Vec<CString>,
    envp: Vec<CString>,
    candidates: Vec<CString>,
}

impl Image {
    fn new(guest: &Guest, request: &ExecRequest, user: &Identity) -> Result<Self, ExecFailure> {
        let bad = |what: String| ExecFailure::BadRequest(what);
        let tty = request.tty.is_some();
        let environment = Environment::merge(&guest.env, &user.home, &request.env, tty);
        let program = request.argv.first().ok_or_else(|| bad("no program".into()))?;
        let path = environment.get(b"PATH").unwrap_or_default();
        let strings = |all: &[Vec<u8>], what: &str| {
            let string = |bytes: &Vec<u8>| CString::new(bytes.as_slice());
            all.iter().map(string).collect::<Result<_, _>>().map_err(|_| bad(what.to_owned()))
        };
        Ok(Self {
            argv: strings(&request.argv, "an argument has a zero byte")?,
            envp: environment.to_strings().map_err(bad)?,
            candidates: strings(&candidates(program, path), "PATH has a zero byte")?,
        })
    }

    /// Tries the candidates in turn; a file that is there counts more than all that are not.
    fn execute(&self) -> ExecFailure {
        let argv: Vec<&CStr> = self.argv.iter().map(CString::as_c_str).collect();
        let envp: Vec<&CStr> = self.envp.iter().map(CString::as_c_str).collect();
        let mut unusable = None;
        for path in &self.candidates {
            let error = sys::exec(path, &argv, &envp);
            let error = match error.raw_os_error() {
                Some(libc::ENOEXEC) => execute_script(path, &argv, &envp),
                _ => error,
            };
            match error.raw_os_error() {
                Some(libc::ENOENT) if Path::new(OsStr::from_bytes(path.to_bytes())).exists() => {
                    unusable.get_or_insert((path, "its interpreter is missing".to_owned()));
                }
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => {
                    unusable.get_or_insert((path, error.to_string()));
                }
                _ => return not_executable(path, &error.to_string()),
            }
        }
        match unusable {
            Some((path, why)) => not_executable(path, &why),
            None => ExecFailure::NotFound(
                self.argv.first().map_or_else(String::new, |name| excerpt(name.to_bytes())),
            ),
        }
    }
}

fn execute_script(path: &CStr, argv: &[&CStr], envp: &[&CStr]) -> io::Error {
    let arguments = argv.get(1..).unwrap_or_default();
    sys::exec(SHELL, &[&[SHELL, path], arguments].concat(), envp)
}

fn not_executable(path: &CStr, why: &str) -> ExecFailure {
    ExecFailure::NotExecutable(format!("{}: {why}", excerpt(path.to_bytes())))
}
