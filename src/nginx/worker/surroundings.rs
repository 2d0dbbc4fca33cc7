//! What an application sees around it: environment, directory, umask, locale.
//!
//! nginx empties the environment, is often a daemon whose umask is 0, and never asks for a locale.
//! A worker, and the child of `wsgi_check`, set these before Python starts.
//! Runs on: event loop (start of the worker), or the only thread of the child.

use std::env;
use std::ffi::{CStr, OsStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use crate::nginx::config::MainConf;

/// What systemd gives a service.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// In place of the 0 that a daemon has.
const UMASK: libc::mode_t = 0o022;

/// Sets all of it, as far as the configuration does not leave it to whoever started nginx.
pub fn enter(main: &MainConf) -> Result<(), String> {
    set_umask(main.umask);
    for (name, value) in &main.env {
        set(name, value);
    }
    for (name, value) in of_user() {
        if env::var_os(name).is_none() {
            set(OsStr::new(name), &value);
        }
    }
    set_character_type();
    match &main.chdir {
        Some(path) => env::set_current_dir(path)
            .map_err(|err| format!("wsgi_chdir \"{}\": {err}", path.display())),
        None => Ok(()),
    }
}

fn set(name: &OsStr, value: &OsStr) {
    // SAFETY: called in init_process, before this worker's pool threads run anything of ours, or in
    // a process with one thread.
    unsafe { env::set_var(name, value) };
}

/// Without a `wsgi_umask`, one that somebody has set stays. A daemon has 0: nginx gives the modes
/// of its own files itself, an application relies on the umask.
fn set_umask(umask: Option<libc::mode_t>) {
    // SAFETY: numbers.
    unsafe {
        let before = libc::umask(umask.unwrap_or(UMASK));
        if umask.is_none() && before != 0 {
            libc::umask(before);
        }
    }
}

/// The variables that login(1) and systemd set for a user: those of the user of this process.
fn of_user() -> Vec<(&'static str, OsString)> {
    let mut found = vec![("PATH", OsString::from(SEARCH_PATH))];
    let mut buffer: Vec<c_char> = vec![0; 1024];
    // SAFETY: all-zero bytes are a valid entry, which is only read when getpwuid_r has filled it:
    // its strings lie in the buffer then.
    unsafe {
        let mut entry: libc::passwd = std::mem::zeroed();
        let mut result = ptr::null_mut();
        let uid = libc::geteuid();
        while libc::getpwuid_r(uid, &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut result)
            == libc::ERANGE
            && buffer.len() < 1 << 20
        {
            buffer.resize(buffer.len() * 4, 0);
        }
        if result.is_null() {
            return found;
        }
        let text = |text: *const c_char| OsStr::from_bytes(CStr::from_ptr(text).to_bytes()).into();
        let shell: OsString = text(entry.pw_shell);
        found.push(("HOME", text(entry.pw_dir)));
        found.push(("USER", text(entry.pw_name)));
        found.push(("LOGNAME", text(entry.pw_name)));
        found.push(("SHELL", if shell.is_empty() { "/bin/sh".into() } else { shell }));
    }
    found
}

/// The locale of C libraries, as `python3` sets it: LC_CTYPE of the environment, and where that is
/// the C locale one that knows UTF-8 (PEP 538), for children too. No other category: those change
/// how nginx and its modules write numbers and dates. nginx classifies characters by itself.
fn set_character_type() {
    let set_to = |name: &CStr| {
        // SAFETY: a C string; no other thread asks for the locale yet.
        unsafe { !libc::setlocale(libc::LC_CTYPE, name.as_ptr()).is_null() }
    };
    set_to(c"");
    // SAFETY: a name that setlocale returns is a C string, good until the next call.
    let is_c = unsafe {
        let name = libc::setlocale(libc::LC_CTYPE, ptr::null());
        !name.is_null() && CStr::from_ptr(name) == c"C"
    };
    if is_c && env::var_os("LC_ALL").is_none_or(|value| value.is_empty()) {
        for name in [c"C.UTF-8", c"C.utf8", c"UTF-8"] {
            if set_to(name) {
                set(OsStr::new("LC_CTYPE"), OsStr::from_bytes(name.to_bytes()));
                return;
            }
        }
    }
}
