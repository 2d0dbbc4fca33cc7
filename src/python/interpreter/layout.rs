//! Where Python's own files are, found and checked before Python is started.
//!
//! Called by `host`. CPython's own message for a missing or unreadable standard library
//! names neither path nor cause. The standard library is always the one that belongs to the
//! libpython in use; a virtualenv, even of another build of the same version, adds its
//! site-packages (site.py finds its pyvenv.cfg beside the executable).
//! Runs on: event loop (once, at the start of a worker).

use std::fs;
use std::path::{Path, PathBuf};

/// As in the names of its directories and programs.
fn python() -> String {
    format!("python{}", env!("WSGI_PYTHON_VERSION"))
}

/// What to set in PyConfig.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Prefix of the standard library.
    pub home: PathBuf,
    /// What sys.executable will say.
    pub executable: PathBuf,
}

impl Layout {
    /// `home`: `wsgi_python_home`, a virtualenv or a prefix. The error names path and cause.
    pub fn find(home: Option<&Path>) -> Result<Self, String> {
        let base = PathBuf::from(env!("WSGI_PYTHON_PREFIX"));
        let Some(home) = home else {
            check_library(&base)?;
            return Ok(Self { executable: base.join("bin").join(python()), home: base });
        };
        let is_dir = fs::metadata(home).map_err(|err| failed(home, &err))?.is_dir();
        if !is_dir {
            return Err(format!("\"{}\" is not a directory", home.display()));
        }
        check_library(home)?;
        let mark = home.join("pyvenv.cfg");
        if fs::exists(&mark).map_err(|err| failed(&mark, &err))? {
            fs::File::open(&mark).map_err(|err| failed(&mark, &err))?;
            // site.py would skip it without a word.
            let packages = home.join("lib").join(python()).join("site-packages");
            fs::read_dir(&packages).map_err(|err| failed(&packages, &err))?;
            check_library(&base)?;
            return Ok(Self { home: base, executable: virtualenv_executable(home) });
        }
        Ok(Self { home: home.to_owned(), executable: home.join("bin").join(python()) })
    }
}

/// The link itself counts: its target may be out of reach for the worker's user.
fn virtualenv_executable(home: &Path) -> PathBuf {
    let bin = home.join("bin");
    let plain = bin.join("python");
    if plain.is_symlink() || plain.exists() { plain } else { bin.join("python3") }
}

/// `lib/pythonX.Y` must be there and readable, in a virtualenv as in a prefix.
fn check_library(prefix: &Path) -> Result<(), String> {
    let [library, alternative] = ["lib", "lib64"].map(|lib| prefix.join(lib).join(python()));
    match fs::read_dir(&library) {
        Ok(_) => Ok(()),
        Err(_) if fs::read_dir(alternative).is_ok() => Ok(()),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(format!(
            "\"{}\" is not for Python {}: {}",
            prefix.display(),
            env!("WSGI_PYTHON_VERSION"),
            failed(&library, &err)
        )),
        Err(err) => Err(failed(&library, &err)),
    }
}

fn failed(path: &Path, err: &std::io::Error) -> String {
    format!("cannot read \"{}\": {err}", path.display())
}
