//! Large `bytes` objects on their way to the client: shared with the event loop, not copied.
//!
//! `response` shares them. The last owner is nginx's chain, on a thread that must neither attach
//! nor drop a Python object: it leaves the reference in a list that the next runner to come by
//! empties. When much waits there and no request comes, a runner is called for it.
//! Runs on: either; each function says which.

use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::python::interpreter::log;
use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::Mail;

/// Shorter ones are copied: that costs less than the release.
pub const MIN: usize = 32 * 1024;
/// Bytes to be released for which a runner is called.
const MANY: usize = 1 << 20;

static UNRELEASED: Mutex<Vec<PyBackedBytes>> = Mutex::new(Vec::new());
/// Bytes in `UNRELEASED`.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// The reference is there until this is dropped.
struct Shared(Option<PyBackedBytes>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let len = self.as_ref().len();
        lock(&UNRELEASED).extend(self.0.take());
        let before = WAITING.fetch_add(len, Ordering::AcqRel);
        let crosses = before < MANY && before + len >= MANY;
        if let Some(mailbox) = log::mailbox().filter(|_| crosses) {
            mailbox.post(Mail::Tidy);
        }
    }
}

/// The content of `object`, which lives until what is returned has been dropped and [`release`] was
/// called. Attached.
pub fn share(object: &Bound<'_, PyBytes>) -> Bytes {
    Bytes::from_owner(Shared(Some(object.clone().into())))
}

/// Drops the objects that the event loop is done with. Attached.
pub fn release() {
    if WAITING.load(Ordering::Acquire) > 0 {
        WAITING.store(0, Ordering::Release);
        let unreleased = mem::take(&mut *lock(&UNRELEASED));
        // Without the lock: the end of an object may run Python code.
        drop(unreleased);
    }
}
