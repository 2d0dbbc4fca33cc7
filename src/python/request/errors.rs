//! Text streams that end in the error log: `wsgi.errors`, sys.stdout and sys.stderr; and the records
//! of the application's logging.
//!
//! Made by `call` (one per request) and `host` (two for good). A line becomes one record at
//! its line end, at `flush()`, at the end of the request or of the thread, or when the worker
//! leaves. What print() writes gets the context of the request that runs on the same thread.
//! Writing never fails and blocks only for room in the log.
//! Runs on: any Python thread. PEP 3333, "Input and Error Streams".

use std::cell::Cell;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyString, PyTuple};

use crate::python::interpreter::{exception, log};
use crate::wsgi::lines::LineBuffer;
use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::{ExchangeId, Level};

thread_local! {
    /// The request that this thread serves.
    static CURRENT: Cell<Option<ExchangeId>> = const { Cell::new(None) };
    /// What print() has begun on this thread.
    static BEGUN: Begun = Begun::new();
}

/// `wsgi_stdio_level`.
static STDIO: OnceLock<Level> = OnceLock::new();

/// At which level stdout and stderr are logged. Only the first call counts.
pub fn log_stdio_at(level: Level) {
    let _ = STDIO.set(level);
}

fn stdio_level() -> Level {
    *STDIO.get().unwrap_or(&Level::Error)
}

/// Lines without an end: of stdout and of stderr.
type Lines = Mutex<[LineBuffer; 2]>;

/// Those of all threads that have printed something, for when the worker leaves.
static ALL: Mutex<Vec<Weak<Lines>>> = Mutex::new(Vec::new());

/// What one thread has begun. It is logged when the thread ends, by then without Python.
struct Begun(Arc<Lines>);

impl Begun {
    fn new() -> Self {
        let own = Arc::new(Lines::default());
        let mut all = lock(&ALL);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&own));
        Self(own)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        for buffer in &mut *lock(&self.0) {
            log::leave(stdio_level(), buffer.flush());
        }
    }
}

/// The worker leaves: what any thread has begun is logged.
pub fn flush_all(py: Python<'_>) {
    let all: Vec<_> = lock(&ALL).iter().filter_map(Weak::upgrade).collect();
    for begun in all {
        let lines = lock(&begun).each_mut().map(LineBuffer::flush);
        lines.into_iter().for_each(|lines| emit(py, None, stdio_level(), lines));
    }
}

/// While it lives, what this thread prints belongs to one request, or to an import (`None`).
pub struct Context<'py>(Python<'py>, Option<ExchangeId>);

impl<'py> Context<'py> {
    pub fn enter(py: Python<'py>, exchange: Option<ExchangeId>) -> Self {
        CURRENT.set(exchange);
        Self(py, exchange)
    }
}

impl Context<'_> {
    /// Logs what has been begun on this thread.
    pub fn flush(&self) {
        let lines = BEGUN.with(|begun| {
            let mut begun = lock(&begun.0);
            // As after nearly all requests.
            let nothing = begun.iter().all(LineBuffer::is_empty);
            (!nothing).then(|| begun.each_mut().map(LineBuffer::flush))
        });
        for lines in lines.into_iter().flatten() {
            emit(self.0, self.1, stdio_level(), lines);
        }
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        self.flush();
        CURRENT.set(None);
    }
}

fn emit(py: Python<'_>, exchange: Option<ExchangeId>, level: Level, lines: Vec<String>) {
    // As after nearly all requests.
    if !lines.is_empty() {
        log::lines(py, exchange, level, lines);
    }
}

/// Logs a record of the application's logging, whose level is a number, in the context of the
/// request that this thread serves.
#[pyfunction]
pub fn log_record(py: Python<'_>, level: i64, text: &Bound<'_, PyString>) -> PyResult<()> {
    let text = exception::readable(text)?;
    log::text(py, CURRENT.get(), Level::of_logging(level), &text);
    Ok(())
}

/// What tells the request that this thread serves from any other of the worker.
#[pyfunction]
pub fn current_request() -> Option<ExchangeId> {
    CURRENT.get()
}

/// One of the two streams of the process.
#[derive(Debug, Clone, Copy)]
pub enum Std {
    Out = 0,
    Err = 1,
}

enum Source {
    /// `None` after the end of the request.
    Request(Mutex<Option<(ExchangeId, LineBuffer)>>),
    Std(Std),
}

/// The stream. A stream of a request outlives it, and is then like sys.stderr.
#[pyclass(frozen, weakref, module = "wsgi", name = "LogStream")]
pub struct LogStream(Source);

impl LogStream {
    /// `wsgi.errors` of one request; see [`Self::begin`].
    pub fn of_request() -> Self {
        Self(Source::Request(Mutex::new(None)))
    }

