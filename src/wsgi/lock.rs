//! Locks that a panic of their holder does not close for everybody else.
//!
//! A panic on a thread of a pool is caught and logged, and the worker goes on.
//! Runs on: either.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks the mutex, also if another holder has panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
