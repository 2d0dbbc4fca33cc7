//! The argument of `wsgi_app`: which module or file, and which callable in it.
//!
//! Parsed while nginx reads its configuration, so that a slip is found by `nginx -t`; loaded by
//! `src/python/app.rs`.
//! Runs on: event loop (configuration).

use std::fmt;
use std::path::PathBuf;

use super::error::TargetError;

/// Where the application's code is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A dotted module name, imported as `import` would.
    Module(String),
    /// A Python file, loaded under a module name of its own.
    File(PathBuf),
}

/// `module:callable`, `module`, `module:factory()`, `/path/file.py[:callable]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub source: Source,
    /// Dotted attribute path in the module; `application` when none is given.
    pub callable: String,
    /// The callable is called once without arguments and returns the application.
    pub factory: bool,
}

impl Target {
    /// A name with a slash is a path, anything else a module.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.is_empty() {
            return Err(TargetError::Empty);
        }
        if text.contains('$') {
            return Err(TargetError::Variable);
        }
        let (name, callable) = match text.rsplit_once(':') {
            Some((name, callable)) if !callable.contains('/') => (name, callable),
            _ => (text, "application"),
        };
        let (callable, factory) = match callable.strip_suffix("()") {
            Some(callable) => (callable, true),
            None => (callable, false),
        };
        if !is_dotted_name(callable) {
            return Err(TargetError::Callable(callable.to_owned()));
        }
        let source = if name.contains('/') {
            if !name.ends_with(".py") {
                return Err(TargetError::Path(name.to_owned()));
            }
            Source::File(PathBuf::from(name))
        } else {
            if !is_dotted_name(name) {
                return Err(TargetError::Module(name.to_owned()));
            }
            if name.ends_with(".py") {
                return Err(TargetError::File(name.to_owned()));
            }
            Source::Module(name.to_owned())
        };
        Ok(Self { source, callable: callable.to_owned(), factory })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Module(name) => write!(f, "{name}")?,
            Source::File(path) => write!(f, "{}", path.display())?,
        }
        write!(f, ":{}{}", self.callable, if self.factory { "()" } else { "" })
    }
}

fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|part| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
            && chars.all(|c| c == '_' || c.is_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_understood() {
        let module = |m: &str| Source::Module(m.to_owned());
        for (text, source, callable, factory) in [
            ("a", module("a"), "application", false),
            ("a.b:app", module("a.b"), "app", false),
            ("a.b:x.y", module("a.b"), "x.y", false),
            ("a:make()", module("a"), "make", true),
            ("/srv/x.py", Source::File("/srv/x.py".into()), "application", false),
            ("conf/x.py:app", Source::File("conf/x.py".into()), "app", false),
            ("/srv/x.py:make()", Source::File("/srv/x.py".into()), "make", true),
            ("/srv/a:b/x.py", Source::File("/srv/a:b/x.py".into()), "application", false),
            ("/srv/a:b/x.py:app", Source::File("/srv/a:b/x.py".into()), "app", false),
        ] {
            let want = Target { source, callable: callable.to_owned(), factory };
            assert_eq!(Target::parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn slips_are_named() {
        for text in [
            "",
            "1x:app",
            "a..b",
            ".a",
            "a.",
            "a:",
            ":a",
            "a:b(",
            "a:()",
            "a b",
            "a:$x",
            "/srv/x",
            "a:b:c",
            "app.py",
            "app.py:app",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
