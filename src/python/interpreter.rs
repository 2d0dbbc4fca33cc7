//! Starts CPython in a worker, and is the [`Host`] that runners attach to.
//!
//! `start` is called by the thread that is to be Python's main thread. Python is configured as an
//! isolated one: neither environment nor working directory nor the arguments of the server change
//! what it does. A worker's is never finalized: threads of the application may still run (and
//! CPython would end them in ways that Rust does not survive).
//! Runs on: main thread (start, once, and exit), watchdog (interrupt, locate_main), pool thread.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi as cpython;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use pyo3::wrap_pyfunction;

use crate::wsgi::application::Application;
use crate::wsgi::error::LoadError;
use crate::wsgi::exchange::Exchange;
use crate::wsgi::host::{Host, Settings};
use crate::wsgi::mailbox::{Level, Mailbox};
use crate::wsgi::target::Target;

use super::app::PythonApplication;
use super::errors::{LogStream, Std};
use super::layout::Layout;
use super::{call, development, errors, exception, ffi, lent, log, watchdog};

/// Of CPython's pymem.h; pyo3 has no name for it.
#[cfg(feature = "malloc")]
const PYMEM_ALLOCATOR_MALLOC: std::ffi::c_int = 3;

const BOOTSTRAP: &str = include_str!("bootstrap.py");

/// Starts Python. To be called once in a process, before any thread that uses it; the calling
/// thread becomes Python's main thread and is left detached. The error names path and cause.
pub fn start(settings: &Settings, mailbox: Arc<Mailbox>) -> Result<Arc<dyn Host>, String> {
    let layout = Layout::find(settings.home.as_deref())?;
    log::open(mailbox);
    initialize(&layout)?;
    let prepared = Python::attach(|py| {
        prepare(py, settings).map_err(|err| format!("cannot prepare Python: {err}"))
    });
    // SAFETY: this thread is attached since Py_InitializeFromConfig, with the thread state made
    // there, and uses nothing of Python after this without Python::attach, which finds that state.
    unsafe { cpython::PyEval_SaveThread() };
    prepared?;
    log::started();
    Ok(Arc::new(Interpreter))
}

/// Leaves the calling thread attached on success.
fn initialize(layout: &Layout) -> Result<(), String> {
    let home = c_string(&layout.home)?;
    let executable = c_string(&layout.executable)?;
    let mut preconfig = MaybeUninit::<cpython::PyPreConfig>::zeroed();
    let mut config = MaybeUninit::<cpython::PyConfig>::zeroed();
    let pre = preconfig.as_mut_ptr();
    let conf = config.as_mut_ptr();
    // SAFETY: both structs are plain C data, zeroed above and filled by CPython before a field is
    // touched; the strings outlive the calls, which copy them. No other thread runs Python yet:
    // `start` is called once, by the worker's only thread.
    unsafe {
        cpython::PyPreConfig_InitIsolatedConfig(pre);
        (*pre).utf8_mode = 1;
        (*pre).use_environment = 0;
        (*pre).parse_argv = 0;
        #[cfg(feature = "malloc")]
        {
            (*pre).allocator = PYMEM_ALLOCATOR_MALLOC;
        }
        check(cpython::Py_PreInitialize(pre))?;
        cpython::PyConfig_InitIsolatedConfig(conf);
        set_numbers(&mut *conf);
        let status = [
            cpython::PyConfig_SetBytesString(conf, &raw mut (*conf).home, home.as_ptr()),
            cpython::PyConfig_SetBytesString(
                conf,
                &raw mut (*conf).executable,
                executable.as_ptr(),
            ),
            cpython::PyWideStringList_Append(&raw mut (*conf).argv, [0].as_ptr()),
        ]
        .into_iter()
        .try_for_each(check)
        .and_then(|()| check(cpython::Py_InitializeFromConfig(conf)));
        cpython::PyConfig_Clear(conf);
        status
    }
}

fn set_numbers(config: &mut cpython::PyConfig) {
    config.use_environment = 0;
    config.parse_argv = 0;
    // Signals are the event loop's.
    config.install_signal_handlers = 0;
    config.configure_c_stdio = 0;
    config.user_site_directory = 0;
    config.site_import = 1;
    config.pathconfig_warnings = 0;
    #[cfg(Py_3_11)]
    {
        config.safe_path = 1;
    }
}

fn check(status: cpython::PyStatus) -> Result<(), String> {
    match status._type {
        cpython::_PyStatus_TYPE::_PyStatus_TYPE_OK => Ok(()),
        cpython::_PyStatus_TYPE::_PyStatus_TYPE_EXIT => {
            Err(format!("cannot start Python: it wants to exit with {}", status.exitcode))
        }
        cpython::_PyStatus_TYPE::_PyStatus_TYPE_ERROR => {
            if status.err_msg.is_null() {
                return Err("cannot start Python".to_owned());
            }
            // SAFETY: a message of a PyStatus is a static C string.
            let message = unsafe { CStr::from_ptr(status.err_msg) };
            Err(format!("cannot start Python: {}", message.to_string_lossy()))
        }
    }
}

