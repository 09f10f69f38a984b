"""Records what each method of the published Python SDK sends.

`pip install matchlock==0.2.17`, then run this in its own directory: it writes 0.2.17.txt.
"""
import io, os, threading
from matchlock import Client, Config, Sandbox
from matchlock.types import *
fake = os.path.abspath("fake.py"); os.environ["RECORD"] = os.path.abspath("0.2.17.txt")
open(os.environ["RECORD"], "w").close()
C = lambda: Client(Config(binary_path=fake))
def full():
    return (Sandbox("python:3.12-alpine").with_privileged().with_kernel("file:///opt/vmlinux").with_cpus(0.5).with_memory(1024)
     .with_disk_size(5120).with_timeout(300).with_workspace("/workspace").with_env("FOO", "bar").with_env_map({"A": "é"})
     .allow_host("api.openai.com", "*.example.com").add_host("api.internal.example", "10.0.0.10").block_private_ips()
     .with_network_mtu(1200).add_secret("API_KEY", "value", "api.openai.com")
     .add_secret_with_placeholder("GH_TOKEN", "value", "gho_placeholder", "api.example.com")
     .with_dns_servers("1.1.1.1").with_hostname("box").mount_host_dir("/workspace/src", "/srv/src", owner_uid=0, owner_gid=4294967295)
     .mount_host_dir_readonly("/workspace/cfg", "/srv/cfg").mount_memory("/workspace/tmp").mount_overlay("/workspace/data", "/srv/data")
     .with_user("1000:1000").with_entrypoint("python3").with_image_config(ImageConfig(working_dir="/w", cmd=["-V"], env={"X": "y"}))
     .with_port_forward(8080, 80).with_port_forward_addresses("127.0.0.1", "::1")
     .with_network_interception(NetworkInterceptionConfig(rules=[NetworkHookRule(name="r", phase="before", hosts=["api.openai.com"], methods=["GET"], path="/v1/*",
        action="mutate", set_headers={"X-A": "b"}, delete_headers=["X-C"], set_query={"q": "1"}, delete_query=["z"], rewrite_path="/v2", timeout_ms=50),
        NetworkHookRule(phase="after", set_response_headers={"X-A": "b"}, delete_response_headers=["X-C"], body_replacements=[NetworkBodyTransform("a", "b")]) ]))
     .with_vfs_interception(VFSInterceptionConfig(emit_events=True, rules=[VFSHookRule(name="v", phase="before", ops=["create"], path="/workspace/x", action="block", timeout_ms=5)])))
with C() as c:
    c.launch(full()); 
    assert c.exec("echo 'hi'", working_dir="/tmp").stdout == "out"
    try: c.exec("fail"); assert 0
    except RPCError as e: assert e.is_exec_error()
    out, err = io.StringIO(), io.StringIO()
    c.exec_stream("ls", out, err, working_dir="/"); assert (out.getvalue(), err.getvalue()) == ("out", "err")
    out = io.StringIO(); c.exec_pipe("cat", stdin=io.BytesIO(b"in\x00\xff"), stdout=out, stderr=io.StringIO(), working_dir="/tmp", user="nobody"); assert out.getvalue() == "out"
    c.exec_pipe("cat")
    gate = threading.Event()
    class Keys(io.RawIOBase):
        n = 0
        def read(self, n=-1):
            self.n += 1
            if self.n == 1: return b"keys"
            gate.wait(5); return b""
    def sizes():
        yield (30, 100); gate.set()
    out = io.StringIO(); c.exec_interactive("sh", stdin=Keys(), stdout=out, working_dir="/", rows=40, cols=120, resize=sizes(), user="0:0"); assert out.getvalue() == "out"
    c.write_file("/w/a", "text"); c.write_file("/w/b", b"\x00\x01", mode=0o755, timeout=5)
    assert c.read_file("/w/a") == b"content"; assert c.list_files("/w")[0].is_dir
    assert c.log() == "content"
    out = io.StringIO()
    try: c.log_stream(out, timeout=0.3); assert 0
    except TimeoutError: assert out.getvalue() == "log"
    try: c.exec("sleep 60", timeout=0.2); assert 0
    except TimeoutError: pass
    assert c.port_forward("8080", "9000:90")[0].remote_port == 8080
    c.port_forward_with_addresses(["::1"], "1:2")
for opts in [Sandbox("a").options(), Sandbox("a").with_no_network().with_dns_servers("1.1.1.1").with_hostname("h").options(),
             Sandbox("a").allow_private_ips().options(), Sandbox("a").with_network_interception().options(),
             Sandbox("a").add_secret("K", "v").with_user("").options()]:
    with C() as c: c.create(opts)
print("ok")
