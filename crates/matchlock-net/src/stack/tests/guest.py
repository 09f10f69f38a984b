"""A guest made of a real kernel: a TAP in a network namespace of its own, pumped to a socket of frames.

usage: guest.py SOCKET MTU SCENARIO
Ends with 0 if the scenario holds, with 77 and a reason if the machine does not permit a TAP.
"""
import ctypes, errno, fcntl, hashlib, os, resource, select, signal, socket, struct, subprocess, sys
import threading, time

SOCKET, MTU, SCENARIO = sys.argv[1], int(sys.argv[2]), sys.argv[3]
V4, V6 = "198.19.0.7", "fd6d:6c6b:0:1::7"
GATEWAYS = ("198.18.0.1", "fd6d:6c6b::1")
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
    data = bytearray()
    while True:
        part = wire.recv(1 << 18)
        if not part:
            os._exit(0)
        data += part
        at = 0
        while len(data) - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if len(data) - at - 4 < size:
                break
            os.write(tap, memoryview(data)[at + 4 : at + 4 + size])
            at += 4 + size
        del data[:at]


def connect(address, port):
    stream = socket.create_connection((address, port), timeout=LIMIT)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def read_all(stream):
    parts = []
    while part := stream.recv(1 << 18):
        parts.append(part)
    return b"".join(parts)


def bytes_of(size, seed):
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


def echo(address):
    stream = connect(address, 7)
    stream.sendall(b"hello")
    assert stream.recv(100) == b"hello"
    stream.shutdown(socket.SHUT_WR)
    assert stream.recv(100) == b""


def upload(address, size):
    """The server answers with the digest of what it got, after our FIN."""
    data = bytes_of(size, 1)
    stream = connect(address, 9)
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)
    assert read_all(stream).decode() == hashlib.sha256(data).hexdigest()


