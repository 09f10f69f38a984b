"""What a monitor that was taken over would try. Prints the error of each attempt, 0 for none."""

import ctypes
import json
import os
import signal
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
given = json.loads(sys.argv[1])


def call(number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(number, *(ctypes.c_long(a) for a in arguments)) < 0:
        raise OSError(ctypes.get_errno(), "")


def in_child(what):
    """Its effect is for the whole process, so a child tries it."""
    child = os.fork()
    if child == 0:
        try:
            what()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fails_as_child(what):
    status = in_child(what)
    if status:
        raise OSError(status, "")


def connect(family, kind, address):
    with socket.socket(family, kind) as made:
        made.connect(address)


def redirect_pair(kind):
    with socket.socketpair(socket.AF_UNIX, kind)[0]:
        pass


PTRACE_SEIZE = 0x4206
NEWUSER, NEWNS = 0x10000000, 0x20000
SYS = {"clone": 56, "ptrace": 101, "mount": 165, "io_uring_setup": 425, "userfaultfd": 323,
       "bpf": 321, "perf_event_open": 298, "keyctl": 250, "pidfd_open": 434, "pidfd_getfd": 438,
       "open_by_handle_at": 304, "process_vm_readv": 310}

attempts = {
    "read a key": lambda: open(given["key"], "rb").close(),
    "list a home": lambda: os.listdir(os.path.dirname(given["key"])),
    "write a file": lambda: open(given["key"] + ".new", "wb").close(),
    "remove a file": lambda: os.unlink(given["removable"]),
    "read memory": lambda: open(f"/proc/{given['victim']}/mem", "rb").close(),
    "read an environment": lambda: open(f"/proc/{given['victim']}/environ", "rb").close(),
    "run a program": lambda: fails_as_child(lambda: os.execv("/bin/sh", ["sh", "-c", ":"])),
    "signal": lambda: os.kill(given["victim"], 0),
    "connect by TCP": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, tuple(given["tcp"])),
    "connect to a path": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, given["unix"]),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "a pair of datagrams": lambda: redirect_pair(socket.SOCK_DGRAM),
    "a pair of streams": lambda: redirect_pair(socket.SOCK_STREAM),
    "trace": lambda: fails_as_child(lambda: call(SYS["ptrace"], PTRACE_SEIZE, given["victim"], 0, 0)),
    "unshare a user namespace": lambda: fails_as_child(lambda: call(272, NEWUSER)),
    "clone into a user namespace": lambda: clone(NEWUSER),
    "clone": lambda: clone(0),
    "io_uring": lambda: call(SYS["io_uring_setup"], 0, 0),
    "userfaultfd": lambda: call(SYS["userfaultfd"], 1 << 20),
    "keyctl": lambda: call(SYS["keyctl"], 0, -3, 1),
    "use a capability": lambda: fails_as_child(lambda: os.chown(given["own"], 1, 1)),
}


def clone(flags):
    pid = libc.syscall(SYS["clone"], ctypes.c_long(flags | signal.SIGCHLD), None, None, None, None)
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "")
    os.waitpid(pid, 0)


results = {}
for name, attempt in attempts.items():
    try:
        attempt()
        results[name] = 0
    except OSError as error:
        results[name] = error.errno
print(json.dumps(results))
