//! QEMU's command line: the microvm machine, a handful of virtio-mmio devices and nothing else.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::disks::Source;
use super::jail::Needs;
use super::vmdk;
use crate::accel::Accelerator;

/// Kernel parameters on every accelerator. `panic=-1` with `-no-reboot` turns a guest panic into an
/// end of QEMU; the microvm machine without ACPI has no other power switch.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on pci=off \
                       no_timer_check dummy.numdummies=0 swiotlb=noforce";

/// Under emulation a virtual CPU has no speculation to mitigate, and code that runs once is cheaper
/// left in place than patched (see `guest/kernel/README.md`, which measures each of these).
const CMDLINE_TCG: &str = "mitigations=off noreplace-smp keep_initmem=1";

/// HZ of the guest kernel: loops of its delay loop in a tick follow from it.
const GUEST_HZ: u64 = 250;

/// What a guest must be told of its timers where nothing announces them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timers {
    /// Frequency of the time stamp counter in kHz.
    pub(super) tsc_khz: u64,
}

impl Timers {
    /// Kernel parameters that replace every calibration. QEMU's APIC timer counts nanoseconds.
    fn cmdline(self) -> String {
        let Self { tsc_khz } = self;
        let lpj = tsc_khz * 1000 / GUEST_HZ;
        format!("tsc_early_khz={tsc_khz} lpj={lpj} tsc=reliable lapic_timer_khz=1000000")
    }
}

/// The descriptors that QEMU inherits, and the arguments that name them by number.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    args: Vec<OsString>,
    inherit: Vec<OwnedFd>,
    /// Descriptor sets so far.
    sets: usize,
    kvm: bool,
    /// Length of the guest's memory, which is a file.
    memory: u64,
}

/// Machine properties beside its devices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine<'a> {
    pub(super) name: &'a str,
    pub(super) accelerator: Accelerator,
    pub(super) vcpus: u8,
    pub(super) memory_mib: u32,
    /// Under emulation; unknown timers are calibrated against a PIT.
    pub(super) timers: Option<Timers>,
    pub(super) cmdline: &'a str,
}

impl Arguments {
    /// The machine itself with its console on QEMU's standard output.
    pub(super) fn machine(machine: Machine<'_>, kernel: OwnedFd, initramfs: OwnedFd) -> Self {
        let Machine { name, accelerator, vcpus, memory_mib, timers, cmdline } = machine;
        let memory = u64::from(memory_mib) << 20;
        let kvm = accelerator == Accelerator::Kvm;
        let mut this = Self { memory, kvm, ..Self::default() };
        this.option("-name", format!("matchlock-{name},debug-threads=off"));
        // Nothing that we did not ask for: no default devices, no user configuration, no monitor.
        for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            this.args.push(flag.into());
        }
        this.option("-display", "none");
        this.option("-monitor", "none");
        this.option(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
        let parameters = this.accelerated(accelerator, timers);
        this.option("-smp", vcpus.to_string());
        this.option("-m", format!("{memory_mib}M"));
        // Shared, because the vhost-user devices live in our process and read the guest's queues.
        this.option("-object", format!("memory-backend-memfd,id=ram,size={memory_mib}M,share=on"));
        this.option("-global", "virtio-mmio.force-legacy=false");
        let kernel = this.inherit(kernel);
        this.option("-kernel", format!("/proc/self/fd/{kernel}"));
        let initramfs = this.inherit(initramfs);
        this.option("-initrd", format!("/proc/self/fd/{initramfs}"));
        this.option("-append", format!("{CMDLINE} {parameters} {cmdline}"));
        this.option("-chardev", "stdio,id=console,signal=off");
        this.option("-serial", "chardev:console");
        this.option("-device", "virtio-rng-device");
        this
    }