def download(address, size):
    """The server's bytes are a function of their position."""
    stream = connect(address, 19)
    stream.sendall(struct.pack(">Q", size))
    data = read_all(stream)
    pattern = bytes(range(251)) * (size // 251 + 1)
    assert len(data) == size and data == pattern[:size]


def both_ways(address, size):
    data = bytes_of(size, 2)
    stream = connect(address, 7)

    def send():
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert read_all(stream) == data
    sender.join()


def server_closes_first(address):
    """End of file from the server, then we still write, and it still reads."""
    stream = connect(address, 2)
    assert read_all(stream) == b"first"
    stream.sendall(b"second")
    stream.close()
    stream = connect(address, 3)
    assert read_all(stream) == b"second"


def refused(address):
    try:
        connect(address, 1)
        raise AssertionError("connected")
    except ConnectionRefusedError:
        pass


def reset(address):
    stream = connect(address, 4)
    stream.sendall(b"x")
    try:
        assert stream.recv(10) == b"never"
    except ConnectionResetError:
        pass


def we_reset(address):
    """A close with linger 0 is RST: the server sees it and says so on the next port."""
    stream = connect(address, 5)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.sendall(b"x")
    assert stream.recv(1) == b"y"
    stream.close()
    assert read_all(connect(address, 6)) == b"ConnectionReset"


def many(address, count):
    streams = [connect(address, 7) for _ in range(count)]
    for number, stream in enumerate(streams):
        stream.sendall(b"%d" % number)
    for number, stream in enumerate(streams):
        assert stream.recv(100) == b"%d" % number
    for stream in streams:
        stream.shutdown(socket.SHUT_WR)
    for stream in streams:
        assert stream.recv(1) == b""


def udp(address, family):
    stream = socket.socket(family, socket.SOCK_DGRAM)
    stream.settimeout(LIMIT)
    stream.connect((address, 53))
    for size in (0, 1, 512, 1232, MTU - 48):
        data = bytes_of(size, 3)
        stream.send(data)
        assert stream.recv(70000) == data
    stream.connect((address, 443))
    stream.send(b"quic")
    try:
        stream.recv(10)
        raise AssertionError("answered")
    except ConnectionRefusedError:
        pass


def ping(address, family):
    """The answer to an echo request, or None."""
    v4 = family == socket.AF_INET
    protocol = socket.IPPROTO_ICMP if v4 else socket.IPPROTO_ICMPV6
    stream = socket.socket(family, socket.SOCK_RAW, protocol)
    body = struct.pack(">BBHHH", 8 if v4 else 128, 0, 0, 7, 1) + bytes(56)
    total = sum(struct.unpack(">32H", body))
    total = (total >> 16) + (total & 0xFFFF)
    if v4:
        body = body[:2] + struct.pack(">H", ~total & 0xFFFF) + body[4:]
    stream.sendto(body, (address, 0))
    until = time.monotonic() + (LIMIT if address in GATEWAYS else 0.5)
    while select.select([stream], [], [], max(0, until - time.monotonic()))[0]:
        data, peer = stream.recvfrom(1000)
        data = data[20:] if v4 else data
        if data[0] == (0 if v4 else 129) and peer[0] == address:
            return data[8:]
    return None


def raw(protocol):
    stream = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    stream.sendto(b"x" * 40, (V4, 0))


def fragments():
    stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stream.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: fragment here
    stream.sendto(bytes(2000), (V4, 53))


def basics():
    for address in (V4, V6) + GATEWAYS:
        echo(address)
    for address, family in ((V4, socket.AF_INET), (V6, socket.AF_INET6)):
        refused(address)
        server_closes_first(address)
        reset(address)
        we_reset(address)
        upload(address, 0)
        upload(address, 5_000_000)
        download(address, 0)
        download(address, 5_000_000)
        both_ways(address, 3_000_000)
        udp(address, family)
        assert ping(address, family) is None
    assert ping(GATEWAYS[0], socket.AF_INET) == bytes(56)
    assert ping(GATEWAYS[1], socket.AF_INET6) == bytes(56)
    raw(47)
    raw(132)
    if MTU == 1500:
        fragments()
    echo(V4)


def crowd():
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    many(V4, 1000)
    many(V6, 300)


def flood():
    """More connections than there may be: those beyond are refused at once, and there is room later."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    streams, beyond = [], 0
    for _ in range(4110):
        try:
            streams.append(connect(V4, 7))
        except ConnectionRefusedError:
            beyond += 1
    assert beyond == 14, beyond
    for stream in streams:
        stream.shutdown(socket.SHUT_WR)
    for stream in streams:
        assert stream.recv(1) == b""
    echo(V4)


def bench():
    size = (256 << 20) if MTU > 9000 else (128 << 20)
    for address in (V4, V6):
        stream = connect(address, 8)
        start, data = time.monotonic(), bytes(1 << 20)
        for _ in range(size >> 20):
            stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        assert int(read_all(stream)) == size
        report("up", address, size, start)
        stream = connect(address, 18)
        start, got, buffer = time.monotonic(), 0, bytearray(1 << 20)
        stream.sendall(struct.pack(">Q", size))
        while count := stream.recv_into(buffer):
            got += count
        assert got == size
        report("down", address, size, start)
    stream = connect(V4, 7)
    times = []
    for _ in range(2000):
        start = time.monotonic()
        stream.sendall(b"x")
        stream.recv(1)
        times.append(time.monotonic() - start)
    print("round trip: median %.0f us" % (sorted(times)[1000] * 1e6))
    start = time.monotonic()
    for _ in range(1000):
        connect(V4, 7).close()
    print("connections: %.0f/s" % (1000 / (time.monotonic() - start)))


def report(what, address, size, start):
    seconds = time.monotonic() - start
    print("mtu %d %s %s: %.0f MB/s" % (MTU, what, address, size / seconds / 1e6))


tap = make_tap()
wire = socket.socket(socket.AF_UNIX)
wire.connect(SOCKET)
pump(tap, wire)
wire.close()
globals()[SCENARIO]()
