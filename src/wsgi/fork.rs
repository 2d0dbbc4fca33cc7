//! Whether this process is a forked child of the worker.
//!
//! An application may call `os.fork()`; the child has a copy of the runner's stack and must never
//! go on as if it were the worker. `src/nginx` marks the child from its `pthread_atfork` handler,
//! `src/python` asks after every return from the application.
//! Runs on: either.

use std::sync::atomic::{AtomicBool, Ordering};

static CHILD: AtomicBool = AtomicBool::new(false);

/// Called in the child, right after `fork`. An atomic store: async-signal-safe.
pub fn mark_child() {
    CHILD.store(true, Ordering::Relaxed);
}

/// True in a forked child of the worker, for good.
pub fn is_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}