    /// What is written from now on is of this request.
    pub fn begin(&self, exchange: ExchangeId) {
        if let Source::Request(state) = &self.0 {
            *lock(state) = Some((exchange, LineBuffer::new()));
        }
    }

    /// The request has ended: what has been written is logged.
    pub fn end(&self, py: Python<'_>) {
        if let Source::Request(state) = &self.0
            && let Some((exchange, mut buffer)) = lock(state).take()
        {
            emit(py, Some(exchange), Level::Error, buffer.flush());
        }
    }

    /// A replacement for sys.stdout or sys.stderr.
    pub fn of_process(std: Std) -> Self {
        Self(Source::Std(std))
    }

    /// Lets `cut` cut lines under the stream's lock, and logs them without it.
    fn with_lines(&self, py: Python<'_>, cut: impl FnOnce(&mut LineBuffer) -> Vec<String>) {
        let std = match &self.0 {
            Source::Request(state) => {
                let mut state = lock(state);
                if let Some((exchange, buffer)) = &mut *state {
                    let (exchange, lines) = (*exchange, cut(buffer));
                    drop(state);
                    return emit(py, Some(exchange), Level::Error, lines);
                }
                Std::Err
            }
            Source::Std(std) => *std,
        };
        let lines = BEGUN.with(|begun| cut(&mut lock(&begun.0)[std as usize]));
        emit(py, CURRENT.get(), stdio_level(), lines);
    }

    fn write_bytes(&self, py: Python<'_>, bytes: &[u8]) {
        self.with_lines(py, |buffer| buffer.push(bytes));
    }
}

#[pymethods]
impl LogStream {
    fn write(&self, text: &Bound<'_, PyString>) -> PyResult<usize> {
        self.write_bytes(text.py(), exception::readable(text)?.as_bytes());
        text.code_point_len()
    }

    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.cast::<PyString>()?)?;
        }
        Ok(())
    }

    pub fn flush(&self, py: Python<'_>) {
        self.with_lines(py, LineBuffer::flush);
    }

    /// The descriptor of the error log. A single request has none.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        match self.0 {
            Source::Std(_) => Ok(2),
            Source::Request(..) => Err(exception::unsupported(py, "fileno")),
        }
    }

    /// Nothing to set: some programs ask sys.stdout for UTF-8, which it is.
    #[pyo3(signature = (*_args, **_options))]
    fn reconfigure(&self, _args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyAny>>) {}

    /// The log stays open.
    fn close(&self, py: Python<'_>) {
        self.flush(py);
    }

    fn isatty(&self) -> bool {
        false
    }

    fn readable(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        true
    }

    fn seekable(&self) -> bool {
        false
    }

    #[getter]
    fn closed(&self) -> bool {
        false
    }

    #[getter]
    fn line_buffering(&self) -> bool {
        true
    }

    #[getter]
    fn encoding(&self) -> &'static str {
        "utf-8"
    }

    #[getter]
    fn errors(&self) -> &'static str {
        "backslashreplace"
    }

    #[getter]
    fn mode(&self) -> &'static str {
        "w"
    }

    #[getter]
    fn newlines(&self) -> Option<&'static str> {
        None
    }

    #[getter]
    fn name(&self) -> &'static str {
        match self.0 {
            Source::Request(..) => "<wsgi.errors>",
            Source::Std(Std::Out) => "<stdout>",
            Source::Std(Std::Err) => "<stderr>",
        }
    }

    #[getter]
    fn write_through(&self) -> bool {
        false
    }

    #[getter]
    fn buffer(slf: Py<Self>) -> LogBuffer {
        LogBuffer(slf)
    }

    fn detach(slf: Py<Self>) -> LogBuffer {
        LogBuffer(slf)
    }
}

/// The same stream for bytes: what programs wrap in an io.TextIOWrapper of their own.
#[pyclass(frozen, weakref, module = "wsgi", name = "LogBuffer")]
pub struct LogBuffer(Py<LogStream>);

#[pymethods]
impl LogBuffer {
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let bytes = PyMemoryView::from(data)?.call_method0("tobytes")?;
        let bytes: &[u8] = bytes.extract()?;
        self.0.get().write_bytes(data.py(), bytes);
        Ok(bytes.len())
    }

    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        lines.try_iter()?.try_for_each(|line| self.write(&line?).map(drop))
    }

    fn flush(&self, py: Python<'_>) {
        self.0.get().flush(py);
    }

    /// The log stays open: a wrapper closes this when it is collected.
    fn close(&self, py: Python<'_>) {
        self.flush(py);
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.0.get().fileno(py)
    }

    fn readable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }

    #[getter]
    fn name(&self) -> &'static str {
        self.0.get().name()
    }

    #[getter]
    fn mode(&self) -> &'static str {
        "wb"
    }

    fn isatty(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        true
    }

    #[getter]
    fn closed(&self) -> bool {
        false
    }
}
