//! Refuses a `wsgi_app` that means two applications: one module name, two directories.
//!
//! Python imports the first module of a name that it finds in `sys.path`, so of two sites that
//! both have their application in `config.wsgi`, one would be served in the place of the other.
//! Called by `validate.rs`. What an import brings to light is src/python/app/conflict.rs's.
//! Runs on: event loop (configuration, in the master).

use std::path::{Path, PathBuf};

use super::MainConf;
use crate::wsgi::target::{Source, Target};

/// An error for the first application that several locations name and several directories have.
/// One location that names it is no error: a directory may be put in front to replace modules.
pub fn check(main: &MainConf) -> Result<(), String> {
    let entries = || main.chdir.iter().chain(&main.python_path);
    for (app, target) in main.apps.iter().map(|known| &known.0).enumerate() {
        let mut places = main.named.iter().filter(|(named, _)| *named == app);
        let (Some(_), Some((_, second))) = (places.next(), places.next()) else { continue };
        let mut files: Vec<PathBuf> = Vec::new();
        for file in entries().filter_map(|entry| find(entry, target)) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        if let [one, two, ..] = &files[..] {
            return Err(format!(
                "\"wsgi_app\" \"{target}\" is in both \"{}\" and \"{}\", but one interpreter can \
                 have only one of them, in {second}",
                one.display(),
                two.display()
            ));
        }
    }
    Ok(())
}

/// The file below `entry` that has the application; its canonical path.
fn find(entry: &Path, target: &Target) -> Option<PathBuf> {
    let Source::Module(name) = &target.source else { return None };
    let base = entry.join(name.replace('.', "/"));
    let files = [base.join("__init__.py"), base.with_extension("py")];
    let file = files.into_iter().find(|file| file.is_file())?;
    // Another module of that name, which does not have the callable, is not meant by anybody.
    let callable = target.callable.split('.').next()?;
    let source = std::fs::read(&file).ok()?;
    let has_it = source.windows(callable.len()).any(|word| word == callable.as_bytes());
    file.canonicalize().ok().filter(|_| has_it)
}
