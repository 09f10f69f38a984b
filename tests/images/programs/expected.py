"""What listing.py has to say in a sandbox of the docker archive in the first argument."""
import decimal
import json
import posixpath
import sys
import tarfile
import zlib

END = 32 * 1024
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
XATTR = "SCHILY.xattr."
# Of a directory that is only in the paths of others.
IMPLIED = ("755", 0, 0, 0, "-", "")


class Inode:
    def __init__(self, kind, fields):
        self.kind, self.fields, self.names = kind, fields, 0


def nanoseconds(entry):
    text = entry.pax_headers.get("mtime", str(int(entry.mtime)))
    return int(decimal.Decimal(text) * 10**9)


def checksum(layer, entry):
    file = layer.extractfile(entry)
    total = zlib.crc32(file.read(END))
    if entry.size > END:
        file.seek(max(END, entry.size - END))
        total = zlib.crc32(file.read(), total)
    return f"{total:08x}"


def inode(layer, entry):
    if entry.isdir():
        kind, content = "d", "-"
    elif entry.issym():
        kind, content = "l", repr(entry.linkname.encode("utf-8", "surrogateescape"))
    elif entry.ischr() or entry.isblk():
        kind = "c" if entry.ischr() else "b"
        content = f"{entry.devmajor}:{entry.devminor}"
    elif entry.isfifo():
        kind, content = "p", "-"
    else:
        kind, content = "f", f"{entry.size} {checksum(layer, entry)}"
    pairs = sorted((key[len(XATTR):], value) for key, value in entry.pax_headers.items()
                   if key.startswith(XATTR))
    xattrs = ",".join(
        f"{key}={value.encode('utf-8', 'surrogateescape').hex()}" for key, value in pairs)
    return Inode(kind, (f"{entry.mode:o}", entry.uid, entry.gid, nanoseconds(entry), content, xattrs))


def forget(files, path, itself=True):
    below = path.rstrip("/") + "/"
    for name in [name for name in files if name.startswith(below) or (itself and name == path)]:
        del files[name]


def apply(layer, files):
    entries = []
    for entry in layer:
        path = posixpath.normpath("/" + entry.name)
        directory, name = posixpath.split(path)
        if name == OPAQUE:
            forget(files, directory, itself=False)
        elif name.startswith(WHITEOUT):
            forget(files, posixpath.join(directory, name[len(WHITEOUT):]))
        else:
            entries.append((path, entry))
    for path, entry in entries:
        if entry.islnk():
            files[path] = files[posixpath.normpath("/" + entry.linkname)]
            continue
        new = inode(layer, entry)
        if new.kind != "d" and path in files and files[path].kind == "d":
            forget(files, path)
        files[path] = new
        while (path := posixpath.dirname(path)) not in files:
            files[path] = Inode("d", IMPLIED)


def main():
    files = {}
    with tarfile.open(sys.argv[1]) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))
        for name in manifest[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                apply(layer, files)
    files.pop("/", None)
    for entry in files.values():
        entry.names += 1
    for path, entry in files.items():
        mode, uid, gid, time, content, xattrs = entry.fields
        if entry.kind == "f":
            content = f"{entry.names} {content}"
        shown = repr(path.encode("utf-8", "surrogateescape"))
        print(entry.kind, mode, uid, gid, time, content, f"[{xattrs}]", shown)


main()
