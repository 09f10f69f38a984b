"""Every file of this root file system, one line each: what the guest sees of its image.

A line has the kind, mode, owners, time, content, attributes and the path; `pruned PATH` stands for
a directory that another file system is mounted on.
"""
import os
import stat
import sys
import zlib

KINDS = {
    stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l",
    stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p", stat.S_IFSOCK: "s",
}
END = 32 * 1024


def checksum(path, size):
    # Both ends of a large file: an emulated machine takes a minute for all of all files.
    with open(path, "rb") as file:
        total = zlib.crc32(file.read(END))
        if size > END:
            file.seek(max(END, size - END))
            total = zlib.crc32(file.read(), total)
    return f"{total:08x}"


def content(path, info, kind):
    if kind == "f":
        return f"{info.st_nlink} {info.st_size} {checksum(path, info.st_size)}"
    if kind == "l":
        return repr(os.readlink(path))
    if kind in "cb":
        return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    return "-"


def attributes(path):
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return ",".join(
        f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in names)


def show(path):
    info = os.lstat(path)
    kind = KINDS[stat.S_IFMT(info.st_mode)]
    print(kind, f"{stat.S_IMODE(info.st_mode):o}", info.st_uid, info.st_gid, info.st_mtime_ns,
          content(path, info, kind), f"[{attributes(path)}]", repr(path))
    return kind


def walk(directory, device):
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path) and os.lstat(path).st_dev != device:
            print("pruned", repr(path))
        elif show(path) == "d":
            walk(path, device)


roots = [os.fsencode(root) for root in sys.argv[1:]] or [b"/"]
for root in roots:
    walk(root, os.lstat(root).st_dev)