fn c_string(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("\"{}\" contains a NUL byte", path.display()))
}

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// The functions of bootstrap.py.
pub fn bootstrap(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let module = MODULE.get(py).ok_or_else(|| PyRuntimeError::new_err("Python is not started"))?;
    Ok(module.bind(py))
}

/// What has to be done in Python before any code of the application runs.
fn prepare(py: Python<'_>, settings: &Settings) -> PyResult<()> {
    let sys = py.import("sys")?;
    if sys.getattr("abiflags")?.contains("t")? {
        return Err(PyRuntimeError::new_err("a free-threaded Python is not supported"));
    }
    for (std, name) in [(Std::Out, "stdout"), (Std::Err, "stderr")] {
        let stream = Bound::new(py, LogStream::of_process(std))?;
        sys.setattr(name, &stream)?;
        sys.setattr(format!("__{name}__"), stream)?;
    }
    let null = py.import("os")?.getattr("devnull")?;
    sys.setattr("stdin", py.import("io")?.call_method1("open", (null,))?)?;
    // On this thread, else threading takes the first request's thread for the main one.
    py.import("threading")?;
    // Else _thread.interrupt_main() finds no handler to call (CPython gh-102399) and crashes.
    py.import("signal")?;
    py.import("faulthandler")?.call_method1("enable", (2,))?;
    let code = CString::new(BOOTSTRAP)?;
    let module = PyModule::from_code(py, &code, c"<wsgi bootstrap>", c"_wsgi_bootstrap")?;
    MODULE.get_or_init(py, || module.clone().unbind());
    let chdir = settings.chdir.as_deref().map(Path::as_os_str);
    let path: Vec<_> = settings.path.iter().map(|path| path.as_os_str()).collect();
    development::prepare(py, settings)?;
    module.call_method1("paths", (chdir, path))?;
    module.call_method0("wrap_exit")?;
    module.call_method1("wrap_signal", (wrap_pyfunction!(signal_ignored, py)?,))?;
    if settings.keeps_zone {
        module.call_method0("keep_zone")?;
    }
    if let Some((signum, fd)) = settings.stack_dump {
        module.call_method1("dump_stacks_on", (signum, fd))?;
    }
    if let Some(interval) = settings.switch_interval {
        sys.call_method1("setswitchinterval", (interval.as_secs_f64(),))?;
    }
    Ok(())
}

/// The interpreter of this process.
struct Interpreter;

impl Host for Interpreter {
    fn attach(&self, run: &mut dyn FnMut()) {
        Python::attach(|_py| run());
    }

    fn name_thread(&self, name: &str) {
        ffi::name_thread(name);
        Python::attach(|py| {
            let named =
                bootstrap(py).and_then(|module| module.call_method1("name_thread", (name,)));
            if let Err(err) = named {
                exception::log(py, None, "a thread cannot be named:", &err);
            }
        });
    }

    fn detach(&self, wait: &mut (dyn FnMut() + Send)) {
        Python::attach(|py| py.detach(wait));
    }

    fn sleeps(&self) -> u64 {
        ffi::sleeps()
    }

    fn tidy(&self) {
        lent::take_back();
        call::returned();
    }

    fn exit(&self, patience: Instant) {
        lent::take_back();
        Python::attach(|py| {
            if let Err(err) = leave(py, patience) {
                exception::log(py, None, "at exit:", &err);
            }
        });
    }

    fn locate_main(&self, title: &str) {
        Python::attach(|py| watchdog::locate_main(py, title));
    }

    fn finalize(&self) {
        // SAFETY: this is the thread that has started Python, so that Ensure attaches it with the
        // thread state made there. Nothing of Python is used after this: not even the matching
        // Release, for the state is gone.
        unsafe {
            cpython::PyGILState_Ensure();
            cpython::Py_FinalizeEx();
        }
    }

    fn interrupt(&self, exchange: &Exchange, title: &str) {
        Python::attach(|py| watchdog::interrupt(py, exchange, title));
    }

    fn check(&self, target: &Target) -> Result<(), LoadError> {
        PythonApplication::new(target.clone()).check()
    }

    fn compiles(&self, files: &[PathBuf]) -> bool {
        Python::attach(|py| development::compiles(py, files))
    }

    fn application(&self, target: &Target) -> Box<dyn Application> {
        Box::new(PythonApplication::new(target.clone()))
    }
}

fn leave(py: Python<'_>, patience: Instant) -> PyResult<()> {
    let seconds = patience.saturating_duration_since(Instant::now()).as_secs_f64();
    for said in bootstrap(py)?.call_method1("leave", (seconds,))?.try_iter()? {
        let said = said?;
        match said.cast::<PyString>() {
            Ok(line) => log::text(py, None, Level::Error, &line.to_string_lossy()),
            Err(_) => exception::log(py, None, "at exit:", &PyErr::from_value(said)),
        }
    }
    errors::flush_all(py);
    Ok(())
}

/// The application wants a signal handler in the worker, whose signals are nginx's.
#[pyfunction]
fn signal_ignored(py: Python<'_>, line: &str) {
    log::text(py, None, Level::Warn, line);
}
