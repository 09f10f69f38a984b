"""Adds layers with everything that is rare to a docker archive: IN OUT."""
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile

# As `setcap cap_net_raw=ep` writes it.
CAPABILITY = "\x01\x00\x00\x02\x00\x20" + 14 * "\x00"


def entry(name, kind=tarfile.REGTYPE, mode=0o644, owner=(0, 0), time="1600000000", xattrs=(), **more):
    info = tarfile.TarInfo(name)
    info.type, info.mode, (info.uid, info.gid) = kind, mode, owner
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in xattrs}
    info.pax_headers["mtime"] = time
    for key, value in more.items():
        setattr(info, key, value)
    return info


def odd_layer():
    buffer = io.BytesIO()
    layer = tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT)

    def add(name, data=b"", **more):
        info = entry(name, **more)
        info.size = len(data)
        layer.addfile(info, io.BytesIO(data))

    directory = "usr/local/odd"
    add(directory, kind=tarfile.DIRTYPE, mode=0o1777, owner=(1000, 1001))
    for mode in (0, 0o4755, 0o2711, 0o7777, 0o444):
        add(f"{directory}/mode {mode:o}", b"#!/bin/true\n", mode=mode, owner=(70000, mode))
    for time in ("0", "-1.5", "1700000000.123456789", "4294967297.25"):
        add(f"{directory}/time {time}", time=time)
    add(f"{directory}/capability", b"x", mode=0o755, xattrs=[("security.capability", CAPABILITY)])
    add(f"{directory}/xattrs", b"x", xattrs=[("user.a", "1"), ("user.empty", "")])
    add(f"{directory}/with xattrs", kind=tarfile.DIRTYPE, mode=0o755, xattrs=[("user.d", "v")])
    add(f"{directory}/" + 255 * "n", b"long name")
    add(f"{directory}/" + "/".join(5 * ["d" * 60]) + "/file", b"long path")
    add(f"{directory}/caf\u00e9 \u4e16\u754c \udcff", b"no ASCII, no UTF-8")
    add(f"{directory}/link", kind=tarfile.SYMTYPE, mode=0o777, linkname="../odd/xattrs")
    add(f"{directory}/long link", kind=tarfile.SYMTYPE, mode=0o777, linkname="/" + "t" * 4000)
    add(f"{directory}/second name", kind=tarfile.LNKTYPE, linkname=f"{directory}/capability")
    add(f"{directory}/third name", kind=tarfile.LNKTYPE, linkname=f"{directory}/capability")
    add(f"{directory}/null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    add(f"{directory}/loop", kind=tarfile.BLKTYPE, mode=0o660, devmajor=7, devminor=300)
    add(f"{directory}/fifo", kind=tarfile.FIFOTYPE)
    add("opt/implied/file")
    # Changes of what is below.
    add("etc/.wh.issue")
    add("etc/.wh.skel")
    add("usr/share/perl5/.wh..wh..opq")
    add("usr/share/perl5/new", b"alone here")
    add("etc/default", b"was a directory")
    add("etc/motd", kind=tarfile.DIRTYPE, mode=0o700)
    add("etc/motd/file", b"was a file")
    layer.close()
    return buffer.getvalue()


def sparse_layer():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "sparse")
        with open(path, "wb") as file:
            file.write(b"head")
            file.seek(32 << 20)
            file.write(b"middle")
            file.truncate(64 << 20)
        os.utime(path, (1600000000, 1600000000))
        flags = ["--sparse", "--format=pax", "--owner=0", "--group=0", "--mode=600", "-C", directory]
        command = ["tar", "--create", *flags, "--pax-option=delete=atime,delete=ctime", "sparse"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def main():
    source, target = sys.argv[1:]
    layers = {}
    for data in (odd_layer(), sparse_layer()):
        digest = hashlib.sha256(data).hexdigest()
        layers[digest] = data
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        manifest = json.load(old.extractfile("manifest.json"))
        config = json.load(old.extractfile(manifest[0]["Config"]))
        config["rootfs"]["diff_ids"] += [f"sha256:{digest}" for digest in layers]
        config.pop("history", None)
        for name in manifest[0]["Layers"]:
            new.addfile(old.getmember(name), old.extractfile(name))
        manifest[0].update(Config="odd.json", RepoTags=["odd:1"])
        manifest[0]["Layers"] += [f"{digest}/layer.tar" for digest in layers]
        files = {f"{digest}/layer.tar": data for digest, data in layers.items()}
        files["odd.json"] = json.dumps(config).encode()
        files["manifest.json"] = json.dumps(manifest).encode()
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))


main()
