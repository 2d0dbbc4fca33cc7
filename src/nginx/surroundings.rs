//! What an application sees around it: environment and directory.
//!
//! Runs on: event loop (start of the worker), or the only thread of the child of `wsgi_check`.

use super::conf::MainConf;

/// Environment and working directory of the applications.
pub fn enter(main: &MainConf) -> Result<(), String> {
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
