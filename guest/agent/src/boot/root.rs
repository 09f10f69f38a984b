//! The root file system: read-only layers, a writable one above, and the way into it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use matchlock_proto::{BootStep, LowerLayer, RootConfig, UpperLayer};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, chmod, fstat, openat, seek, stat, statfs,
    unlinkat,
};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, unmount,
};
use rustix::path::Arg;
use rustix::process::{chdir, chroot};

use super::mounts::{EARLY_DEV, STAGE, directory};
use super::{Required, StepFailed};
use crate::{console, sys};

/// Where the new root is put together, outside of the stage that is unmounted before the switch.
const NEW_ROOT: &str = "/newroot";

/// Mounts the layers and the overlay on [`NEW_ROOT`]. Returns the directory of the writable layer, when
/// it will be exported.
pub(super) fn assemble(config: &RootConfig) -> Result<Option<OwnedFd>, StepFailed> {
    let mut lower = Vec::new();
    for (index, layer) in config.lower.iter().enumerate() {
        let target = format!("{STAGE}/{index}");
        mount_lower(layer, &target)
            .required(BootStep::LowerLayer, format_args!("layer {index} ({layer:?})"))?;
        lower.push(target);
    }
    let upper = format!("{STAGE}/upper");
    mount_upper(&config.upper, &upper)
        .required(BootStep::UpperLayer, format_args!("{:?}", config.upper))?;
    let top = lower.first().map_or("", String::as_str);
    let data = format!("{upper}/data");
    console::optional("give the root its attributes", adopt_root(top, &data));
    let options = overlay_options(&lower, &upper, config.export);
    directory(NEW_ROOT, 0o755).required(BootStep::Root, "create the new root")?;
    let options = CString::new(options).required(BootStep::Root, "overlay options")?;
    mount("overlay", NEW_ROOT, "overlay", MountFlags::empty(), options.as_c_str())
        .required(BootStep::Root, "mount the overlay")?;
    if !config.export {
        return Ok(None);
    }
    // It stays usable when the stage that it is mounted on has gone.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let upper = openat(CWD, data, flags, Mode::empty());
    upper.map(Some).required(BootStep::UpperLayer, "open the writable layer")
}

/// The root of the overlay has the owner and mode of the writable layer's, not those of the image's.
fn adopt_root(lower: &str, upper: &str) -> io::Result<()> {
    let (image, own) = (stat(lower)?, stat(upper)?);
    if (image.st_uid, image.st_gid) != (own.st_uid, own.st_gid) {
        std::os::unix::fs::chown(upper, Some(image.st_uid), Some(image.st_gid))?;
    }
    if image.st_mode != own.st_mode {
        chmod(upper, Mode::from_raw_mode(image.st_mode))?;
    }
    Ok(())
}

/// Makes the overlay the root, and leaves nothing of the old one but the memory of this program.
///
/// The kernel's own helpers (`core_pattern` and the like) start in the old root for ever: it must
/// not hold anything that guest root can write.
pub(super) fn switch() -> Result<(), StepFailed> {
    // The overlay has private copies of its layers' mounts.
    unmount(STAGE, UnmountFlags::DETACH).required(BootStep::Root, "unmount the stage")?;
    let old = openat(CWD, "/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .required(BootStep::Root, "open the old root")?;
    chdir(NEW_ROOT).required(BootStep::Root, "enter the new root")?;
    mount_move(".", "/").required(BootStep::Root, "move the new root")?;
    chroot(".").required(BootStep::Root, "change the root")?;
    chdir("/").required(BootStep::Root, "enter the root")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).required(BootStep::Root, "make mounts private")?;
    empty(&old).required(BootStep::Root, "empty the old root")
}

/// Options of the overlay (kernel Documentation/filesystems/overlayfs.rst).
///
/// With `redirect_dir` a directory of an image can be renamed; without it that is EXDEV, and the writable
/// layer has nothing that only an overlay understands.
fn overlay_options(lower: &[String], upper: &str, export: bool) -> String {
    let lower = lower.join(":");
    let redirect = if export { "nofollow,metacopy=off" } else { "on" };
    format!("lowerdir={lower},upperdir={upper}/data,workdir={upper}/work,redirect_dir={redirect}")
}

