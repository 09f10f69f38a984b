"""What a user of the same machine would try on a sandbox. Prints the error of each attempt, 0 for none."""

import ctypes
import json
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
given = json.loads(sys.argv[1])
PTRACE_SEIZE, PTRACE = 0x4206, 101


def connect(path):
    """A connection that the other side ends at once is one that was refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.settimeout(30)
        made.connect(path)
        try:
            made.sendall(bytes.fromhex(given["call"]))
            answer = made.recv(1)
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise ConnectionResetError(104, "")


def trace(process):
    child = os.fork()
    if child == 0:
        refused = libc.syscall(PTRACE, PTRACE_SEIZE, process, None, None)
        os._exit(ctypes.get_errno() if refused else 0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, "")


def create(path):
    os.mkdir(path)
    os.rmdir(path)


attempts = {
    "connect": lambda: connect(given["socket"]),
    "connect through a descriptor": lambda: connect(f"/proc/self/fd/{given['directory']}/control.sock"),
}
for path in given["files"]:
    attempts[f"read {path}"] = lambda path=path: open(path, "rb").close()
    attempts[f"write {path}"] = lambda path=path: open(path, "ab").close()
for path in given["directories"]:
    attempts[f"list {path}"] = lambda path=path: os.listdir(path)
    attempts[f"change {path}"] = lambda path=path: create(path + "/mine")
for name, process in given["processes"].items():
    for file in ["mem", "environ", "maps"]:
        path = f"/proc/{process}/{file}"
        attempts[f"{name}: {file}"] = lambda path=path: open(path, "rb").read(1)
    attempts[f"{name}: fd"] = lambda process=process: os.listdir(f"/proc/{process}/fd")
    attempts[f"{name}: trace"] = lambda process=process: trace(process)
    attempts[f"{name}: signal"] = lambda process=process: os.kill(process, 0)

results = {}
for name, attempt in attempts.items():
    try:
        attempt()
        results[name] = 0
    except OSError as error:
        # Reading nothing of an own process's memory is an I/O error: it was opened.
        results[name] = 0 if error.errno == 5 else error.errno
print(json.dumps(results))
