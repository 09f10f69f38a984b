//! A FUSE handler with one file of 3 MiB, and one file name at which it panics.

use matchlock_vmm::{FuseHandler, FuseMessage};

pub(crate) const FILE_LEN: usize = 3 * 1024 * 1024;

/// The content at an offset.
pub(crate) fn byte(offset: usize) -> u8 {
    (offset % 253) as u8
}

#[derive(Debug)]
pub(crate) struct OneFile;

/// FUSE opcodes (include/uapi/linux/fuse.h).
mod op {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const BATCH_FORGET: u32 = 42;
}

impl FuseHandler for OneFile {
    fn submit(&self, message: FuseMessage) {
        let mut request = Vec::new();
        message.read(&mut request).unwrap();
        let field = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let node = u64::from_ne_bytes(request[16..24].try_into().unwrap());
        let body = &request[40..];
        let result = match field(4) {
            op::INIT => Ok(init()),
            op::LOOKUP if body.starts_with(b"panic") => panic!("as asked"),
            op::LOOKUP if body == b"file\0" => Ok(entry()),
            op::LOOKUP => Err(2),
            op::GETATTR => Ok([vec![0; 16], attributes(node)].concat()),
            op::OPEN => Ok(vec![0; 16]),
            op::READ => {
                let start = u64::from_ne_bytes(body[8..16].try_into().unwrap()) as usize;
                let size = u32::from_ne_bytes(body[16..20].try_into().unwrap()) as usize;
                Ok((start..FILE_LEN.min(start + size)).map(byte).collect())
            }
            op::RELEASE | op::FLUSH => Ok(Vec::new()),
            op::FORGET | op::BATCH_FORGET => return message.answer(&[]),
            _ => Err(38),
        };
        let (error, data) = result.map_or_else(|e: i32| (-e, Vec::new()), |data| (0, data));
        let mut reply = (16 + data.len() as u32).to_ne_bytes().to_vec();
        reply.extend_from_slice(&error.to_ne_bytes());
        reply.extend_from_slice(&request[8..16]);
        reply.extend_from_slice(&data);
        message.answer(&reply);
    }
}

/// `fuse_init_out` of protocol 7.31: reads of up to 1 MiB (`FUSE_MAX_PAGES`).
fn init() -> Vec<u8> {
    let mut out = Vec::new();
    let u32s = |out: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|v| out.extend_from_slice(&v.to_ne_bytes()));
    };
    u32s(&mut out, &[7, 31, 1024 * 1024, 1 << 22]);
    u32s(&mut out, &[0, 1024 * 1024, 1, 256]);
    u32s(&mut out, &[0; 8]);
    out
}

fn entry() -> Vec<u8> {
    let mut out = Vec::new();
    [2u64, 0, 0, 0, 0].iter().for_each(|v| out.extend_from_slice(&v.to_ne_bytes()));
    out.extend_from_slice(&attributes(2));
    out
}

/// `fuse_attr` of the root directory (node 1) or the file.
fn attributes(node: u64) -> Vec<u8> {
    let (size, mode) = if node == 1 { (0, 0o040_755) } else { (FILE_LEN as u64, 0o100_644) };
    let mut out = Vec::new();
    [node, size, 0, 0, 0, 0].iter().for_each(|v| out.extend_from_slice(&v.to_ne_bytes()));
    [0u32, 0, 0, mode, 1, 0, 0, 0, 4096, 0]
        .iter()
        .for_each(|v| out.extend_from_slice(&v.to_ne_bytes()));
    out
}
