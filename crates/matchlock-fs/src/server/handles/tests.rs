//! The table of what is open, in one thread against a model, and with many threads at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::context::Caller;
use crate::reply::DirBuffer;
use crate::types::Attr;

/// Counts what happens to it.
#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    released: AtomicUsize,
    dropped: AtomicUsize,
}

#[derive(Debug)]
struct File(Arc<Counts>);

impl File {
    fn new(counts: &Arc<Counts>) -> Arc<Self> {
        counts.made.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self(Arc::clone(counts)))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl OpenFile for File {
    fn getattr(&self, _: &Context) -> Result<(Attr, Duration)> {
        Ok((Attr::default(), Duration::ZERO))
    }

    fn read(&self, _: &Context, _: u64, _: usize, _: &mut Vec<u8>) -> Result<()> {
        assert_eq!(self.0.released.load(Ordering::SeqCst), 0, "used after its release");
        Ok(())
    }

    fn release(&self, _: &Context, release: &Release) {
        self.0.released.fetch_add(1, Ordering::SeqCst);
        assert_ne!(release.flags, u32::MAX, "as asked");
    }
}

impl OpenDir for File {
    fn getattr(&self, ctx: &Context) -> Result<(Attr, Duration)> {
        OpenFile::getattr(self, ctx)
    }

    fn readdir(&self, _: &Context, _: u64, _: &mut DirBuffer<'_>) -> Result<()> {
        Ok(())
    }
}

fn context() -> Context {
    Context::new(Caller::default(), 1)
}

#[test]
fn handles_are_bounded() {
    let (handles, counts) = (Handles::new(2), Arc::new(Counts::default()));
    let first = handles.insert_file(NodeId(5), File::new(&counts)).expect("room");
    handles.insert_directory(NodeId(6), File::new(&counts)).expect("room");
    let refused = handles.insert_file(NodeId(5), File::new(&counts));
    assert_eq!(refused, Err(Errno::ENFILE));
    assert_eq!(counts.dropped.load(Ordering::SeqCst), 1, "what is refused is not kept");
    handles.remove(&context(), NodeId(5), first, Release::default()).expect("is open");
    assert_ne!(handles.insert_file(NodeId(5), File::new(&counts)), Ok(first), "never twice");
}

#[test]
fn a_file_is_released_when_the_last_operation_has_ended() {
    let (handles, counts) = (Handles::new(2), Arc::new(Counts::default()));
    let handle = handles.insert_file(NodeId(5), File::new(&counts)).expect("room");
    let reading = handles.file(NodeId(5), handle).expect("open");
    handles.remove(&context(), NodeId(5), handle, Release::default()).expect("is open");
    assert!(handles.file(NodeId(5), handle).is_err(), "closed for what comes later");
    reading.read(&context(), 0, 1, &mut Vec::new()).expect("still open for what came before");
    drop(reading);
    assert_eq!(counts.released.load(Ordering::SeqCst), 1);
    assert_eq!(counts.dropped.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panic_in_a_release_ends_nothing() {
    let (handles, counts) = (Handles::new(2), Arc::new(Counts::default()));
    let handle = handles.insert_file(NodeId(5), File::new(&counts)).expect("room");
    let release = Release { flags: u32::MAX, ..Release::default() };
    handles.remove(&context(), NodeId(5), handle, release).expect("is open");
    assert_eq!(counts.dropped.load(Ordering::SeqCst), 1);
}

/// Steps of a client that opens, uses and closes, also what is not open.
#[derive(Debug, Clone)]
enum Step {
    Open { node: u64, directory: bool },
    Use { node: u64, handle: usize },
    EndUse { which: usize },
    Close { node: u64, handle: usize },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let (node, handle) = (0u64..3, 0usize..12);
    prop_oneof![
        6 => (node.clone(), any::<bool>()).prop_map(|(node, directory)| Step::Open { node, directory }),
        4 => (node.clone(), handle.clone()).prop_map(|(node, handle)| Step::Use { node, handle }),
        4 => (0usize..8).prop_map(|which| Step::EndUse { which }),
        6 => (node, handle).prop_map(|(node, handle)| Step::Close { node, handle }),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn any_sequence_keeps_what_is_open_and_nothing_else(steps in prop::collection::vec(step(), 0..100)) {
        let (handles, counts) = (Handles::new(6), Arc::new(Counts::default()));
        let mut open: HashMap<Handle, (NodeId, bool)> = HashMap::new();
        let mut users: Vec<FileRef> = Vec::new();
        let (mut given, mut closed) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Open { node, directory } => {
                    let (node, file) = (NodeId(node), File::new(&counts));
                    let handle = if directory {
                        handles.insert_directory(node, file)
                    } else {
                        handles.insert_file(node, file)
                    };
                    prop_assert_eq!(handle.is_ok(), open.len() < 6);
                    if let Ok(handle) = handle {
                        prop_assert!(!given.contains(&handle));
                        given.push(handle);
                        open.insert(handle, (node, directory));
                    }
                }
                Step::Use { node, handle } => {
                    let handle = given.get(handle).copied().unwrap_or(Handle(99));
                    let is = |directory| open.get(&handle) == Some(&(NodeId(node), directory));
                    let file = handles.file(NodeId(node), handle);
                    prop_assert_eq!(file.is_ok(), is(false));
                    prop_assert_eq!(handles.directory(NodeId(node), handle).is_ok(), is(true));
                    users.extend(file);
                }
                Step::EndUse { which } => {
                    if which < users.len() {
                        users.remove(which);
                    }
                }
                Step::Close { node, handle } => {
                    let handle = given.get(handle).copied().unwrap_or(Handle(99));
                    let known = open.get(&handle).copied().filter(|(of, _)| *of == NodeId(node));
                    let result = handles.remove(&context(), NodeId(node), handle, Release::default());
                    prop_assert_eq!(result.is_ok(), known.is_some());
                    if let Some((_, directory)) = known {
                        open.remove(&handle);
                        closed += usize::from(!directory);
                    }
                }
                Step::Clear => {
                    handles.clear();
                    open.clear();
                }
            }
        }
        users.clear();
        prop_assert_eq!(counts.released.load(Ordering::SeqCst), closed, "each file that was closed, once");
        drop(handles);
        let (made, dropped) = (&counts.made, &counts.dropped);
        prop_assert_eq!(made.load(Ordering::SeqCst), dropped.load(Ordering::SeqCst));
    }
}

/// Reads, closes and new starts of the client at once: each file is released at most once, nobody reads
/// one that was released, and in the end nothing is left.
#[test]
fn many_threads_share_the_table() {
    let handles = Handles::new(64);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (handles, all) = (&handles, &all);
            scope.spawn(move || {
                for round in 0..2000 {
                    let counts = Arc::new(Counts::default());
                    let node = NodeId(round % 3);
                    if let Ok(handle) = handles.insert_file(node, File::new(&counts)) {
                        lock(all).push((handle, node, counts));
                    }
                    let other = lock(all).get((round * 7 + thread) as usize).cloned();
                    if let Some((handle, node, _)) = other {
                        if let Ok(file) = handles.file(node, handle) {
                            file.read(&context(), 0, 1, &mut Vec::new()).expect("reads");
                        }
                        let _ = handles.remove(&context(), node, handle, Release::default());
                    }
                    if round % 512 == thread {
                        handles.clear();
                    }
                }
            });
        }
    });
    handles.clear();
    for (_, _, counts) in lock(&all).iter() {
        assert!(counts.released.load(Ordering::SeqCst) <= 1);
        assert_eq!(counts.dropped.load(Ordering::SeqCst), 1);
    }
}