    /// Machine, accelerator and processor; returns the kernel parameters that belong to them.
    fn accelerated(&mut self, accelerator: Accelerator, timers: Option<Timers>) -> String {
        // Under emulation the real-time clock stays, which the guest would look for for a second, and
        // ERMS goes: REP STOSB runs byte by byte under TCG, so the guest must not think it fast.
        let (accel, cpu, clocks, parameters) = match (accelerator, timers) {
            (Accelerator::Kvm, _) => ("kvm", "host", "pit=off,pic=off,rtc=off", String::new()),
            (Accelerator::Tcg, None) => {
                ("tcg,thread=multi", "max,-erms", "pit=on,pic=on", CMDLINE_TCG.to_owned())
            }
            (Accelerator::Tcg, Some(timers)) => {
                let parameters = format!("{CMDLINE_TCG} {}", timers.cmdline());
                ("tcg,thread=multi", "max,-erms", "pit=off,pic=off", parameters)
            }
        };
        self.option(
            "-machine",
            format!("microvm,acpi=off,pcie=off,{clocks},isa-serial=on,memory-backend=ram"),
        );
        self.option("-accel", accel);
        self.option("-cpu", cpu);
        parameters
    }

    /// A virtio block device.
    ///
    /// Nobody reads an ephemeral one after the machine has ended, so nothing is written through.
    pub(super) fn disk(
        &mut self,
        index: usize,
        source: Source,
        read_only: bool,
        ephemeral: bool,
    ) -> io::Result<()> {
        let (format, set, prefix) = match source {
            Source::File(file) => ("file", self.descriptor_set(file), ""),
            Source::Parts(parts) => {
                let parts: Vec<_> = parts
                    .into_iter()
                    .map(|(file, sectors)| (self.descriptor_set(file), sectors))
                    .collect();
                ("vmdk", self.descriptor_set(vmdk::descriptor(&parts, read_only)?), "file.")
            }
        };
        let file = if prefix.is_empty() { "" } else { ",file.driver=file" };
        let on_off = |value| if value { "on" } else { "off" };
        let (read_only, ephemeral) = (on_off(read_only), on_off(ephemeral));
        // Locks are the caller's business, who knows what is shared.
        self.option(
            "-blockdev",
            format!(
                "driver={format},node-name=disk{index}{file},{prefix}filename=/dev/fdset/{set},\
                 {prefix}locking=off,read-only={read_only},discard=unmap,cache.direct=off,\
                 cache.no-flush={ephemeral}"
            ),
        );
        // What the host cannot do is an error of the guest's disk. By default a full file system of the
        // host stops the machine, and nobody would let it go on.
        let device = format!("virtio-blk-device,drive=disk{index},werror=report,rerror=report");
        self.option("-device", device);
        Ok(())
    }

    /// A number under which QEMU's block layer opens the file: `/dev/fdset/N`.
    fn descriptor_set(&mut self, file: OwnedFd) -> usize {
        let fd = self.inherit(file);
        self.sets += 1;
        self.option("-add-fd", format!("fd={fd},set={}", self.sets));
        self.sets
    }

    /// A monitor (QMP) whose client is at the other end of `socket`.
    pub(super) fn monitor(&mut self, socket: OwnedFd) {
        let fd = self.inherit(socket);
        self.option("-chardev", format!("socket,id=qmp,fd={fd}"));
        self.option("-mon", "chardev=qmp,mode=control");
    }

    /// A vhost-user-vsock device whose back end is at the other end of `socket`.
    pub(super) fn vsock(&mut self, socket: OwnedFd) {
        let fd = self.inherit(socket);
        self.option("-chardev", format!("socket,id=vsock,fd={fd}"));
        self.option("-device", "vhost-user-vsock-device,chardev=vsock");
    }

    /// A vhost-user-fs device whose back end is at the other end of `socket`.
    pub(super) fn filesystem(&mut self, index: usize, tag: &str, socket: OwnedFd) {
        let fd = self.inherit(socket);
        self.option("-chardev", format!("socket,id=fs{index},fd={fd}"));
        // The tag is ours, still a comma in it would be read as another option.
        let tag = tag.replace(',', ",,");
        self.option("-device", format!("vhost-user-fs-device,chardev=fs{index},tag={tag}"));
    }

    /// A virtio-net device whose frames go through `socket`.
    pub(super) fn nic(&mut self, socket: OwnedFd, mac: [u8; 6], mtu: u16) {
        let fd = self.inherit(socket);
        self.option("-netdev", format!("stream,id=net0,server=off,addr.type=fd,addr.str={fd}"));
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        // The transmit queue cannot be longer: 256 entries are QEMU's limit without vhost-user.
        self.option(
            "-device",
            format!(
                "virtio-net-device,netdev=net0,mac={mac},host_mtu={mtu},mrg_rxbuf=on,\
                 rx_queue_size=1024"
            ),
        );
    }

