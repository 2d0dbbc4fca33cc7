//! What both kinds of `wsgi.input` make of a read and a line: Python's file methods, see
//! `io.IOBase`.
//!
//! Runs on: any Python thread.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};

type Bytes<'py> = PyResult<Bound<'py, PyBytes>>;

/// What a size means: `None` and negative numbers are no limit.
pub fn limit(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX)
}

/// All lines that are left; with a hint, none begins after that many bytes. `line`: the next one,
/// empty at the end.
pub fn lines<'py>(
    py: Python<'py>,
    hint: Option<i64>,
    line: impl Fn() -> Bytes<'py>,
) -> PyResult<Bound<'py, PyList>> {
    // A hint of 0 is no limit either.
    let hint = limit(hint.filter(|hint| *hint > 0));
    let lines = PyList::empty(py);
    let mut sum = 0;
    while sum < hint {
        let Some(line) = next(line())? else { break };
        sum += line.as_bytes().len() as u64;
        lines.append(line)?;
    }
    Ok(lines)
}

/// A line for an iterator, which ends at the empty one.
pub fn next(line: Bytes<'_>) -> PyResult<Option<Bound<'_, PyBytes>>> {
    Ok(Some(line?).filter(|line| !line.as_bytes().is_empty()))
}

/// `readinto`: fills the buffer with what `take` has for it, which is not more; the bytes taken.
pub fn read_into<'py>(
    buffer: &Bound<'py, PyAny>,
    take: impl FnOnce(usize) -> Bytes<'py>,
) -> PyResult<usize> {
    let py = buffer.py();
    let view = PyMemoryView::from(buffer)?.call_method1("cast", ("B",))?;
    let data = take(view.len()?)?;
    let len = data.as_bytes().len();
    view.set_item(PySlice::new(py, 0, len as isize, 1), data)?;
    Ok(len)
}
