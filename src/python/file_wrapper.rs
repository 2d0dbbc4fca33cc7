//! `wsgi.file_wrapper`: iterates over a file-like object in blocks.
//!
//! The application calls it and returns the result; `call` iterates over that as over any other.
//! It has no attributes of the file: middleware may return it wrapped, or not at all.
//! Runs on: pool thread. PEP 3333, "Optional Platform-Specific File Handling".

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

#[pyclass(frozen, module = "wsgi", name = "FileWrapper")]
pub struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: isize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize = 8192))]
    fn new(filelike: Py<PyAny>, blksize: isize) -> Self {
        Self { filelike, blksize }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let read = intern!(py, "read");
        let block = self.filelike.bind(py).call_method1(read, (self.blksize,))?;
        Ok(if block.is_truthy()? { Some(block) } else { None })
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.filelike)
    }
}
