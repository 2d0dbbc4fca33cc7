//! `wsgi.file_wrapper`: iterates over a file-like object in blocks.
//!
//! The application calls it and returns the wrapper. If `call` gets the wrapper back as it is, and
//! the wrapper reads from a regular file, the file goes to nginx; anything else is iterated over.
//! Of the file's attributes the wrapper has those that move its position, so that what wraps the
//! wrapper in turn need not read what it does not want (Werkzeug, to answer a range).
//! Runs on: pool thread. PEP 3333, "Optional Platform-Specific File Handling".

use std::fs::File;
use std::os::unix::fs::FileExt;

use pyo3::exceptions::PyAttributeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyString};

use crate::python::interpreter::ffi;

#[pyclass(frozen, module = "wsgi", name = "FileWrapper")]
pub struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: isize,
}

impl FileWrapper {
    /// The file behind it with the position that `read()` would start at, and the bytes from there
    /// on; `None` if `read()` must be asked. The file has a descriptor of its own.
    pub fn regular_file(&self, py: Python<'_>) -> Option<(File, u64, u64)> {
        // What fails here fails again where the application sees it: in read().
        let (fd, offset) = self.position(py).ok().flatten()?;
        py.detach(|| {
            let file = ffi::duplicate(fd).ok()?;
            let meta = file.metadata().ok()?;
            let rest = meta.len().checked_sub(offset).filter(|rest| *rest > 0)?;
            (meta.is_file() && ends_at(&file, meta.len())).then_some((file, offset, rest))
        })
    }

    /// Descriptor and position, if `read` is that of a readable file of module io, unbuffered or
    /// buffered. Only then does it return the file's very bytes: a GzipFile has a fileno too.
    fn position(&self, py: Python<'_>) -> PyResult<Option<(libc::c_int, u64)>> {
        let filelike = self.filelike.bind(py);
        let mut read = filelike.getattr(intern!(py, "read"))?;
        if is_temporary(filelike)? {
            read = read.getattr(intern!(py, "__wrapped__"))?;
        }
        // Or of what derives from it, builtin_method: that of a FileIO, since Python 3.13.
        if !read.is_instance_of::<PyCFunction>()
            || !read.getattr(intern!(py, "__name__"))?.eq(intern!(py, "read"))?
        {
            return Ok(None);
        }
        let file = read.getattr(intern!(py, "__self__"))?;
        let types = Types::get(py)?;
        let kind = file.get_type();
        let raw = if kind.is(&types.raw) {
            file.clone()
        } else if kind.is(&types.reader) || kind.is(&types.random) {
            file.getattr(intern!(py, "raw"))?
        } else {
            return Ok(None);
        };
        if !raw.get_type().is(&types.raw)
            || !raw.call_method0(intern!(py, "readable"))?.is_truthy()?
        {
            return Ok(None);
        }
        if kind.is(&types.random) {
            // read() writes out first what has been written into the buffer.
            file.call_method0(intern!(py, "flush"))?;
        }
        let offset = file.call_method0(intern!(py, "tell"))?.extract()?;
        Ok(Some((raw.call_method0(intern!(py, "fileno"))?.extract()?, offset)))
    }
}

/// Whether `size`, not 0, is where the content ends. Files that are made when they are read have
/// none (/proc, some FUSE file systems), or one that says nothing (4096 in /sys).
fn ends_at(file: &File, size: u64) -> bool {
    let last_and_next = file.read_at(&mut [0; 2], size - 1);
    last_and_next.is_ok_and(|read| read == 1)
}

/// The types of module io.
struct Types {
    raw: Py<PyAny>,
    reader: Py<PyAny>,
    random: Py<PyAny>,
}

impl Types {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static TYPES: PyOnceLock<Types> = PyOnceLock::new();
        TYPES.get_or_try_init(py, || {
            let io = py.import(intern!(py, "io"))?;
            let named = |name| io.getattr(name).map(Bound::unbind);
            Ok(Self {
                raw: named("FileIO")?,
                reader: named("BufferedReader")?,
                random: named("BufferedRandom")?,
            })
        })
    }
}

/// A `tempfile.NamedTemporaryFile`: its methods are functions around those of a file.
fn is_temporary(filelike: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = filelike.get_type();
    Ok(kind.name()? == "_TemporaryFileWrapper" && kind.module()? == "tempfile")
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

    /// Asked for what the wrapper itself does not have.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        let py = name.py();
        if ["seekable", "seek", "tell"].iter().any(|known| name == known) {
            return self.filelike.bind(py).getattr(name);
        }
        let name = name.repr()?;
        Err(PyAttributeError::new_err(format!("'FileWrapper' object has no attribute {name}")))
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
