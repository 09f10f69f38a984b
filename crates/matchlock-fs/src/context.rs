//! In whose name an operation runs, and how one that waits is woken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::pool::lock;

/// The process of the guest in whose name an operation is asked for. Nothing of the host may be decided
/// by it: the guest's kernel is as hostile as its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of credentials(7)")]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
}

/// What one operation is asked with.
///
/// An operation that has to wait for something that may take long (another's lock, a hook) keeps no
/// thread meanwhile: it hands [`Context::waker`] to what it waits for and answers
/// [`crate::Errno::ERESTARTSYS`]. When the waker is woken, it is called again with the same arguments and the
/// same [`Context::unique`]. An interrupt wakes it too, and so does the end of the server.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who asks, by the guest's word.
    pub caller: Caller,
    /// Which request of this client this is. No two that are under way have the same, if the client is
    /// honest.
    pub unique: u64,
    call: Option<Arc<Call>>,
}

impl Context {
    /// An operation that nothing wakes and interrupts.
    #[must_use]
    pub const fn new(caller: Caller, unique: u64) -> Self {
        Self { caller, unique, call: None }
    }

    pub(crate) fn of(caller: Caller, unique: u64, call: Option<&Arc<Call>>) -> Self {
        Self { caller, unique, call: call.map(Arc::clone) }
    }

    /// Whether the guest wants no result any more: what waits answers [`crate::Errno::EINTR`].
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.interrupted.load(Ordering::Acquire))
    }

    /// Has the operation called again after it answered [`crate::Errno::ERESTARTSYS`]; harmless at any other
    /// time, and from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.call.as_ref().map_or_else(|| Waker::noop().clone(), |call| call.waker.clone())
    }
}

/// An operation that can be woken.
#[derive(Debug)]
pub(crate) struct Call {
    interrupted: AtomicBool,
    waker: Waker,
}

impl Call {
    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

/// The operations under way that can be interrupted, by their unique numbers.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<HashMap<u64, Arc<Call>>>);

impl Calls {
    /// Enters an operation; it is taken out when the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>, unique: u64, waker: Waker) -> Entered {
        let call = Arc::new(Call { interrupted: AtomicBool::new(false), waker });
        lock(&self.0).insert(unique, Arc::clone(&call));
        Entered { calls: Arc::clone(self), unique, call }
    }

    /// Interrupts one operation; says whether it is under way.
    pub(crate) fn interrupt(&self, unique: u64) -> bool {
        // Woken outside of the lock: the waker may end the call at once.
        let call = lock(&self.0).get(&unique).map(Arc::clone);
        call.inspect(|call| call.interrupt()).is_some()
    }

    pub(crate) fn interrupt_all(&self) {
        let calls: Vec<_> = lock(&self.0).values().map(Arc::clone).collect();
        calls.iter().for_each(|call| call.interrupt());
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// An operation that is entered in [`Calls`].
#[derive(Debug)]
pub(crate) struct Entered {
    calls: Arc<Calls>,
    unique: u64,
    call: Arc<Call>,
}

impl Entered {
    pub(crate) const fn call(&self) -> &Arc<Call> {
        &self.call
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut calls = lock(&self.calls.0);
        // A hostile client may have used the number twice.
        if calls.get(&self.unique).is_some_and(|call| Arc::ptr_eq(call, &self.call)) {
            calls.remove(&self.unique);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_used_twice_interrupts_the_later_and_nothing_is_left() {
        let calls = Arc::new(Calls::default());
        let first = calls.enter(7, Waker::noop().clone());
        let second = calls.enter(7, Waker::noop().clone());
        let context = |entered: &Entered| Context::of(Caller::default(), 7, Some(entered.call()));
        assert!(calls.interrupt(7));
        assert!(!context(&first).is_interrupted() && context(&second).is_interrupted());
        drop(first);
        assert!(calls.interrupt(7), "the later one is still entered");
        drop(second);
        assert!(!calls.interrupt(7));
        assert_eq!(calls.len(), 0);
    }

    #[test]
    fn an_operation_without_a_call_is_never_interrupted() {
        let context = Context::new(Caller::default(), 1);
        context.waker().wake();
        assert!(!context.is_interrupted());
    }
}
