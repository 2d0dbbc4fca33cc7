//! What environs with the same names in the same order have in common.
//!
//! Requests of one kind of client differ in values, seldom in names. For such a *shape* there is a
//! dict with all keys to be copied, so that none is looked up, made or moved again, and the last
//! str of values that tend to stay. Filled and used by `environ`. A shape is learnt when it comes a
//! second time, and the number of shapes is bounded: clients choose the names of headers.
//! Runs on: pool thread.

use std::hash::Hasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::wsgi::numbers::{NumberMap, Spread};
use crate::wsgi::vars::Vars;

use super::environ::MAX_NAME;
use super::ffi;

/// Shapes kept; when another one comes it starts over.
const MAX_SHAPES: usize = 64;
/// Names of a shape that is kept.
const MAX_NAMES: usize = 64;
/// Bytes of a value that is kept.
const MAX_VALUE: usize = 256;

/// Variables whose values come again, and are no secrets to be kept longer than their request.
const STEADY: [&[u8]; 15] = [
    b"DOCUMENT_ROOT",
    b"HTTPS",
    b"HTTP_ACCEPT",
    b"HTTP_ACCEPT_ENCODING",
    b"HTTP_ACCEPT_LANGUAGE",
    b"HTTP_CONNECTION",
    b"HTTP_HOST",
    b"HTTP_USER_AGENT",
    b"REMOTE_ADDR",
    b"REQUEST_METHOD",
    b"REQUEST_SCHEME",
    b"SCRIPT_NAME",
    b"SERVER_NAME",
    b"SERVER_PORT",
    b"SERVER_PROTOCOL",
];

/// One variable of a shape.
struct Name {
    name: Box<[u8]>,
    /// `None`: not for the environ.
    key: Option<Py<PyString>>,
    is_steady: bool,
}

type Steady = Option<(Box<[u8]>, Py<PyString>)>;

pub struct Shape {
    names: Vec<Name>,
    prototype: Py<PyDict>,
    /// Last values, for each name. Nothing under this lock runs Python code or makes a container,
    /// which could start the garbage collector.
    values: Mutex<Vec<Steady>>,
}

impl Shape {
    fn fits(&self, vars: &Vars) -> bool {
        let mut names = self.names.iter();
        vars.iter().all(|(name, _)| names.next().is_some_and(|known| *known.name == *name))
            && names.next().is_none()
    }

    /// A dict of its own with all keys and no values yet.
    pub fn environ<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.prototype.bind(py).copy()
    }

    /// Sets the value of every key.
    pub fn set_vars(&self, environ: &Bound<'_, PyDict>, vars: &Vars) -> PyResult<()> {
        let py = environ.py();
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.names.iter().zip(values.iter_mut());
        for ((name, last), (_, value)) in last.zip(vars.iter()) {
            let Some(key) = &name.key else { continue };
            match last {
                Some((bytes, text)) if **bytes == *value => {
                    environ.set_item(key.bind(py), text.bind(py))?;
                }
                _ => {
                    let text = ffi::latin1(py, value)?;
                    environ.set_item(key.bind(py), &text)?;
                    if name.is_steady && value.len() <= MAX_VALUE {
                        *last = Some((value.into(), text.unbind()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The shapes of one application.
#[derive(Default)]
pub struct Shapes(Mutex<State>);

struct State {
    shapes: NumberMap<Arc<Shape>>,
    /// Numbers of shapes that have come once, each at a place of its own.
    seen: [u64; MAX_SHAPES],
}

impl Default for State {
    fn default() -> Self {
        Self { shapes: NumberMap::default(), seen: [0; MAX_SHAPES] }
    }
}

impl Shapes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shape with this number, if these vars have it.
    pub fn find(&self, number: u64, vars: &Vars) -> Option<Arc<Shape>> {
        let shape = self.lock().shapes.get(&number).map(Arc::clone)?;
        shape.fits(vars).then_some(shape)
    }

    /// True if the shape has come before and is small enough to be kept.
    pub fn is_wanted(&self, number: u64, vars: &Vars) -> bool {
        let mut state = self.lock();
        let place = &mut state.seen[(number % MAX_SHAPES as u64) as usize];
        std::mem::replace(place, number) == number
            && vars.iter().count() <= MAX_NAMES
            && vars.iter().all(|(name, _)| name.len() <= MAX_NAME)
    }

    /// Learns a shape. `base`: the environ without vars; `key`: the key of a variable, if it is
    /// known.
    pub fn learn(
        &self,
        number: u64,
        vars: &Vars,
        base: &Bound<'_, PyDict>,
        key: impl Fn(&[u8]) -> Option<Py<PyString>>,
    ) -> PyResult<()> {
        let mut names = Vec::with_capacity(MAX_NAMES);
        for (name, _) in vars.iter() {
            let key = key(name);
            if key.is_none() && !name.starts_with(b"wsgi.") {
                return Ok(());
            }
            names.push(Name { name: name.into(), key, is_steady: STEADY.contains(&name) });
        }
        let prototype = base.copy()?;
        for key in names.iter().filter_map(|name| name.key.as_ref()) {
            prototype.set_item(key.bind(base.py()), "")?;
        }
        let values = Mutex::new(names.iter().map(|_| None).collect());
        let shape = Arc::new(Shape { names, prototype: prototype.unbind(), values });
        let mut state = self.lock();
        let old = match state.shapes.len() {
            ..MAX_SHAPES => NumberMap::default(),
            _ => std::mem::take(&mut state.shapes),
        };
        let replaced = state.shapes.insert(number, shape);
        drop(state);
        // Without the lock: dicts go with them.
        drop((old, replaced));
        Ok(())
    }
}

/// A number for the names and their order, the same for vars of one shape.
pub fn number(vars: &Vars) -> u64 {
    let mut hash = Spread::default();
    for (name, _) in vars.iter() {
        // The ends of a name and its length tell most names apart; `find` compares them all.
        match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(first), Some(last)) => {
                hash.write_u64(u64::from_le_bytes(*first));
                hash.write_u64(u64::from_le_bytes(*last) ^ (name.len() as u64) << 48);
            }
            _ => hash.write_u64(name.iter().fold(1, |word, b| word << 8 | u64::from(*b))),
        }
    }
    hash.finish()
}
