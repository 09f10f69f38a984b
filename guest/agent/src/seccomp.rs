//! The system call filter of an execution that is not privileged.
//!
//! A list of what is refused, not of what is allowed: the VM is the boundary, the filter keeps
//! processes of one sandbox from reading each other's memory and the limits on them in force.

/// One instruction of classic BPF: `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

/// The filter, as `seccomp(2)` takes it.
pub const FILTER: [Instruction; LENGTH] = program();

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// The x32 ABI shares its architecture with x86-64 and marks its calls with this bit.
const X32_BIT: u32 = 0x4000_0000;

const DENIED: [libc::c_long; 6] = [
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    // Guest root has CAP_DAC_READ_SEARCH, and control groups have file handles: without this call
    // it could open the group that carries the CPU limit, outside of its namespace.
    libc::SYS_open_by_handle_at,
];

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
const DENY: u32 = 0x0005_0000 | libc::EPERM as u32; // SECCOMP_RET_ERRNO

const FIXED: usize = 4;
const LENGTH: usize = FIXED + DENIED.len() + 2;

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn program() -> [Instruction; LENGTH] {
    let deny_at = LENGTH - 1;
    let mut program = [instruction(RETURN, 0, 0, ALLOW); LENGTH];
    program[0] = instruction(LOAD, 0, 0, ARCHITECTURE);
    program[1] = instruction(JUMP_EQUAL, 0, (deny_at - 2) as u8, ARCH);
    program[2] = instruction(LOAD, 0, 0, NUMBER);
    program[3] = instruction(JUMP_AT_LEAST, (deny_at - 4) as u8, 0, X32_BIT);
    let mut i = 0;
    while i < DENIED.len() {
        let at = FIXED + i;
        program[at] = instruction(JUMP_EQUAL, (deny_at - at - 1) as u8, 0, DENIED[i] as u32);
        i += 1;
    }
    program[deny_at] = instruction(RETURN, 0, 0, DENY);
    program
}

const fn instruction(code: u16, if_true: u8, if_false: u8, value: u32) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three instructions that the filter uses, as bpf(4) defines them.
    fn run(arch: u32, number: u32) -> u32 {
        let (mut pc, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, if_true, if_false, value } = FILTER[pc];
            pc += 1;
            let taken = match code {
                LOAD => {
                    accumulator = if value == NUMBER { number } else { arch };
                    continue;
                }
                RETURN => return value,
                JUMP_EQUAL => accumulator == value,
                JUMP_AT_LEAST => accumulator >= value,
                other => panic!("instruction {other:#x}"),
            };
            pc += usize::from(if taken { if_true } else { if_false });
        }
    }

    #[test]
    fn refuses_exactly_the_listed_calls() {
        for number in 0..1000u32 {
            let expected = if DENIED.contains(&libc::c_long::from(number)) { DENY } else { ALLOW };
            assert_eq!(run(ARCH, number), expected, "system call {number}");
        }
    }

    #[test]
    fn refuses_every_call_of_a_foreign_architecture() {
        const I386: u32 = 0x4000_0003;
        for number in 0..1000 {
            assert_eq!(run(I386, number), DENY);
            assert_eq!(run(ARCH, number | X32_BIT), DENY);
        }
    }
}
