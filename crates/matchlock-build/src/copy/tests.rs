use std::io::{self, Read};

use super::*;
use matchlock_image::tree::Name;
use std::sync::atomic::{AtomicU8, Ordering};

/// One file, another each time it is read.
struct Restless(AtomicU8);

impl Files for Restless {
    fn find(&self, path: &[u8]) -> Result<Option<(Vec<u8>, Entry)>, FilesError> {
        let attributes = Attributes::default();
        Ok(Some((path.to_vec(), Entry { attributes, kind: Kind::File, hidden: false })))
    }

    fn list(&self, _path: &[u8]) -> Result<Vec<(Name, Entry)>, FilesError> {
        Ok(Vec::new())
    }

    fn open(&self, _path: &[u8]) -> Result<Box<dyn Read + Send>, FilesError> {
        Ok(Box::new(io::Cursor::new([self.0.fetch_add(1, Ordering::Relaxed)])))
    }
}

#[test]
fn a_file_that_changes_while_it_is_copied_is_an_error() {
    let (root, files) = (Root::empty(), Restless(AtomicU8::new(0)));
    let to = Destination::new(b"/x", None, None, SystemTime::UNIX_EPOCH);
    let mut plan = Plan::new(&root, to);
    plan.add(&files, &[b"f".to_vec()], false).expect("a plan");
    let made = plan.carry_out(tempfile::tempfile().expect("a file"), false);
    assert!(matches!(made, Err(CopyError::Changed(path)) if path == "f"));
}
