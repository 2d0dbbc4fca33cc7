//! Where Python's own files are, found and checked before Python is started.
//!
//! Called by `host`. CPython's own message for a missing or unreadable standard library
//! names neither path nor cause. The standard library is always the one that belongs to the
//! libpython in use; a virtualenv, even of another build of the same version, adds its
//! site-packages (site.py finds its pyvenv.cfg beside the executable).
//! Runs on: event loop (once, at the start of a worker).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
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
        let base = base()?;
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

/// The prefix of the libpython in use: known since the build, else looked for above it, as Python
/// itself would.
fn base() -> Result<PathBuf, String> {
    if let Some(prefix) = option_env!("WSGI_PYTHON_PREFIX") {
        return Ok(PathBuf::from(prefix));
    }
    let maps = Path::new("/proc/self/maps");
    let text = fs::read(maps).map_err(|err| failed(maps, &err))?;
    let library = libpython(&text).ok_or("no libpython is loaded")?;
    prefix_above(&library)
        .ok_or_else(|| format!("there is no lib/{} above \"{}\"", python(), library.display()))
}

/// Where the libpython of a process lies, of which these are the /proc/PID/maps.
fn libpython(maps: &[u8]) -> Option<PathBuf> {
    let name = format!("lib{}.so", python());
    maps.split(|&byte| byte == b'\n')
        .filter_map(|line| line.iter().position(|&byte| byte == b'/').map(|at| &line[at..]))
        .map(|path| Path::new(OsStr::from_bytes(path)))
        .find(|path| {
            path.file_name().is_some_and(|file| file.as_bytes().starts_with(name.as_bytes()))
        })
        .map(Path::to_owned)
}

/// Never the root, where /lib is that of /usr.
fn prefix_above(library: &Path) -> Option<PathBuf> {
    let mut above = library.ancestors().skip(1).filter(|prefix| prefix.parent().is_some());
    above.find(|prefix| check_library(prefix).is_ok()).map(Path::to_owned)
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

#[cfg(test)]
mod tests {
    use super::{base, libpython, prefix_above, python};
    use std::path::Path;

    #[test]
    fn the_prefix_is_found_above_the_libpython_in_use() {
        let maps = std::fs::read("/proc/self/maps").unwrap();
        let library = libpython(&maps).unwrap();
        assert!(library.is_file(), "{}", library.display());
        // That of a build which knows its prefix may lie elsewhere.
        if let Some(prefix) = prefix_above(&library) {
            assert!(prefix.join("lib").join(python()).join("os.py").is_file());
            assert_eq!(prefix, base().unwrap());
        }
    }

    #[test]
    fn what_is_no_libpython_of_this_version_is_not_taken_for_it() {
        let line = |path: &str| format!("7f00-7f01 r--p 00000000 fd:00 12   {path}\n");
        let text = [
            "7f00-7f01 rw-p 00000000 00:00 0 \n".to_owned(),
            line("/usr/lib/libpython3.so"),
            line("/usr/lib/libpython2.7.so.1.0"),
            line(&format!("/opt/my python/lib/lib{}.so.1.0", python())),
        ]
        .concat();
        let found = libpython(text.as_bytes()).unwrap();
        assert_eq!(found.parent(), Some(Path::new("/opt/my python/lib")));
        assert_eq!(libpython(b""), None);
        assert_eq!(prefix_above(&found), None);
    }
}
