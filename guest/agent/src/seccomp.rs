//! The system call filter of programs, as a program of classic BPF (seccomp(2)).
//!
//! [`profile`] says what becomes of each call, [`assemble`] makes a binary search of it: the kernel runs a new
//! filter once for every call that it has, so a list that is searched from its beginning would cost each
//! start of a program a hundred thousand steps.

mod profile;

#[cfg(test)]
mod tests;

pub use profile::{Condition, Verdict, profile};

/// One instruction of classic BPF: `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

/// The calls from this number on, up to the next one's, have this verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first number.
    pub from: u32,
    /// What becomes of them.
    pub verdict: Verdict,
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

// Offsets in `struct seccomp_data`, of which both architectures have the lower half of a word first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO

/// The filter for these ranges, of which the first begins at 0 and each behind the one before it. Every call of another
/// architecture is refused.
#[must_use]
pub fn assemble(ranges: &[Range]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 1, 0, ARCH),
        instruction(RETURN, 0, 0, refusal(libc::EPERM)),
        instruction(LOAD, 0, 0, NUMBER),
    ];
    program.extend(search(ranges));
    program
}

/// Finds the range that the loaded number is in.
fn search(ranges: &[Range]) -> Vec<Instruction> {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let (Some(_), Some(middle)) = (below.first(), above.first()) else {
        return above.first().map(|range| decide(range.verdict)).unwrap_or_default();
    };
    let (below, above) = (search(below), search(above));
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![instruction(JUMP_AT_LEAST, length, 0, middle.from)],
        // Too far for a conditional jump.
        Err(_) => vec![
            instruction(JUMP_AT_LEAST, 0, 1, middle.from),
            instruction(JUMP, 0, 0, below.len() as u32),
        ],
    };
    program.extend(below);
    program.extend(above);
    program
}

fn decide(verdict: Verdict) -> Vec<Instruction> {
    let Condition { argument, mask, values, allowed } = match verdict {
        Verdict::Allow => return vec![instruction(RETURN, 0, 0, ALLOW)],
        Verdict::Refuse(errno) => return vec![instruction(RETURN, 0, 0, refusal(errno))],
        Verdict::If(condition) => condition,
    };
    let (found, otherwise) = match allowed {
        true => (ALLOW, refusal(libc::EPERM)),
        false => (refusal(libc::EPERM), ALLOW),
    };
    let mut program = vec![
        instruction(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(argument)),
        instruction(AND, 0, 0, mask),
    ];
    let mut left = values.len();
    for &value in values {
        // Over the values behind it and the return.
        program.push(instruction(JUMP_EQUAL, left as u8, 0, value));
        left -= 1;
    }
    program.push(instruction(RETURN, 0, 0, otherwise));
    program.push(instruction(RETURN, 0, 0, found));
    program
}

const fn refusal(errno: i32) -> u32 {
    ERRNO | errno as u32
}

const fn instruction(code: u16, if_true: u8, if_false: u8, value: u32) -> Instruction {
    Instruction { code, if_true, if_false, value }
}
