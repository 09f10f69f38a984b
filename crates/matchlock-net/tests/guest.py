"""A guest made of a real kernel: a TAP in a network namespace of its own, pumped to a socket of frames.

usage: guest.py SOCKET CA_FILE NAME HTTPS_PORT HTTP_PORT
Ends with 0 if all is as it should be, with 77 and a reason if the machine does not permit a TAP.
"""
import ctypes, fcntl, os, signal, socket, ssl, struct, subprocess, sys, threading

SOCKET, CA_FILE, NAME = sys.argv[1:4]
HTTPS_PORT, HTTP_PORT = int(sys.argv[4]), int(sys.argv[5])
GATEWAYS = ("198.18.0.1", "fd6d:6c6b::1")
MTU = 65520
LIMIT = 60


def ip(*arguments):
    subprocess.run(("ip",) + arguments, check=True)


def make_tap():
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1002))
    except OSError as error:
        print("no TAP device:", error)
        sys.exit(77)
    with open("/proc/sys/net/ipv6/conf/eth0/accept_ra", "w") as file:
        file.write("0")
    ip("link", "set", "dev", "eth0", "address", "02:6d:6c:00:00:02", "mtu", str(MTU), "up")
    ip("addr", "add", "198.18.0.2/15", "dev", "eth0")
    ip("-6", "addr", "add", "fd6d:6c6b::2/64", "dev", "eth0", "nodad")
    ip("route", "add", "default", "via", GATEWAYS[0])
    ip("-6", "route", "add", "default", "via", GATEWAYS[1])
    return tap


def pump(tap, wire):
    """Frames both ways, in a process of its own that dies with its parent."""
    if os.fork():
        return
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

    def out():
        while True:
            frame = os.read(tap, 70000)
            wire.sendall(struct.pack(">I", len(frame)) + frame)

    threading.Thread(target=out, daemon=True).start()
    source = wire.makefile("rb")
    while head := source.read(4):
        os.write(tap, source.read(struct.unpack(">I", head)[0]))
    os._exit(0)


def question(name, kind):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def parse(answer, query, kind):
    """The only address of an answer, or None for a name that does not exist."""
    code, count = answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
    if code == 3:
        return None
    assert code == 0 and count == 1, (code, count)
    size = 4 if kind == 1 else 16
    at = answer.index(struct.pack(">H", size), len(query) + 8) + 2
    return socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, answer[at : at + size])


def resolve(name, kind, gateway):
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.settimeout(LIMIT)
        server.connect((gateway, 53))
        server.send(question(name, kind))
        return parse(server.recv(4096), question(name, kind), kind)


def resolve_over_tcp(name):
    query = question(name, 1)
    with socket.create_connection((GATEWAYS[0], 53), LIMIT) as server:
        server.sendall(struct.pack(">H", len(query)) + query)
        source = server.makefile("rb")
        return parse(source.read(struct.unpack(">H", source.read(2))[0]), query, 1)


def session(address, server_name):
    trust = ssl.create_default_context(cafile=CA_FILE)
    trust.set_alpn_protocols(["http/1.1"])
    stream = socket.create_connection((address, HTTPS_PORT), LIMIT)
    return trust.wrap_socket(stream, server_hostname=server_name)


def request(stream, host, path, body=b""):
    method = "POST" if body else "GET"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}Connection: close\r\n\r\n"
    stream.sendall(head.encode() + body)
    answer = b"".join(iter(lambda: stream.recv(1 << 18), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def refused(call):
    try:
        call()
    except ConnectionRefusedError:
        return True
    return False


def udp_refused(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray:
        stray.settimeout(LIMIT)
        stray.connect((address, port))
        stray.send(b"x")
        return refused(lambda: stray.recv(1))


def main():
    tap = make_tap()
    wire = socket.socket(socket.AF_UNIX)
    wire.connect(SOCKET)
    pump(tap, wire)

    addresses = [resolve(NAME, 1, GATEWAYS[0]), resolve(NAME, 28, GATEWAYS[1])]
    assert addresses[0].startswith("198.19.") and addresses[1].startswith("fd6d:6c6b:0:1:"), addresses
    assert resolve_over_tcp(NAME) == addresses[0]
    assert resolve("evil.example", 1, GATEWAYS[0]) is None

    https, http = f"{NAME}:{HTTPS_PORT}", f"{NAME}:{HTTP_PORT}"
    for address in addresses:
        assert request(session(address, NAME), https, "/echo")[0] == 200
        assert request(session(address, NAME), "evil.example", "/echo")[0] == 421
    status, body = request(session(addresses[0], NAME), https, "/bytes/20000000")
    assert (status, len(body)) == (200, 20_000_000), (status, len(body))
    status, body = request(session(addresses[1], NAME), https, "/upload", b"x" * 5_000_000)
    assert status == 200 and b"5000000" in body, (status, body)
    plain = socket.create_connection((addresses[0], HTTP_PORT), LIMIT)
    assert request(plain, http, "/echo")[0] == 200

    try:
        session(addresses[0], "evil.example")
        raise AssertionError("another server name was accepted")
    except ssl.SSLError:
        pass
    for address in ("93.184.215.14", "198.18.0.1", "198.19.200.200"):
        assert refused(lambda: socket.create_connection((address, 443), LIMIT)), address
    assert udp_refused("93.184.215.14", 443)

    curl = ["curl", "-sS", "--http2", "--cacert", CA_FILE, "--max-time", str(LIMIT)]
    curl += ["--resolve", f"{NAME}:{HTTPS_PORT}:{addresses[0]}", "-w", "%{http_version}", "-o", "/dev/null"]
    try:
        version = subprocess.run(curl + [f"https://{https}/echo"], check=True, stdout=subprocess.PIPE)
        assert version.stdout in (b"2", b"1.1"), version.stdout
    except FileNotFoundError:
        pass


main()
