/// A layer of an image, compressed or not, into a tree and a blob, and the blob back into the tree.
pub fn layer(input: &[u8]) {
    matchlock_image::layer::fuzz::fuzz_layer(input);
}
