#!/usr/bin/env python3
"""Answers canned results as `matchlock rpc`, and records what it is sent."""
import base64, json, os, sys
b64 = lambda b: base64.b64encode(b).decode()
log = open(os.environ["RECORD"], "a")
if sys.argv[1:2] != ["rpc"]:
    sys.exit(0)
def send(m):
    line = json.dumps({"jsonrpc": "2.0", **m}, separators=(",", ":"))
    log.write("< " + line + "\n"); log.flush()
    sys.stdout.write(line + "\n"); sys.stdout.flush()
running = {}
for line in sys.stdin:
    log.write("> " + line); log.flush()
    m = json.loads(line); method, p, i = m["method"], m.get("params", {}), m.get("id")
    exit_ = {"exit_code": 0, "duration_ms": 5}
    note = lambda name, **k: send({"method": name, "params": {"id": i, **k}})
    if method == "create": send({"result": {"id": "vm-0123abcd"}, "id": i})
    elif method == "exec":
        if p["command"].startswith("sleep"): running[i] = method
        elif p["command"] == "fail": send({"error": {"code": -32001, "message": "no", "data": {"kind": "guest", "hint": "try"}}, "id": i})
        else: send({"result": {"stdout": b64(b"out"), "stderr": b64(b"err"), **exit_}, "id": i})
    elif method == "exec_stream":
        note("exec_stream.stdout", data=b64(b"out")); note("exec_stream.stderr", data=b64(b"err")); send({"result": exit_, "id": i})
    elif method in ("exec_pipe", "exec_tty"): running[i] = method; note(method + ".ready")
    elif method.endswith(".stdin"): pass
    elif method.endswith(".stdin_eof"):
        of = p["id"]; name = running.pop(of, None)
        if name:
            send({"method": name + ".stdout", "params": {"id": of, "data": b64(b"out")}})
            if name == "exec_pipe": send({"method": "exec_pipe.stderr", "params": {"id": of, "data": b64(b"err")}})
            send({"result": exit_, "id": of})
    elif method == "exec_tty.resize": pass
    elif method in ("write_file", "close"): send({"result": {}, "id": i})
    elif method in ("read_file", "log"): send({"result": {"content": b64(b"content")}, "id": i})
    elif method == "list_files": send({"result": {"files": [{"name": "d", "size": 4096, "mode": 2147484141, "mod_time": "2026-01-02T03:04:05Z", "is_dir": True}]}, "id": i})
    elif method == "log_stream": running[i] = method; note("log_stream.data", data=b64(b"log"))
    elif method == "port_forward":
        send({"result": {"bindings": [{"address": a, **f} for a in p["addresses"] for f in p["forwards"]]}, "id": i})
    elif method == "cancel":
        send({"result": {"cancelled": running.pop(p["id"], None) is not None}, "id": i})
        send({"error": {"code": -32003, "message": "cancelled", "data": {"kind": "cancelled"}}, "id": p["id"]})
