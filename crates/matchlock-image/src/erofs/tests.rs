use std::fs::File;

use crate::tree::{Attributes, Content, Inode, Name, Tree};

use super::*;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("name")
}

#[test]
fn a_small_blob_is_read_back() {
    let mut blob = BlobWriter::new(tempfile::tempfile().expect("file")).expect("new");
    blob.begin().expect("begin");
    blob.write(b"hello").expect("write");
    let data = blob.end().expect("end");
    let mut tree = Tree::new(Attributes { mode: 0o755, ..Attributes::default() });
    let file = Inode { attributes: Attributes::default(), content: Content::File(data) };
    let file = tree.add(file);
    tree.link(Tree::ROOT, name("greeting"), file);
    let file: File = blob.finish(&tree).expect("finish");
    assert_eq!(read_layer(&file).expect("read"), tree);
}
