//! What environs with the same names in the same order have in common.
//!
//! Requests of one kind of client differ in values, seldom in names. For such a *shape* there is a
//! dict with all keys, and with the last values of those variables that tend to stay: a request
//! copies it and sets what differs. Filled and used by `environ`. A shape is learnt when it comes a
//! second time, and the number of shapes is bounded: clients choose the names of headers.
//! Runs on: pool thread.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::python::interpreter::ffi;
use crate::wsgi::lock::lock;
use crate::wsgi::numbers::{NumberMap, Spread};
use crate::wsgi::request::vars::Vars;

/// Shapes kept; when another shape comes, all are forgotten.
const MAX_SHAPES: usize = 64;
/// Names of a shape that is kept.
const MAX_NAMES: usize = 64;
/// Longest name that is kept.
pub const MAX_NAME: usize = 64;
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

/// The variables that `Schemes::of` looks at; all of them are steady.
const TELLS_SCHEME: [&[u8]; 2] = [b"HTTPS", b"REQUEST_SCHEME"];

/// The values of `wsgi.url_scheme`.
pub struct Schemes<'py> {
    pub http: &'py Bound<'py, PyString>,
    https: &'py Bound<'py, PyString>,
}

pub fn schemes(py: Python<'_>) -> Schemes<'_> {
    Schemes { http: intern!(py, "http"), https: intern!(py, "https") }
}

impl<'py> Schemes<'py> {
    /// HTTPS=on and its kin, or REQUEST_SCHEME, make it https.
    pub fn of(&self, vars: &Vars) -> &'py Bound<'py, PyString> {
        let is_secure = vars.iter().any(|(name, value)| match name {
            b"HTTPS" => [&b"on"[..], b"1", b"https", b"true"]
                .iter()
                .any(|secure| value.eq_ignore_ascii_case(secure)),
            b"REQUEST_SCHEME" => value.eq_ignore_ascii_case(b"https"),
            _ => false,
        });
        if is_secure { self.https } else { self.http }
    }
}

/// One variable of a shape.
struct Name {
    /// `None`: not for the environ.
    key: Option<Py<PyString>>,
    is_steady: bool,
    tells_scheme: bool,
}

pub struct Shape {
    /// [`Vars::names`].
    column: Box<[u8]>,
    names: Vec<Name>,
    /// All keys: with the last values of steady variables, as `values` has them, and empty strings
    /// for the others.
    prototype: Py<PyDict>,
    /// Number of changes of the prototype.
    version: AtomicU64,
    /// Last value of each name, empty for those that are not steady. Nothing under this lock runs
    /// Python code or makes a container, which could start the garbage collector.
    values: Mutex<Vec<Box<[u8]>>>,
}

impl Shape {
    fn fits(&self, vars: &Vars) -> bool {
        *self.column == *vars.names()
    }

    /// A dict of its own with every key and value of `vars`, and `wsgi.url_scheme`.
    pub fn environ<'py>(&self, py: Python<'py>, vars: &Vars) -> PyResult<Bound<'py, PyDict>> {
        // Before the lock: the first use of an interned str may wait for another thread.
        let (scheme_key, schemes) = (intern!(py, "wsgi.url_scheme"), schemes(py));
        let version = self.version.load(Ordering::Acquire);
        let environ = self.prototype.bind(py).copy()?;
        let mut values = lock(&self.values);
        // Copying may have let another thread change the prototype.
        let is_last = version == self.version.load(Ordering::Acquire);
        let mut is_scheme_known = is_last;
        let names = self.names.iter().zip(values.iter_mut());
        for ((name, last), value) in names.zip(vars.values()) {
            let Some(key) = &name.key else { continue };
            if **last == *value && (is_last || !name.is_steady) {
                continue;
            }
            is_scheme_known &= !name.tells_scheme;
            let (key, text) = (key.bind(py), ffi::latin1(py, value)?);
            environ.set_item(key, &text)?;
            let is_kept = name.is_steady && (name.tells_scheme || value.len() <= MAX_VALUE);
            if is_kept && **last != *value {
                self.change(py, |prototype| {
                    if name.tells_scheme {
                        prototype.set_item(scheme_key, schemes.of(vars))?;
                    }
                    prototype.set_item(key, &text)
                })?;
                *last = value.into();
            }
        }
        if !is_scheme_known {
            environ.set_item(scheme_key, schemes.of(vars))?;
        }
        Ok(environ)
    }

    /// Changes the prototype; only with the lock of the values. A copy of what is half changed
    /// has a version that is not the last.
    fn change(
        &self,
        py: Python<'_>,
        set: impl FnOnce(&Bound<'_, PyDict>) -> PyResult<()>,
    ) -> PyResult<()> {
        self.version.fetch_add(1, Ordering::AcqRel);
        let outcome = set(self.prototype.bind(py));
        self.version.fetch_add(1, Ordering::AcqRel);
        outcome
    }
}

