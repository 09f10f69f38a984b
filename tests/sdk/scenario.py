"""Every method of the published Python SDK against the binary in MATCHLOCK_BIN, which it knows nothing of."""

import io
import os
import socketserver
import threading
import time
import urllib.request

from matchlock import (
    Client, ImageConfig, NetworkHookResult, NetworkHookRule, NetworkInterceptionConfig, RPCError,
    Sandbox,
)

PATIENCE = 120


def until(what, check):
    """Waits for a condition."""
    end = time.monotonic() + PATIENCE
    while not (found := check()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.05)
    return found


def rpc_error(code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except RPCError as error:
        assert error.code == code, error
        return error
    raise AssertionError(f"no error {code}")


def commands(client):
    ran = client.exec("echo out; echo err >&2; exit 3")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (3, "out\n", "err\n"), ran
    assert client.exec("pwd").stdout == "/tmp\n"
    assert client.exec("pwd", working_dir="/usr").stdout == "/usr\n"
    assert client.exec("echo $GREETING $FROM_IMAGE").stdout == "hello image\n"
    assert client.exec("kill -9 $$").exit_code == 137
    assert client.exec("hostname").stdout == "box\n"

    out, err = io.StringIO(), io.StringIO()
    ran = client.exec_stream("echo one; echo two >&2; printf 'grün €'; exit 4", out, err)
    assert (ran.exit_code, out.getvalue(), err.getvalue()) == (4, "one\ngrün €", "two\n")

    out = io.StringIO()
    sent = "line\n" * 50_000
    ran = client.exec_pipe("cat", stdin=io.StringIO(sent), stdout=out)
    assert ran.exit_code == 0 and out.getvalue() == sent
    out = io.StringIO()
    assert client.exec_pipe("id -u; cat", stdout=out, user="65534").exit_code == 0
    assert out.getvalue() == "65534\n"
    # It never reads: others are not held up.
    ran = client.exec_pipe("echo done", stdin=io.StringIO("x" * 5_000_000))
    assert ran.exit_code == 0

    out = io.StringIO()
    typed = io.StringIO("echo typed $((40 + 2))\nexit 5\n")
    ran = client.exec_interactive("sh", stdin=typed, stdout=out, rows=40, cols=100)
    assert ran.exit_code == 5 and "typed 42" in out.getvalue(), out.getvalue()
    out = io.StringIO()
    ran = client.exec_interactive("stty size; cat", stdout=out, rows=33, cols=77)
    assert ran.exit_code == 0 and "33 77" in out.getvalue(), out.getvalue()
    out = io.StringIO()
    resized = "until test \"$(stty size)\" = '50 60'; do sleep 0.05; done; echo resized"
    ran = client.exec_interactive(resized, stdout=out, resize=[(50, 60)])
    assert "resized" in out.getvalue()


def cancellation(client):
    for call in (
        lambda: client.exec("sleep 4242", timeout=1),
        lambda: client.exec_stream("sleep 4242", timeout=1),
        lambda: client.exec_pipe("sleep 4242", timeout=1),
        lambda: client.exec_interactive("sleep 4242", timeout=1),
        lambda: client.log_stream(io.StringIO(), timeout=1),
    ):
        try:
            call()
        except TimeoutError:
            continue
        raise AssertionError("no timeout")
    script = "for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $p; echo; done 2>/dev/null"
    assert "sleep 4242" not in client.exec(script).stdout

    results = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: client.exec(f"echo {n}").stdout}))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: f"{n}\n" for n in range(20)}


def files(client):
    client.write_file("/srv/a/b/text", "text ü", mode=0o640)
    assert client.exec("stat -c '%a %u' /srv/a/b/text /srv/a").stdout == "640 0\n755 0\n"
    assert client.read_file("/srv/a/b/text") == "text ü".encode()
    client.write_file("/srv/a/b/text", b"shorter", mode=0o777)
    assert client.exec("stat -c %a /srv/a/b/text").stdout == "640\n", "it keeps its mode"
    big = os.urandom(3_000_000)
    client.write_file("/srv/big", big)
    assert client.read_file("/srv/big") == big
    client.exec("mkdir /srv/dir; ln -s nowhere /srv/link; : > /srv/empty")
    listed = {info.name: info for info in client.list_files("/srv")}
    assert sorted(listed) == ["a", "big", "dir", "empty", "link"]
    assert listed["dir"].is_dir and listed["dir"].mode == 0o755 | 1 << 31
    assert listed["big"].size == len(big) and not listed["big"].is_dir
    assert listed["link"].mode & 1 << 27
    assert client.list_files("/srv/dir") == []
    assert rpc_error(-32002, client.read_file, "/srv/none").is_file_error()
    rpc_error(-32002, client.read_file, "/srv/dir")
    rpc_error(-32002, client.list_files, "/srv/big")
    client.exec("head -c 16777217 /dev/zero > /srv/huge")
    error = rpc_error(-32002, client.read_file, "/srv/huge")
    assert error.message == "read_file exceeds 16777216 bytes: /srv/huge", error


