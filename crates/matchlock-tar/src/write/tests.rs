use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Reads the records of the first pax header.
fn records(archive: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut archive = ::tar::Archive::new(archive);
    let mut entry = archive.entries().expect("an archive").next().expect("one").expect("whole");
    let records = entry.pax_extensions().expect("records").into_iter().flatten();
    records
        .map(|record| record.expect("well-formed"))
        .map(|record| (record.key_bytes().to_vec(), record.value_bytes().to_vec()))
        .collect()
}

proptest! {
    #[test]
    fn any_entry_is_read_back_as_it_was(
        // The reader of these tests takes any end of line for the end of a record.
        path in proptest::collection::vec(11u8..=255, 1..300),
        link in proptest::collection::vec(11u8..=255, 1..300),
        (mode, uid, gid) in (0u32..0o10000, any::<u32>(), any::<u32>()),
        mtime in (-5_000_000_000i64..50_000_000_000, 0u32..1_000_000_000),
        xattrs in proptest::collection::vec(
            ("user\\.[a-z]{1,120}", proptest::collection::vec(11u8..=255, 0..300)), 0..4),
    ) {
        let xattrs: Vec<_> =
            xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        // A slash at the end is how an archive says directory.
        let path: Vec<u8> =
            path.into_iter().map(|byte| if byte == b'/' { b'x' } else { byte }).collect();
        let kind = Kind::Symlink(&link);
        let entry = Entry { path: &path, kind, mode, uid, gid, mtime, xattrs: &xattrs };
        let mut archive = Vec::new();
        header(&entry, &mut archive).expect("written");
        end(&mut archive).expect("written");
        prop_assert_eq!(archive.len() % 512, 0);
        let mut read = ::tar::Archive::new(archive.as_slice());
        let found = read.entries().expect("an archive").next().expect("one").expect("whole");
        prop_assert_eq!(found.path_bytes().into_owned(), path);
        let target = found.link_name_bytes().expect("a link").into_owned();
        prop_assert_eq!(target, link);
        let head = found.header();
        prop_assert_eq!(head.mode().expect("a mode"), mode);
        prop_assert_eq!(head.uid().expect("a user"), u64::from(uid));
        prop_assert_eq!(head.gid().expect("a group"), u64::from(gid));
        let records = records(&archive);
        for (name, value) in &xattrs {
            let key = [b"SCHILY.xattr.", name.as_slice()].concat();
            prop_assert!(records.contains_key(&key), "{:?} of {:?}", value, records);
        }
        if mtime.1 != 0 {
            let text = String::from_utf8(records[&b"mtime"[..]].clone()).expect("a number");
            let (whole, fraction) = text.split_once('.').expect("a fraction");
            let nanoseconds: i128 = fraction.parse().expect("digits");
            let sign = if whole.starts_with('-') { -1 } else { 1 };
            let total = whole.trim_start_matches('-').parse::<i128>().expect("digits");
            let total = sign * (total * 1_000_000_000 + nanoseconds);
            prop_assert_eq!(total, i128::from(mtime.0) * 1_000_000_000 + i128::from(mtime.1));
        }
    }
}

#[test]
fn content_ends_on_a_block() {
    for size in [0u64, 1, 511, 512, 513] {
        let mut archive = vec![0; usize::try_from(size).expect("small")];
        pad(size, &mut archive).expect("written");
        assert_eq!(archive.len() % 512, 0, "{size}");
        assert!(archive.len() - usize::try_from(size).expect("small") < 512, "{size}");
    }
}
