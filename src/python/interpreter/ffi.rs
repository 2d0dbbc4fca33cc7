//! The few calls that PyO3 has no safe form for, each wrapped in a safe function.
//!
//! Called by everything in this room. PEP 3333, "Unicode Issues": strings of the environ and of
//! the head are bytes in disguise, one character (U+0000 to U+00FF) a byte.
//! Runs on: pool thread.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::time::Duration;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::string::PyStringData;
use pyo3::types::{PyIterator, PyString, PyType};

/// A str with one character for each byte.
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: pointer and length are those of one slice, which CPython only reads; the result is
    // a new reference to a str, or null with an exception set; `py` proves that we are attached.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len() as ffi::Py_ssize_t,
            std::ptr::null(),
        );
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// The bytes behind a str; `None` if one of its characters is above U+00FF.
pub fn latin1_bytes<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    // SAFETY: the str is alive as long as the borrow and immutable. CPython stores a str in the
    // narrowest form that fits (PEP 393), so one without such a character is always in Ucs1.
    match unsafe { text.data() } {
        Ok(PyStringData::Ucs1(bytes)) => Some(bytes),
        _ => None,
    }
}

/// Whether the caller's reference is the only one, weak ones included.
pub fn is_alone(object: &Bound<'_, PyAny>) -> bool {
    let object = object.as_ptr();
    // SAFETY: the borrow proves that the object is alive and that we are attached; nobody else
    // counts references meanwhile, since there is a GIL (build.rs). In an object whose type has an
    // offset above 0 a pointer lies there, which is null without weak references (CPython,
    // "tp_weaklistoffset"). Another offset is not followed.
    unsafe {
        let offset = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        let weak = match offset {
            0 => false,
            1.. => !object.byte_offset(offset).cast::<*mut ffi::PyObject>().read().is_null(),
            _ => true,
        };
        !weak && ffi::Py_REFCNT(object) == 1
    }
}

/// Whether it iterates over a list or a tuple, and is CPython's own: what it returns is all there.
pub fn is_of_sequence(iter: &Bound<'_, PyIterator>) -> bool {
    // SAFETY: the borrow proves that the object is alive. Of the two types, which live as long as
    // the interpreter, only the addresses are taken.
    unsafe {
        let kind = ffi::Py_TYPE(iter.as_ptr()).cast_const();
        kind == &raw const ffi::PyListIter_Type || kind == &raw const ffi::PyTupleIter_Type
    }
}

/// What the interpreter calls the calling thread.
pub fn thread() -> u64 {
    // SAFETY: pthread_self takes and touches nothing. CPython names its threads so
    // (Python/thread_pthread.h).
    unsafe { libc::pthread_self() as u64 }
}

/// What the kernel calls the calling thread (`top -H`); it keeps 15 bytes.
pub fn name_thread(name: &str) {
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: PR_SET_NAME only reads the string, which ends with a zero byte.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// How often the calling thread has given up the processor because it had to wait for something
/// (getrusage(2), `ru_nvcsw`).
pub fn sleeps() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage writes to `usage` alone, which is as large as it expects, and has filled it
    // unless it returns -1.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) == -1 {
            return 0;
        }
        usage.assume_init()
    };
    u64::try_from(usage.ru_nvcsw).unwrap_or_default()
}

/// Processor time that the calling thread has used so far.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes to `time` alone, or leaves it.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    // Neither is below zero.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Has an exception of this class raised in another thread, at its next step in Python.
pub fn raise_in_thread(thread: u64, class: &Bound<'_, PyType>) {
    // SAFETY: the class proves that we are attached; CPython takes a reference of its own. A thread
    // that does not exist is no error.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread as _, class.as_ptr()) };
}

/// Takes away what [`raise_in_thread`] has left for the calling thread, if it has not come up.
pub fn forget_raised(_py: Python<'_>) {
    // SAFETY: `_py` proves that we are attached; null takes a pending exception away.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread() as _, std::ptr::null_mut()) };
}

/// Ends a forked child of the worker that has returned from the application: the child must not go
/// on as if it were the worker. EX_SOFTWARE; nothing is flushed, all of it is the parent's.
pub fn leave_forked_child() -> ! {
    // SAFETY: _exit takes any number, touches no memory of ours and does not return.
    unsafe { libc::_exit(70) }
}

/// A descriptor of its own for the open file behind `fd`, closed in children (close-on-exec).
pub fn duplicate(fd: libc::c_int) -> io::Result<File> {
    // SAFETY: fcntl takes any number and touches no memory; a descriptor that it made is owned by
    // nobody else.
    unsafe {
        match libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) {
            -1 => Err(io::Error::last_os_error()),
            own => Ok(File::from_raw_fd(own)),
        }
    }
}

/// Writes to descriptor 2 without any lock: in a forked child a lock may be held for ever.
pub fn write_to_stderr(bytes: &[u8]) {
    // SAFETY: pointer and length are those of one slice, which write only reads.
    // A short or failed write is ignored: there is no other place to tell of it.
    let _ = unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
}

/// What the server does for a worker.
#[cfg(test)]
pub fn mark_forked_children() {
    extern "C" fn mark() {
        crate::wsgi::fork::mark_child();
    }
    // SAFETY: the handler lives as long as the process and does one atomic store.
    unsafe { libc::pthread_atfork(None, None, Some(mark)) };
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn a_thread_that_waits_sleeps_and_one_that_computes_does_not() {
        let before = super::sleeps();
        thread::sleep(Duration::from_millis(1));
        assert!(super::sleeps() > before);
        // Who computes may have to wait for the kernel once in a while, but not each time.
        let calm = (0..100).any(|_| {
            let before = super::sleeps();
            let end = Instant::now() + Duration::from_micros(100);
            while Instant::now() < end {}
            super::sleeps() == before
        });
        assert!(calm);
    }

    #[test]
    fn a_thread_uses_a_processor_while_it_computes_and_not_while_it_sleeps() {
        let (began, before) = (Instant::now(), super::cpu_time());
        while super::cpu_time() - before < Duration::from_millis(5) {}
        // The kernel adjusts the clock, by 500 ppm at most, and not the processor's time.
        assert!(began.elapsed() >= Duration::from_micros(4_990));
        let before = super::cpu_time();
        thread::sleep(Duration::from_millis(50));
        assert!(super::cpu_time() - before < Duration::from_millis(50));
    }
}
