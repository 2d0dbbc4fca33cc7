//! What an application sees around it: environment, directory, umask.
//!
//! Runs on: event loop (start of the worker), or the only thread of the child of `wsgi_check`.

use super::conf::MainConf;

/// In place of the 0 that a daemon has.
const UMASK: libc::mode_t = 0o022;

/// Environment and working directory of the applications.
pub fn enter(main: &MainConf) -> Result<(), String> {
    set_umask(main.umask);
    for (name, value) in &main.env {
        // SAFETY: called in init_process, before this worker's pool threads run anything of ours,
        // or in a process with one thread.
        unsafe { std::env::set_var(name, value) };
    }
    match &main.chdir {
        Some(path) => std::env::set_current_dir(path)
            .map_err(|err| format!("wsgi_chdir \"{}\": {err}", path.display())),
        None => Ok(()),
    }
}

/// Without a `wsgi_umask`, one that somebody has set stays. A daemon has 0: nginx gives the modes of
/// its own files itself, an application relies on the umask.
fn set_umask(umask: Option<libc::mode_t>) {
    // SAFETY: numbers.
    unsafe {
        let before = libc::umask(umask.unwrap_or(UMASK));
        if umask.is_none() && before != 0 {
            libc::umask(before);
        }
    }
}
