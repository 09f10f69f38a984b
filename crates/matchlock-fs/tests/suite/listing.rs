//! A listing has every name exactly once, however small the pieces.

use std::collections::BTreeSet;
use std::sync::Arc;

use matchlock_fs::{CachePolicy, Filter, HostDir, HostDirOptions, IdSpace, Limits, Pool};
use proptest::prelude::*;

use crate::client::{Client, EINVAL};

const PLENTY: Limits = Limits { nodes: 10_000, handles: 10, cached_fds: 16 };

fn client(path: &std::path::Path) -> Client<HostDir> {
    let options = HostDirOptions {
        cache: CachePolicy::SYSTEM,
        filter: Filter { masks: ["masked*"].into_iter().collect(), ..Filter::default() },
        cross_mounts: false,
        stateless: true,
    };
    let dir = HostDir::open(path, IdSpace::ROOT, &Pool::new(PLENTY), options);
    Client::new(Arc::new(dir.expect("opens")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_name_is_listed_once(
        names in prop::collection::btree_set("[a-z]{1,40}|[a-z]{200,255}", 0..150),
        masked in 0usize..20,
        size in 440u32..9000,
        plus in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().expect("directory");
        let masks = (0..masked).map(|number| format!("masked{number}"));
        for name in names.iter().cloned().chain(masks) {
            std::fs::write(directory.path().join(name), b"").expect("write");
        }
        let client = client(directory.path());
        let listed = client.list(1, size, plus).expect("lists");
        let unique: BTreeSet<_> = listed.iter().map(|listed| listed.name.clone()).collect();
        prop_assert_eq!(unique.len(), listed.len(), "no name twice");
        let mut expected: BTreeSet<_> = names.iter().filter(|name| !name.starts_with("masked")).cloned().collect();
        expected.extend([".".to_owned(), "..".to_owned()]);
        prop_assert_eq!(&unique, &expected);
        for listed in &listed {
            let dots = listed.name.starts_with('.');
            prop_assert_eq!(listed.node != 0, plus && !dots, "{}", &listed.name);
            if !dots {
                let found = client.lookup(1, &listed.name).expect("found");
                prop_assert_eq!(found.ino, listed.ino);
                prop_assert_eq!(found.mode >> 12, listed.kind);
                // Exactly as many references as were given.
                client.forget(found.node, if plus { 2 } else { 1 });
                prop_assert!(client.getattr(found.node).is_err());
            }
        }
    }
}

#[test]
fn a_buffer_too_small_for_a_name_is_an_error() {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::write(directory.path().join("n".repeat(255)), b"").expect("write");
    let client = client(directory.path());
    for (plus, needed) in [(false, 280), (true, 408)] {
        assert_eq!(client.list(1, needed, plus).expect("lists").len(), 3);
        assert_eq!(client.list(1, needed - 8, plus), Err(EINVAL));
    }
    assert_eq!(client.list_once(1, 0, 0, 0, false), Err(EINVAL));
    assert_eq!(client.list(1, u32::MAX, false).expect("bounded").len(), 3);
}
