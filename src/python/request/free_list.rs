//! Objects that every request needs one of: made anew only if the last one is still in use.
//!
//! `objects` takes and leaves them. To make and to end three objects is a twentieth of the
//! instructions of a small request. Objects that the application has kept, weakly or not, are
//! never used again: after the end of their request they stay dead.
//! Runs on: pool thread.

use std::sync::Mutex;

use pyo3::PyClass;
use pyo3::prelude::*;

use crate::python::interpreter::ffi;
use crate::wsgi::lock::lock;

/// Objects kept of a class: as many as threads of a usual pool.
const MOST: usize = 32;

/// Objects of one class whose requests have ended.
pub struct FreeList<T>(Mutex<Vec<Py<T>>>);

impl<T> Default for FreeList<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: PyClass> FreeList<T> {
    /// An object that has been left here, or a new one, which is to be told of its request.
    pub fn take_or_make<'py>(
        &self,
        py: Python<'py>,
        make: impl FnOnce() -> T,
    ) -> PyResult<Bound<'py, T>>
    where
        T: Into<PyClassInitializer<T>>,
    {
        let kept = lock(&self.0).pop();
        kept.map_or_else(|| Bound::new(py, make()), |object| Ok(object.into_bound(py)))
    }

    /// The request of this object has ended, and the object with it.
    pub fn leave(&self, object: Bound<'_, T>) {
        if !ffi::is_alone(object.as_any()) {
            return;
        }
        let mut kept = lock(&self.0);
        if kept.len() < MOST {
            kept.push(object.unbind());
        }
    }
}