def network(client):
    assert client.exec("echo $KEY").stdout.startswith("SANDBOX_SECRET_")
    assert client.exec("echo $PLACED").stdout == "placeholder-0123456789abcdef\n"
    fetched = client.exec("curl -s -m 60 -H \"X-Key: $KEY\" http://api.example.com/")
    assert "X-Key: the value" in fetched.stdout, "the server sees the value"
    status = "curl -s -m 60 -o /dev/null -w '%{http_code}' http://"
    # A rule, then a callback of this process.
    assert client.exec(status + "rule.example.com/").stdout == "403"
    assert client.exec(status + "hook.example.com/path?q=1").stdout == "403"
    assert [(seen.host, seen.path, seen.query) for seen in SEEN] == [
        ("hook.example.com", "/path", {"q": "1"})
    ]
    # Nothing else is reached.
    assert client.exec("curl -s -m 20 http://other.example.org/").exit_code == 6

    client.exec("cd /srv && (python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &)")
    port = int(os.environ["FREE_PORT"])
    client.write_file("/srv/served", "over a port")

    def fetch():
        try:
            url = f"http://127.0.0.1:{port}/served"
            return urllib.request.urlopen(url, timeout=PATIENCE).read()
        except OSError:
            return None

    for _ in range(2):
        # The second call takes the place of the first.
        (binding,) = client.port_forward(f"{port}:8000")
        assert (binding.address, binding.local_port, binding.remote_port) == ("127.0.0.1", port, 8000)
        assert until("an answer", fetch) == b"over a port"
    assert client.port_forward_with_addresses(["localhost"], f"{port}:8000")


def log(client):
    seen = io.StringIO()
    threading.Thread(target=lambda: follow(client, seen), daemon=True).start()
    until("the program's words", lambda: "program: ready" in client.log())
    until("the program's words", lambda: "program: ready" in seen.getvalue())


def follow(client, to):
    try:
        client.log_stream(to, timeout=PATIENCE)
    except Exception:
        pass


SEEN = []


def hook(request):
    SEEN.append(request)
    return NetworkHookResult(action="block")


class Upstream(socketserver.StreamRequestHandler):
    """A proxy in the place of the network, and every server behind it: it answers with the request."""

    def handle(self):
        if head := self.head().encode():
            answer = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(head)}\r\n\r\n"
            self.wfile.write(answer.encode() + head)

    def head(self):
        lines = []
        while (line := self.rfile.readline().decode()).strip():
            lines.append(line)
        return "".join(lines)


def upstream():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    # For the binary, which inherits it.
    os.environ["all_proxy"] = f"http://127.0.0.1:{upstream()}"
    os.environ["no_proxy"] = "127.0.0.1"
    client = Client()
    client.start()
    rpc_error(-32000, client.exec, "true")
    assert rpc_error(-32602, client.create, Sandbox("host").mount_memory("/w").with_workspace("/w").options())
    sandbox = (
        Sandbox("host")
        .with_cpus(1)
        .with_memory(512)
        .with_disk_size(1024)
        .with_hostname("box")
        .with_env("GREETING", "hello")
        .add_secret("KEY", "the value", "api.example.com")
        .add_secret_with_placeholder(
            "PLACED", "another", "placeholder-0123456789abcdef", "api.example.com")
        .allow_host("rule.example.com", "hook.example.com")
        .with_network_interception(NetworkInterceptionConfig(rules=[
            NetworkHookRule(name="rule", hosts=["rule.example.com"], action="block"),
            NetworkHookRule(name="hook", hosts=["hook.example.com"], hook=hook, timeout_ms=60_000),
        ]))
        .with_image_config(ImageConfig(
            working_dir="/tmp", env={"FROM_IMAGE": "image"},
            entrypoint=["sh", "-c"], cmd=["echo program: ready; exec sleep 100000"]))
    )
    vm_id = client.launch(sandbox)
    assert vm_id == client.vm_id and vm_id.startswith("vm-") and len(vm_id) == 11
    for part in (commands, files, network, cancellation, log):
        print(part.__name__, flush=True)
        part(client)
    rpc_error(-32000, client.create, sandbox.options())
    # With something that never ends.
    threading.Thread(target=lambda: follow(client, io.StringIO()), daemon=True).start()
    client.close()
    assert client._process.returncode == 0, "it was not killed"
    client.remove()


main()
