/// A Dockerfile: read, planned, its variables replaced; and the same bytes as a .dockerignore.
pub fn dockerfile(input: &[u8]) {
    matchlock_build::fuzz::dockerfile(input);
}