fn mount_lower(layer: &LowerLayer, target: &str) -> io::Result<()> {
    directory(target, 0o755)?;
    let flags = MountFlags::RDONLY;
    match layer {
        LowerLayer::VirtioFs { tag } => mount(tag.as_str(), target, "virtiofs", flags, c"")?,
        LowerLayer::Erofs { disk } => {
            mount(disk_path(EARLY_DEV, *disk), target, "erofs", flags, c"")?;
        }
    }
    Ok(())
}

fn mount_upper(layer: &UpperLayer, target: &str) -> io::Result<()> {
    directory(target, 0o755)?;
    match layer {
        UpperLayer::Ext4 { disk } => {
            let device = disk_path(EARLY_DEV, *disk);
            // The image is sparse: what nobody has written is zero already, and what the guest
            // frees the host can have back.
            let options = c"noinit_itable,discard";
            mount(device.as_str(), target, "ext4", MountFlags::empty(), options)?;
            grow(&device, target)?;
        }
        UpperLayer::Tmpfs { size } => {
            let options = CString::new(format!("mode=755,size={size}"))?;
            mount("tmpfs", target, "tmpfs", MountFlags::empty(), options.as_c_str())?;
        }
    }
    directory(&format!("{target}/data"), 0o755)?;
    directory(&format!("{target}/work"), 0o755)?;
    Ok(())
}

/// Grows a mounted ext4 to the size of its device; the kernel does nothing when it has it.
pub(super) fn grow(device: &str, mounted: impl Arg + Copy) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let size = seek(openat(CWD, device, flags, Mode::empty())?, SeekFrom::End(0))?;
    let block = u64::try_from(statfs(mounted)?.f_bsize).unwrap_or(0).max(1024);
    sys::resize_ext4(openat(CWD, mounted, flags, Mode::empty())?, size / block)
        .map_err(|error| io::Error::new(error.kind(), format!("grow to {size} bytes: {error}")))
}

/// `vda` to `vdz` in the directory `dev`, then `vdaa` and so on, as the kernel's driver counts.
pub(super) fn disk_path(dev: &str, index: u8) -> String {
    let letter = |n: u8| char::from(b'a' + n % 26);
    let name = match index.checked_sub(26) {
        None => letter(index).to_string(),
        Some(rest) => format!("{}{}", letter(rest / 26), letter(rest)),
    };
    format!("{dev}/vd{name}")
}

/// Deletes the initramfs, of which nothing is mounted over any more, like switch_root(8).
fn empty(root: &OwnedFd) -> io::Result<()> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    let magic = rustix::fs::fstatfs(root)?.f_type;
    if ![TMPFS_MAGIC, RAMFS_MAGIC].contains(&(magic as i64)) {
        return Err(io::Error::other("the old root is not in memory"));
    }
    let device = fstat(root)?.st_dev;
    empty_directory(root.as_fd(), device)
}

fn empty_directory(directory: BorrowedFd<'_>, device: u64) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let mut flags = AtFlags::empty();
        if entry.file_type() == FileType::Directory {
            let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let child = openat(directory, name, open, Mode::empty())?;
            if fstat(&child)?.st_dev != device {
                continue;
            }
            empty_directory(child.as_fd(), device)?;
            flags = AtFlags::REMOVEDIR;
        }
        console::optional(
            &format!("delete {name:?} of the initramfs"),
            unlinkat(directory, name, flags),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_named_as_the_kernel_names_them() {
        let cases =
            [(0, "vda"), (25, "vdz"), (26, "vdaa"), (51, "vdaz"), (52, "vdba"), (255, "vdiv")];
        for (index, name) in cases {
            assert_eq!(disk_path("/dev", index), format!("/dev/{name}"));
        }
    }

    #[test]
    fn the_topmost_layer_comes_first() {
        let options = overlay_options(&["/a".into(), "/b".into()], "/u", false);
        assert!(options.starts_with("lowerdir=/a:/b,upperdir=/u/data,workdir=/u/work"));
    }
}
