//! Starts and ends CPython: what PyO3 has no safe form for.
//!
//! Called by `host`. Python is configured as an isolated one: neither environment nor working
//! directory nor the arguments of the server change what it does.
//! Runs on: main thread.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pyo3::ffi as cpython;
use pyo3::prelude::*;

use super::layout::Layout;

/// Of CPython's pymem.h; pyo3 has no name for it.
#[cfg(feature = "malloc")]
const PYMEM_ALLOCATOR_MALLOC: std::ffi::c_int = 3;

/// Starts Python and calls `prepare`, attached. To be called once in a process, before any thread
/// that uses Python; the calling thread becomes Python's main thread and is left detached.
pub fn start(
    layout: &Layout,
    prepare: impl FnOnce(Python<'_>) -> Result<(), String>,
) -> Result<(), String> {
    initialize(layout)?;
    let prepared = Python::attach(prepare);
    // SAFETY: this thread is attached since Py_InitializeFromConfig, with the thread state made
    // there. From here on it uses Python only by way of Python::attach, which finds that state.
    unsafe { cpython::PyEval_SaveThread() };
    prepared
}

/// Ends Python: for the thread that has started it, when nothing uses Python any more.
pub fn finalize() {
    // SAFETY: the caller's thread has started Python, so that Ensure attaches it with the thread
    // state that `start` made. Nothing of Python is used after Py_FinalizeEx: not even the matching
    // Release, for the state is gone. The caller of `finalize` sees to both.
    unsafe {
        cpython::PyGILState_Ensure();
        cpython::Py_FinalizeEx();
    }
}

/// Whether the libpython that the dynamic loader has found is what the module was built for: its
/// structures are those of one version, and only right while one thread at a time is in Python.
/// `version`: what Py_GetVersion says.
fn check_version(version: &str) -> Result<(), String> {
    let built = env!("WSGI_PYTHON_VERSION");
    let found = version.split_whitespace().next().unwrap_or_default();
    if !found.strip_prefix(built).is_some_and(|rest| rest.starts_with('.')) {
        return Err(format!(
            "the libpython that was found is Python {found}, this module was built for Python {built}"
        ));
    }
    if version.contains("free-threading") {
        return Err(format!("a free-threaded Python is not supported, libpython is {version}"));
    }
    Ok(())
}

/// Leaves the calling thread attached on success.
fn initialize(layout: &Layout) -> Result<(), String> {
    // SAFETY: Py_GetVersion may be called before Python is started, and returns a static C string.
    check_version(&unsafe { CStr::from_ptr(cpython::Py_GetVersion()) }.to_string_lossy())?;
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
        succeeded(cpython::Py_PreInitialize(pre))?;
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
        .try_for_each(succeeded)
        .and_then(|()| succeeded(cpython::Py_InitializeFromConfig(conf)));
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

fn succeeded(status: cpython::PyStatus) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use super::check_version;

    const BUILT: &str = env!("WSGI_PYTHON_VERSION");

    #[test]
    fn the_version_that_it_was_built_for_is_taken() {
        for rest in [".1 (main, Jan  1 2026, 00:00:00) [GCC 12.2.0]", ".0rc1 (main)", ".12+"] {
            assert_eq!(check_version(&format!("{BUILT}{rest}")), Ok(()));
        }
    }

    #[test]
    fn another_version_is_named_with_the_one_it_was_built_for() {
        for found in [format!("{BUILT}0.1"), "3.1.2".to_owned(), "4.0.0".to_owned()] {
            let text = format!(
                "the libpython that was found is Python {found}, \
                 this module was built for Python {BUILT}"
            );
            assert_eq!(check_version(&format!("{found} (main)")), Err(text));
        }
    }

    #[test]
    fn a_free_threaded_build_is_refused() {
        for text in ["free-threading build", "experimental free-threading build"] {
            let version = format!("{BUILT}.5 {text} (main)");
            let refused = check_version(&version);
            assert!(refused.is_err_and(|text| text.contains(&version)));
        }
    }
}
