# Runs one program after the other in one sandbox. Each line of its input is a JSON object: the words of a
# command, or a Python program with its arguments. Each line of its output says how that ended.
import json, os, signal, sys, tempfile, traceback
# What the programs import, so that it is loaded once.
import errno, re, socket, ssl, struct, subprocess, time  # noqa: F401


def child(job, out, err):
    os.setsid()
    for source, target in ((os.open("/dev/null", os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    if "argv" in job:
        try:
            os.execvp(job["argv"][0], job["argv"])
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(127)
    sys.argv, code = ["-c", *job["arguments"]], 0
    try:
        exec(compile(job["program"], "<program>", "exec"), {"__name__": "__main__"})
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(job):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            child(job, out.fileno(), err.fileno())
        _, status = os.waitpid(pid, 0)
        try:
            # What it has left in the background is not there for the next one.
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        out.seek(0)
        err.seek(0)
        # Byte for byte.
        return {"status": status, "out": out.read().decode("latin-1"), "err": err.read().decode("latin-1")}


for line in iter(sys.stdin.readline, ""):
    print(json.dumps(run(json.loads(line))), flush=True)
