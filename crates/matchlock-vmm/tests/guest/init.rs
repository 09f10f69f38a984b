//! The guest of `tests/devices.rs`: PID 1 of a machine that has nothing else.
//!
//! Built by the test with `rustc` alone, so it has no crates: the few calls that std lacks (vsock,
//! mount, power off) are declared here.

#![expect(unsafe_code, reason = "a fixture that runs in a guest only")]

use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

const AF_VSOCK: c_int = 40;
const SOCK_STREAM: c_int = 1;
const ANY: u32 = u32::MAX;
const HOST: u32 = 2;

#[repr(C)]
struct VsockAddr {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, addr: *const VsockAddr, len: u32) -> c_int;
    fn connect(fd: c_int, addr: *const VsockAddr, len: u32) -> c_int;
    fn listen(fd: c_int, backlog: c_int) -> c_int;
    fn accept(fd: c_int, addr: *mut c_void, len: *mut u32) -> c_int;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn reboot(command: c_int) -> c_int;
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn address(cid: u32, port: u32) -> VsockAddr {
    VsockAddr { family: AF_VSOCK as u16, reserved: 0, port, cid, zero: [0; 4] }
}

fn serve(port: u32, handle: fn(UnixStream) -> io::Result<()>) {
    thread::spawn(move || {
        let addr = address(ANY, port);
        // SAFETY: plain system calls on values that live long enough.
        let fd = unsafe {
            let fd = check(socket(AF_VSOCK, SOCK_STREAM, 0)).expect("socket");
            check(bind(fd, &raw const addr, size_of::<VsockAddr>() as u32)).expect("bind");
            check(listen(fd, 128)).expect("listen");
            fd
        };
        loop {
            // SAFETY: the address is not asked for, and the new descriptor is nobody else's. Reading,
            // writing and shutting down a stream socket is the same for every family.
            let stream = unsafe {
                let fd = check(accept(fd, std::ptr::null_mut(), std::ptr::null_mut()));
                UnixStream::from(OwnedFd::from_raw_fd(fd.expect("accept")))
            };
            thread::spawn(move || drop(handle(stream)));
        }
    });
}

/// Sends everything back.
fn echo(mut stream: UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// Reads to the end, then tells how much it was: half close.
fn count(mut stream: UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&total.to_le_bytes()),
            n => total += n as u64,
        }
    }
}

/// Sends as many bytes as it is told, counting up, and closes.
fn source(mut stream: UnixStream) -> io::Result<()> {
    let mut len = [0; 8];
    stream.read_exact(&mut len)?;
    let mut left = u64::from_le_bytes(len) as usize;
    let pattern: Vec<u8> = (0..256 * 1024).map(|i| (i % 251) as u8).collect();
    let pattern = &pattern[..251 * 1044];
    while left > 0 {
        let n = left.min(pattern.len());
        stream.write_all(&pattern[..n])?;
        left -= n;
    }
    Ok(())
}

/// Dials the host and tells the error number, 0 if it got through.
fn dial(mut stream: UnixStream) -> io::Result<()> {
    let mut port = [0; 4];
    stream.read_exact(&mut port)?;
    let addr = address(HOST, u32::from_le_bytes(port));
    // SAFETY: plain system calls on values that live long enough.
    let result = unsafe {
        let fd = check(socket(AF_VSOCK, SOCK_STREAM, 0))?;
        check(connect(fd, &raw const addr, size_of::<VsockAddr>() as u32))
    };
    let code = result.err().and_then(|e| e.raw_os_error()).unwrap_or(0);
    stream.write_all(&code.to_le_bytes())
}

/// Mounts the file system on first use and sends one of its files.
fn file(mut stream: UnixStream) -> io::Result<()> {
    static MOUNT: std::sync::Once = std::sync::Once::new();
    MOUNT.call_once(|| mount_at(c"root", c"/mnt", c"virtiofs").expect("mount virtiofs"));
    let mut name = String::new();
    stream.read_to_string(&mut name)?;
    io::copy(&mut File::open(format!("/mnt/{name}"))?, &mut stream).map(drop)
}

fn mount_at(source: &std::ffi::CStr, target: &std::ffi::CStr, kind: &std::ffi::CStr) -> io::Result<()> {
    std::fs::create_dir_all(target.to_str().expect("ASCII"))?;
    // SAFETY: all strings end with NUL, there is no data.
    let result = unsafe {
        mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null())
    };
    check(result).map(drop)
}

fn power_off(_: UnixStream) -> io::Result<()> {
    // SAFETY: ends the guest.
    unsafe { reboot(0x0123_4567) };
    Ok(())
}

fn main() {
    mount_at(c"dev", c"/dev", c"devtmpfs").expect("mount devtmpfs");
    serve(1000, echo);
    serve(1001, count);
    serve(1002, source);
    serve(1003, dial);
    serve(1004, file);
    serve(1005, power_off);
    loop {
        thread::park();
    }
}