/// The shapes of one application.
#[derive(Default)]
pub struct Shapes(Mutex<State>);

#[derive(Default)]
struct State {
    shapes: NumberMap<Arc<Shape>>,
    /// The one that was used last.
    recent: Option<Arc<Shape>>,
    /// Numbers of shapes that have come once, each at a place of its own.
    seen: Vec<u64>,
}

impl Shapes {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// The shape of these vars, if it is known.
    pub fn find(&self, vars: &Vars) -> Option<Arc<Shape>> {
        let mut state = self.lock();
        if let Some(recent) = state.recent.as_ref().filter(|recent| recent.fits(vars)) {
            return Some(Arc::clone(recent));
        }
        let shape = state.shapes.get(&number(vars)).filter(|shape| shape.fits(vars))?.clone();
        let before = state.recent.replace(Arc::clone(&shape));
        drop(state);
        drop(before);
        Some(shape)
    }

    /// True if the shape has come before and is small enough to be kept.
    pub fn is_wanted(&self, vars: &Vars) -> bool {
        let number = number(vars);
        let mut state = self.lock();
        state.seen.resize(MAX_SHAPES, 0);
        let place = &mut state.seen[(number % MAX_SHAPES as u64) as usize];
        std::mem::replace(place, number) == number
            && vars.iter().count() <= MAX_NAMES
            && vars.iter().all(|(name, _)| name.len() <= MAX_NAME)
    }

    /// Learns a shape. `base`: the environ without vars; `key`: the key of a variable, if it is
    /// known. One that has a name twice is never learnt.
    pub fn learn(
        &self,
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
            if vars.iter().filter(|(known, _)| *known == name).count() > 1 {
                return Ok(());
            }
            names.push(Name {
                key,
                is_steady: STEADY.contains(&name),
                tells_scheme: TELLS_SCHEME.contains(&name),
            });
        }
        let prototype = base.copy()?;
        for key in names.iter().filter_map(|name| name.key.as_ref()) {
            prototype.set_item(key.bind(base.py()), "")?;
        }
        let shape = Arc::new(Shape {
            column: vars.names().into(),
            values: Mutex::new(names.iter().map(|_| Box::default()).collect()),
            names,
            prototype: prototype.unbind(),
            version: AtomicU64::new(0),
        });
        let number = number(vars);
        let mut state = self.lock();
        let old = match state.shapes.len() {
            ..MAX_SHAPES => NumberMap::default(),
            _ => std::mem::take(&mut state.shapes),
        };
        let replaced = state.shapes.insert(number, Arc::clone(&shape));
        let before = state.recent.replace(shape);
        drop(state);
        // Without the lock: dicts go with them.
        drop((old, replaced, before));
        Ok(())
    }
}

/// A number for the names and their order, the same for vars of one shape.
fn number(vars: &Vars) -> u64 {
    let mut hash = Spread::default();
    let (words, rest) = vars.names().as_chunks::<8>();
    for word in words {
        hash.write_u64(u64::from_le_bytes(*word));
    }
    hash.write_u64(rest.iter().fold(1, |word, b| word << 8 | u64::from(*b)));
    hash.finish()
}
