//! Inode numbers of a tree that is merged from several file systems.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use super::lock;

/// Inodes that no host file has are numbered from here.
pub(crate) const SYNTHETIC_INODES: u64 = 0x7fff << 48;

/// File systems that get a range of their own.
const MAX_DEVICES: usize = 0x7fff;

/// Numbers that are equal for hard links and differ for all other files of the tree.
///
/// The first file system keeps its numbers, which programs without 64-bit inodes can then read; each
/// other one gets a range of 2^48. What does not fit (numbers 0 and 1, which mean something to
/// FUSE clients; 64-bit numbers of some network file systems) is hashed into the upper half.
#[derive(Debug, Default)]
pub(crate) struct InodeNumbers {
    devices: Mutex<Vec<u64>>,
}

impl InodeNumbers {
    pub(crate) fn number(&self, device: u64, ino: u64) -> u64 {
        if (2..1 << 48).contains(&ino)
            && let Some(index) = self.index(device)
        {
            return (index as u64) << 48 | ino;
        }
        let mut hasher = DefaultHasher::new();
        (device, ino).hash(&mut hasher);
        hasher.finish() | 1 << 63
    }

    fn index(&self, device: u64) -> Option<usize> {
        let mut devices = lock(&self.devices);
        if let Some(index) = devices.iter().position(|known| *known == device) {
            return Some(index);
        }
        (devices.len() < MAX_DEVICES).then(|| {
            devices.push(device);
            devices.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_unique_and_stable() {
        let numbers = InodeNumbers::default();
        let files = [7, 9, 1 << 40]
            .into_iter()
            .flat_map(|dev| [0, 1, 2, 3, (1 << 48) - 1, 1 << 48, u64::MAX].map(|ino| (dev, ino)));
        let files: Vec<_> = files.collect();
        let first: Vec<_> = files.iter().map(|(dev, ino)| numbers.number(*dev, *ino)).collect();
        let again: Vec<_> = files.iter().map(|(dev, ino)| numbers.number(*dev, *ino)).collect();
        assert_eq!(first, again);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), files.len());
        assert!(first.iter().all(|number| *number > 1));
        assert_eq!(numbers.number(7, 42), 42, "the first device keeps its numbers");
    }

    #[test]
    fn synthetic_numbers_are_nobody_elses() {
        let numbers = InodeNumbers::default();
        for device in 0..0x8000 + 10 {
            let range = numbers.number(device, 5) >> 48;
            assert_ne!(range, SYNTHETIC_INODES >> 48, "device {device}");
        }
    }
}
