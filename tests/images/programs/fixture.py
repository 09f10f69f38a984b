"""What `matchlock_image::fixture::listing` says of a tree, as the kernel shows it: ROOT NAME…"""
import hashlib
import os
import stat
import sys

KINDS = {
    stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l",
    stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p", stat.S_IFSOCK: "s",
}
PLAIN = frozenset(range(0x21, 0x7F)) - {ord("\\")}


def escaped(text):
    return "".join(chr(byte) if byte in PLAIN else f"\\x{byte:02x}" for byte in text)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def detail(path, info, kind):
    if kind == "f":
        with open(path, "rb") as file:
            return f"{info.st_size} {digest(file.read())}"
    if kind == "l":
        return escaped(os.readlink(path))
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" if kind in "cb" else "-"


def show(path):
    info = os.lstat(path)
    kind = KINDS[stat.S_IFMT(info.st_mode)]
    xattrs = "".join(
        f"{escaped(os.fsencode(name))}={digest(os.getxattr(path, name, follow_symlinks=False))},"
        for name in sorted(os.listxattr(path, follow_symlinks=False)))
    seconds, fraction = divmod(info.st_mtime_ns, 10**9)
    print(kind, f"{stat.S_IMODE(info.st_mode):o}", info.st_uid, info.st_gid,
          f"{seconds}.{fraction:09}", info.st_nlink, detail(path, info, kind), f"[{xattrs}]",
          escaped(path))
    if kind == "d":
        for name in os.listdir(path):
            show(os.path.join(path, name))


for root in sys.argv[1:]:
    show(os.fsencode(root))
