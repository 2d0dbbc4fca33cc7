//! Which files a worker has loaded its code from, by the directories that are watched for changes.
//!
//! `src/python` says what it loads through [`SourceWatch`]; `src/nginx/worker/reload.rs` keeps the
//! table and asks it about each event of inotify(7).
//! Runs on: either.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Who is to know of the code that is loaded.
pub trait SourceWatch: Send + Sync {
    /// This source file is about to be read. From now on changes of it are noticed.
    fn loads(&self, path: &Path);

    /// An import has failed, and may have looked for modules in these directories: whatever source
    /// appears there or beside a loaded file may mend it.
    fn failed(&self, directories: &[PathBuf]);
}

/// Number of a watch, as inotify gives it.
pub type WatchId = i32;

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    names: HashSet<OsString>,
}

/// The watched directories of a worker.
#[derive(Debug, Default)]
pub struct Watched {
    directories: HashMap<WatchId, Directory>,
    ids: HashMap<PathBuf, WatchId>,
    /// Any source counts, not only the loaded ones.
    any: bool,
}

impl Watched {
    /// The watch of a directory, if it has one.
    pub fn id(&self, directory: &Path) -> Option<WatchId> {
        self.ids.get(directory).copied()
    }

    /// A directory is watched. A directory that is reached on two ways has a single watch.
    pub fn add(&mut self, id: WatchId, directory: &Path) {
        self.ids.insert(directory.to_owned(), id);
        let path = directory.to_owned();
        self.directories.entry(id).or_insert(Directory { path, names: HashSet::new() });
    }

    /// A file of this name has been loaded from the directory.
    pub fn add_name(&mut self, id: WatchId, name: &OsStr) {
        if let Some(directory) = self.directories.get_mut(&id) {
            directory.names.insert(name.to_owned());
        }
    }

    pub fn set_any(&mut self) {
        self.any = true;
    }

    /// What has changed, if it matters: `name` was written or has appeared in a directory.
    pub fn changed(&self, id: WatchId, name: &OsStr, kind: Kind) -> Option<PathBuf> {
        let directory = self.directories.get(&id)?;
        let matters = if kind == Kind::Directory {
            // Perhaps a package. Python itself makes the other one.
            self.any && name != "__pycache__" && !name.as_encoded_bytes().starts_with(b".")
        } else {
            let any = self.any && name.as_encoded_bytes().ends_with(b".py");
            any || directory.names.contains(name)
        };
        matters.then(|| directory.path.join(name))
    }

    /// A directory is no longer there under its name. Returns its path, if code came from it.
    pub fn remove(&mut self, id: WatchId) -> Option<PathBuf> {
        self.ids.retain(|_, known| *known != id);
        let directory = self.directories.remove(&id)?;
        (!directory.names.is_empty()).then_some(directory.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(watched: &Watched, id: WatchId, name: &str) -> Option<String> {
        watched.changed(id, OsStr::new(name), Kind::File).map(|path| path.display().to_string())
    }

    #[test]
    fn only_loaded_files_matter_until_an_import_fails() {
        let mut watched = Watched::default();
        watched.add(1, Path::new("/srv/a"));
        watched.add_name(1, OsStr::new("x.py"));
        assert_eq!(changed(&watched, 1, "x.py").as_deref(), Some("/srv/a/x.py"));
        assert_eq!(changed(&watched, 1, "y.py"), None);
        assert_eq!(changed(&watched, 2, "x.py"), None);
        assert_eq!(watched.changed(1, OsStr::new("package"), Kind::Directory), None);
        watched.set_any();
        assert_eq!(changed(&watched, 1, "y.py").as_deref(), Some("/srv/a/y.py"));
        assert_eq!(changed(&watched, 1, ".y.py.swp"), None);
        assert!(watched.changed(1, OsStr::new("package"), Kind::Directory).is_some());
        assert_eq!(watched.changed(1, OsStr::new("__pycache__"), Kind::Directory), None);
    }

    #[test]
    fn a_directory_that_is_gone_is_named_once_and_can_come_again() {
        let mut watched = Watched::default();
        watched.add(1, Path::new("/srv/a"));
        watched.add(1, Path::new("/srv/link"));
        watched.add_name(1, OsStr::new("x.py"));
        assert_eq!(watched.id(Path::new("/srv/link")), Some(1));
        assert_eq!(watched.remove(1).as_deref(), Some(Path::new("/srv/a")));
        assert_eq!(watched.remove(1), None);
        assert_eq!(watched.id(Path::new("/srv/link")), None);
        watched.add(2, Path::new("/srv/a"));
        // Nothing has been loaded from it.
        assert_eq!(watched.remove(2), None);
    }
}