    /// What the machine needs of its jail.
    pub(super) fn needs(&self) -> Needs {
        let length = |fd| rustix::fs::fstat(fd).map_or(0, |stat| stat.st_size.cast_unsigned());
        let largest_file = self.inherit.iter().map(length).fold(self.memory, u64::max);
        Needs { kvm: self.kvm, inherited: self.inherit.len(), largest_file }
    }

    /// The arguments, and the descriptors that must be open under these numbers in QEMU.
    pub(super) fn finish(self) -> (Vec<OsString>, Vec<OwnedFd>) {
        (self.args, self.inherit)
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.args.push(name.into());
        self.args.push(value.into());
    }

    fn inherit(&mut self, fd: OwnedFd) -> i32 {
        let number = fd.as_raw_fd();
        self.inherit.push(fd);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").expect("open").into()
    }

    fn rendered(accelerator: Accelerator) -> String {
        let timers = Some(Timers { tsc_khz: 2_000_000 });
        let machine = Machine {
            name: "vm-1",
            accelerator,
            vcpus: 2,
            memory_mib: 512,
            timers,
            cmdline: "extra=1",
        };
        let mut arguments = Arguments::machine(machine, null(), null());
        arguments.disk(0, Source::File(null()), false, true).expect("a disk");
        let parts = vec![(null(), 8), (null(), 16)];
        arguments.disk(1, Source::Parts(parts), true, false).expect("a disk");
        arguments.vsock(null());
        arguments.filesystem(0, "ro,ot", null());
        arguments.nic(null(), [0x02, 0, 0, 0, 0x0a, 0xff], 65_520);
        let (args, inherit) = arguments.finish();
        assert_eq!(inherit.len(), 9);
        args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn no_default_devices_no_monitor_and_the_seccomp_sandbox() {
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
            let line = rendered(accelerator);
            for wanted in ["-nodefaults", "-no-user-config", "-monitor none", "-sandbox on,"] {
                assert!(line.contains(wanted), "{wanted} in {line}");
            }
        }
    }

    #[test]
    fn a_tag_cannot_add_an_option() {
        assert!(rendered(Accelerator::Tcg).contains("tag=ro,,ot"));
    }

    #[test]
    fn every_file_of_a_disk_is_a_set_of_its_own_and_nothing_is_opened_by_its_path() {
        let line = rendered(Accelerator::Tcg);
        for set in 1..=4 {
            assert_eq!(line.matches(&format!(",set={set} ")).count(), 1, "{set} in {line}");
        }
        let disk = "driver=vmdk,node-name=disk1,file.driver=file,file.filename=/dev/fdset/4,";
        assert!(line.contains(disk), "{line}");
        assert_eq!(line.matches("filename=").count(), line.matches("filename=/dev/fdset/").count());
    }

    /// Issue 9: the default of writes stops the machine when the host's file system is full.
    #[test]
    fn a_disk_that_the_host_cannot_write_is_an_error_of_the_guest() {
        let line = rendered(Accelerator::Tcg);
        for disk in 0..2 {
            let device = format!("virtio-blk-device,drive=disk{disk},werror=report,rerror=report");
            assert!(line.contains(&device), "{line}");
        }
    }

    #[test]
    fn the_network_device_ends_in_the_inherited_socket_and_nowhere_else() {
        let line = rendered(Accelerator::Tcg);
        let device = "virtio-net-device,netdev=net0,mac=02:00:00:00:0a:ff,host_mtu=65520,";
        assert!(line.contains(device), "{line}");
        assert!(line.contains("stream,id=net0,server=off,addr.type=fd,addr.str="), "{line}");
        assert_eq!(line.matches("-netdev").count(), 1, "{line}");
        assert!(!line.contains("user,"), "{line}");
    }

    #[test]
    fn an_emulated_guest_is_told_its_timers_and_calibrates_none() {
        let line = rendered(Accelerator::Tcg);
        assert!(line.contains("tsc_early_khz=2000000 lpj=8000000"), "{line}");
        assert!(line.contains("pit=off"), "{line}");
        assert!(!rendered(Accelerator::Kvm).contains("tsc_early_khz"));
    }

    #[test]
    fn the_accelerator_is_exactly_the_chosen_one() {
        assert!(rendered(Accelerator::Kvm).contains("-accel kvm"));
        assert!(!rendered(Accelerator::Tcg).contains("kvm"));
    }
}
