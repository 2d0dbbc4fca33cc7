//! The argument of `wsgi_app`: which module or file, and which callable in it.
//!
//! Parsed while nginx reads its configuration, so that a slip is found by `nginx -t`; loaded by
//! `src/python/app/mod.rs`.
//! Runs on: event loop (configuration).

use std::fmt;
use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use super::error::TargetError;

/// What a target of PasteDeploy begins with.
const PASTE: &str = "paste:";

/// Where the application's code is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A dotted module name, imported as `import` would.
    Module(String),
    /// A Python file, whatever its name, loaded under a module name of its own.
    File(PathBuf),
    /// A file of PasteDeploy, which names the code.
    Paste(PathBuf),
}

impl Source {
    /// The file that has to be there.
    pub fn file(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Module(_) => None,
            Self::File(path) | Self::Paste(path) => Some(path),
        }
    }
}

/// `module:callable`, `module`, `module:factory(ARGUMENTS)`, `/path/file[:callable]`,
/// `paste:/path/file.ini[#name]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub source: Source,
    /// Dotted attribute path in the module; `application` when none is given. Of PasteDeploy the
    /// name of the application in the file, `main` when none is given.
    pub callable: String,
    /// The callable is called once with these and returns the application.
    pub factory: Option<Arguments>,
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
        if text == PASTE.trim_end_matches(':') {
            return Err(TargetError::Paste(String::new()));
        }
        if let Some(rest) = text.strip_prefix(PASTE) {
            return Self::parse_paste(rest);
        }
        let (name, call) = divide(text);
        let (callable, factory) = match call.strip_suffix(')').and_then(|call| call.split_once('('))
        {
            Some((callable, arguments)) => (callable, Some(arguments)),
            None => (call, None),
        };
        if !is_dotted_name(callable) {
            return Err(TargetError::Callable(callable.to_owned()));
        }
        let source = if name.contains('/') {
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
        let factory = factory.map(Arguments::parse).transpose().map_err(TargetError::Arguments)?;
        Ok(Self { source, callable: callable.to_owned(), factory })
    }

    /// PasteDeploy divides at the first #.
    fn parse_paste(text: &str) -> Result<Self, TargetError> {
        let (path, name) = text.split_once('#').unwrap_or((text, "main"));
        if !path.contains('/') || name.is_empty() || name.contains(char::is_control) {
            return Err(TargetError::Paste(text.to_owned()));
        }
        let callable = name.to_owned();
        Ok(Self { source: Source::Paste(PathBuf::from(path)), callable, factory: None })
    }
}

/// Place and call of the callable. They are divided by the first colon behind which a name is all,
/// or all but parentheses: a path and an argument may have colons too.
fn divide(text: &str) -> (&str, &str) {
    let is_call = |call: &str| match call.split_once('(') {
        Some((name, rest)) => is_dotted_name(name) && rest.ends_with(')'),
        None => is_dotted_name(call),
    };
    let mut divided = text.match_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let found = divided.find(|(_, call)| is_call(call));
    // One that is wrong, to be told so.
    let last = || text.rsplit_once(':').filter(|(_, call)| !call.contains('/'));
    found.or_else(last).unwrap_or((text, "application"))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Path| path.display().to_string();
        match &self.source {
            Source::Module(name) => write!(f, "{name}:{}", self.callable)?,
            Source::File(file) => write!(f, "{}:{}", path(file), self.callable)?,
            Source::Paste(file) => write!(f, "{PASTE}{}#{}", path(file), self.callable)?,
        }
        self.factory.as_ref().map_or(Ok(()), |arguments| write!(f, "({arguments})"))
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
        let file = |path: &str| Source::File(path.into());
        let paste = |path: &str| Source::Paste(path.into());
        let (no, none) = (None, Some(""));
        for (text, source, callable, factory) in [
            ("a", module("a"), "application", no),
            ("a.b:app", module("a.b"), "app", no),
            ("a.b:x.y", module("a.b"), "x.y", no),
            ("a:make()", module("a"), "make", none),
            ("a:make('x:y(', b=\"/c\")", module("a"), "make", Some("'x:y(', b='/c'")),
            ("a:make(':b')", module("a"), "make", Some("':b'")),
            ("/srv/x.py", file("/srv/x.py"), "application", no),
            ("/srv/site.wsgi", file("/srv/site.wsgi"), "application", no),
            ("/srv/site.wsgi:app", file("/srv/site.wsgi"), "app", no),
            ("/srv/site", file("/srv/site"), "application", no),
            ("conf/x.py:app", file("conf/x.py"), "app", no),
            ("/srv/x.py:make()", file("/srv/x.py"), "make", none),
            ("/srv/x.py:make(1)", file("/srv/x.py"), "make", Some("1")),
            ("/srv/a:b/x.py", file("/srv/a:b/x.py"), "application", no),
            ("/srv/a:b/x.py:app", file("/srv/a:b/x.py"), "app", no),
            ("/srv/a:b(c)/x.py:app", file("/srv/a:b(c)/x.py"), "app", no),
            ("paste:/srv/site.ini", paste("/srv/site.ini"), "main", no),
            ("paste:conf/site.ini#admin:x", paste("conf/site.ini"), "admin:x", no),
            ("pastes:app", module("pastes"), "app", no),
        ] {
            let factory = factory.map(|text| Arguments::parse(text).unwrap());
            let want = Target { source, callable: callable.to_owned(), factory };
            assert_eq!(Target::parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn slips_are_named() {
        for (text, what) in [
            ("", "empty application name"),
            ("1x:app", "\"1x\" is not a module name"),
            ("a..b", "\"a..b\" is not a module name"),
            (".a", "\".a\" is not a module name"),
            ("a.", "\"a.\" is not a module name"),
            ("a:", "\"\" is not a callable name"),
            (":a", "\"\" is not a module name"),
            ("a:b(", "\"b(\" is not a callable name"),
            ("a:()", "\"\" is not a callable name"),
            ("a:b(x)", "no literal of Python at \"x\""),
            ("a:b(1 2)", "a comma is missing at \"2\""),
            ("a b", "\"a b\" is not a module name"),
            ("a()", "\"a()\" is not a module name"),
            ("a:$x", "variables are not supported"),
            ("a:b('$x')", "variables are not supported"),
            ("a:b:c", "\"a:b\" is not a module name"),
            ("app.py", "\"app.py\" is a module name; the path of a file has a slash"),
            ("app.py:app", "\"app.py\" is a module name; the path of a file has a slash"),
            (
                "paste",
                "a target of PasteDeploy is paste:/path/file.ini or paste:/path/file.ini#name",
            ),
            ("paste:x.ini", "\"x.ini\" is not /path/file.ini or /path/file.ini#name"),
            ("paste:/x.ini#", "\"/x.ini#\" is not /path/file.ini or /path/file.ini#name"),
        ] {
            assert_eq!(Target::parse(text).unwrap_err().to_string(), what, "{text}");
        }
    }
}
