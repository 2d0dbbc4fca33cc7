//! Python objects for the arguments of a factory, which the configuration has as literals.
//!
//! Called by `app` when it loads an application; parsed by `src/wsgi/arguments.rs`.
//! Runs on: pool thread.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::wsgi::arguments::{Arguments, Literal};

/// What the factory returns.
pub fn call<'py>(factory: &Bound<'py, PyAny>, with: &Arguments) -> PyResult<Bound<'py, PyAny>> {
    let py = factory.py();
    let named = PyDict::new(py);
    for (name, literal) in &with.named {
        named.set_item(name, object(py, literal)?)?;
    }
    factory.call(PyTuple::new(py, objects(py, &with.positional)?)?, Some(&named))
}

fn objects<'py>(py: Python<'py>, literals: &[Literal]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    literals.iter().map(|literal| object(py, literal)).collect()
}

fn object<'py>(py: Python<'py>, literal: &Literal) -> PyResult<Bound<'py, PyAny>> {
    Ok(match literal {
        Literal::None => py.None().into_bound(py),
        Literal::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
        Literal::Int(number) => number.into_pyobject(py)?.into_any(),
        Literal::Float(text) => py.import("builtins")?.call_method1("float", (text,))?,
        Literal::Str(text) => text.into_pyobject(py)?.into_any(),
        Literal::Tuple(items) => PyTuple::new(py, objects(py, items)?)?.into_any(),
        Literal::List(items) => PyList::new(py, objects(py, items)?)?.into_any(),
        Literal::Dict(items) => {
            let dict = PyDict::new(py);
            for (key, item) in items {
                dict.set_item(object(py, key)?, object(py, item)?)?;
            }
            dict.into_any()
        }
    })
}
