# What the programs of the guest have in common. They print one JSON object at their end.
import errno, json, os, re, socket, ssl, struct, subprocess, sys, time

GATEWAY, GATEWAY6 = "198.18.0.1", "fd6d:6c6b::1"
GUEST = "198.18.0.2"
# Reading all authorities of the world takes a second each time.
AUTHORITY = "/etc/ssl/certs/matchlock-ca.crt"
if os.path.exists(AUTHORITY):
    os.environ["CURL_CA_BUNDLE"] = AUTHORITY
seen, contexts = {}, {}


def outcome(work):
    """What `work` returns, or the name of its error."""
    try:
        return work()
    except TimeoutError as error:
        return "ETIMEDOUT" if error.errno else "timeout"
    except ssl.SSLError as error:
        return "tls: " + (error.reason or str(error))
    except OSError as error:
        return errno.errorcode.get(error.errno, repr(error))


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def connect(host, port, limit=60):
    stream = socket.socket(family(host), socket.SOCK_STREAM)
    stream.settimeout(limit)
    stream.connect((host, port))
    return stream


def tcp(host, port):
    def work():
        connect(host, port).close()
        return "open"
    return outcome(work)


def udp(host, port, payload=b"hello", limit=10):
    """The answer of a datagram, in hexadecimal."""
    def work():
        with socket.socket(family(host), socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(limit)
            datagrams.connect((host, port))
            datagrams.send(payload)
            return datagrams.recv(65535).hex()
    return outcome(work)


def labels(name):
    return b"".join(bytes([len(part)]) + part for part in name.split(b".") if part) + b"\0"


def question(name, kind, number=0x1234):
    name = name if isinstance(name, bytes) else name.encode()
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels(name) + struct.pack(">2H", kind, 1)


def rcode(answer):
    """The status of an answer and the number of its records: "3/0" is NXDOMAIN."""
    return f"{answer[3] & 15}/{struct.unpack('>H', answer[6:8])[0]}"


def ask(name, kind=1, server=GATEWAY, over_tcp=False, raw=None):
    message = raw or question(name, kind)

    def work():
        if over_tcp:
            stream = connect(server, 53)
            stream.sendall(struct.pack(">H", len(message)) + message)
            return rcode(read_exactly(stream, struct.unpack(">H", read_exactly(stream, 2))[0]))
        with socket.socket(family(server), socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(10)
            datagrams.connect((server, 53))
            datagrams.send(message)
            return rcode(datagrams.recv(65535))
    return outcome(work)


def read_exactly(stream, count):
    got = b""
    while len(got) < count:
        more = stream.recv(count - len(got))
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "closed")
        got += more
    return got


def read_all(stream, limit=60):
    """All that comes until the end, or until nothing comes for a while."""
    got = b""
    stream.settimeout(limit)
    try:
        while more := stream.recv(65536):
            got += more
    except OSError as error:
        return got + b"<" + errno.errorcode.get(error.errno, "timeout").encode() + b">"
    return got


def lookup(name):
    """Addresses of a name, sorted."""
    try:
        return sorted({entry[4][0] for entry in socket.getaddrinfo(name, None)})
    except socket.gaierror as error:
        return "unknown" if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else str(error)
    except (UnicodeError, ValueError) as error:
        return type(error).__name__


def curl(*arguments, limit=60):
    """Exit status and standard output of curl."""
    command = ["curl", "-sS", "--max-time", str(limit), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    return [done.returncode, done.stdout.decode(errors="replace")]


def status(url, *arguments):
    """The HTTP status that curl got, or its exit status: "curl 7"."""
    code, text = curl("--http1.1", "-o", "/dev/null", "-w", "%{http_code}", *arguments, url)
    return text if code == 0 else f"curl {code}"


def tls(host, port, name, alpn=("http/1.1",), limit=60):
    """A TLS session that trusts what the guest trusts."""
    if alpn not in contexts:
        contexts[alpn] = ssl.create_default_context(cafile=AUTHORITY)
        contexts[alpn].set_alpn_protocols(list(alpn))
        contexts[alpn].check_hostname = False
    return contexts[alpn].wrap_socket(connect(host, port, limit), server_hostname=name)


def report():
    json.dump(seen, sys.stdout)
