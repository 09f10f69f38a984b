//! Every host system call that needs `unsafe`, behind a safe function. It knows nothing of sandboxes.
