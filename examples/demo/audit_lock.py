"""What an agent does for a living, small: look around, then audit a Cargo.lock from standard input.

Everything it says about the machine is about the sandbox. It uses nothing but the standard library
of the host's own Python, which the sandbox sees read-only.
"""

import collections
import os
import platform
import socket
import sys
import time

MARK = "/usr/share/matchlock-demo-was-here"


def look_around():
    print(f"kernel      {platform.system()} {platform.release()}")
    with open("/proc/1/comm", encoding="ascii") as comm:
        print(f"process 1   {comm.read().strip()}")
    print(f"user        uid {os.getuid()}, home {os.environ.get('HOME', 'none')}")
    for path in ("/home", "/root", "/etc/shadow", "/var/run/docker.sock"):
        print(f"{path:<22}{contents(path)}")
    print(f"network     {network()}")


def contents(path):
    try:
        if os.path.isdir(path):
            entries = os.listdir(path)
            return f"{len(entries)} entries" if entries else "empty"
        with open(path, "rb") as file:
            return f"readable, {len(file.read())} bytes"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def network():
    interfaces = sorted(name for _, name in socket.if_nameindex())
    devices = [name for name in interfaces if os.path.exists(f"/sys/class/net/{name}/device")]
    if devices:
        return f"devices {', '.join(devices)}"
    # An address of TEST-NET-1 (RFC 5737): nobody's. Tried only where no packet can get out.
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=2).close()
        return "connected"
    except OSError as error:
        return f"no device; a connection says: {error.strerror or error}"


def leave_a_mark():
    """The writable layer is the sandbox's own: nothing of this gets to the host."""
    try:
        with open(MARK, "x", encoding="ascii") as file:
            file.write("from the sandbox\n")
        print(f"wrote       {MARK}")
    except OSError as error:
        print(f"wrote       nothing to {MARK}: {error.strerror}")


def audit(lock):
    packages, wanted_by, name = [], collections.Counter(), None
    for line in lock:
        key, _, value = line.partition(" = ")
        if key == "name":
            name = value.strip().strip('"')
        elif key == "version" and name:
            packages.append((name, value.strip().strip('"')))
        elif line.startswith(' "'):
            wanted_by[line.strip().strip('",').split(" ")[0]] += 1
    versions = collections.defaultdict(list)
    for name, version in packages:
        versions[name].append(version)
    twice = {name: found for name, found in versions.items() if len(found) > 1}
    print(f"packages    {len(packages)}, of {len(versions)} names")
    doubles = ", ".join(f"{name} {'/'.join(found)}" for name, found in twice.items())
    print(f"twice       {doubles or 'none'}")
    top = ", ".join(f"{name} ({count})" for name, count in wanted_by.most_common(5))
    print(f"wanted most {top}")


def main():
    start = time.perf_counter()
    look_around()
    leave_a_mark()
    audit(sys.stdin)
    print(f"took        {(time.perf_counter() - start) * 1000:.0f} ms in the sandbox")


main()
