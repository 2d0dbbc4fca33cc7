//! `wsgi_reload` and `wsgi_debug`: what is loaded, whether what has changed is Python, and pages
//! that show a developer why there is no response.
//!
//! `host` prepares it; `app` and `call` ask it for pages. What a page says is in
//! development.py.
//! Runs on: pool thread; [`compiles`] on a thread of its own, [`Watch`] on any thread of Python.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::python::interpreter::{exception, log};
use crate::python::response::Response;
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::{Follows, ResponseSender};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::interpreter::Settings;
use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::Level;
use crate::wsgi::request::Request;
use crate::wsgi::request::vars::Vars;
use crate::wsgi::sources::SourceWatch;

const CODE: &str = include_str!("development.py");

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
static SOURCES: OnceLock<Arc<dyn SourceWatch>> = OnceLock::new();
/// What is wrong with the sources as they are now, and how that was logged.
static WRONG: Mutex<Option<(String, Page)>> = Mutex::new(None);

/// Before any code of the application is imported.
pub fn prepare(py: Python<'_>, settings: &Settings) -> PyResult<()> {
    if !settings.debug && settings.sources.is_none() {
        return Ok(());
    }
    let code = CString::new(CODE)?;
    let module = PyModule::from_code(py, &code, c"<wsgi development>", c"_wsgi_development")?;
    MODULE.get_or_init(py, || module.clone().unbind());
    if let Some(sources) = &settings.sources {
        let _ = SOURCES.set(Arc::clone(sources));
        module.call_method1("watch", (Watch,))?;
    }
    Ok(())
}

fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let module = MODULE.get(py).ok_or_else(|| PyRuntimeError::new_err("not prepared"))?;
    Ok(module.bind(py))
}

/// What Python calls with the path of each source file before it is read.
#[pyclass(frozen, module = "wsgi", name = "SourceWatch")]
struct Watch;

#[pymethods]
impl Watch {
    fn __call__(&self, path: PathBuf) {
        if let Some(sources) = SOURCES.get() {
            sources.loads(&path);
        }
    }
}

/// See [`crate::wsgi::interpreter::Interpreter::compiles`].
pub fn compiles(py: Python<'_>, files: &[PathBuf]) -> bool {
    match first_wrong(py, files) {
        Ok(None) => {
            set_wrong(None);
            true
        }
        Ok(Some((path, err))) => {
            let what = format!("\"{path}\" has changed and is not used: it cannot be compiled");
            let text = exception::text(py, &err);
            let is_new = match &*lock(&WRONG) {
                Some((known, _)) => *known != text,
                None => true,
            };
            if is_new {
                log::text(py, None, Level::Error, &format!("{what}\n{text}"));
                let title = format!("{path} cannot be compiled");
                set_wrong(Page::new(py, &title, Some(&err)).ok().map(|page| (text, page)));
            }
            false
        }
        Err(err) => {
            exception::log(py, None, "changed sources cannot be compiled:", &err);
            false
        }
    }
}

fn first_wrong(py: Python<'_>, files: &[PathBuf]) -> PyResult<Option<(String, PyErr)>> {
    let files: Vec<_> = files.iter().map(|path| path.as_os_str()).collect();
    let found = module(py)?.call_method1("first_wrong", (files,))?;
    if found.is_none() {
        return Ok(None);
    }
    let path: PathBuf = found.get_item(0)?.extract()?;
    Ok(Some((path.display().to_string(), PyErr::from_value(found.get_item(1)?))))
}

fn set_wrong(wrong: Option<(String, Page)>) {
    let mut known = lock(&WRONG);
    let old = std::mem::replace(&mut *known, wrong);
    drop(known);
    drop(old);
}

/// The page about sources that cannot be compiled, if there are such.
pub fn wrong() -> Option<Page> {
    let wrong = lock(&WRONG);
    wrong.as_ref().map(|(_, page)| page.clone())
}

/// An import has failed. The sources it came to are watched; these are the places where a module
/// may have been missed. The page is for the requests to come.
pub fn import_failed(py: Python<'_>, what: &str, err: &PyErr) -> Option<Page> {
    let module = MODULE.get(py)?.bind(py);
    if let Some(sources) = SOURCES.get() {
        let directories = module.call_method0("search_path").and_then(|found| found.extract());
        // At least what is beside the known files counts.
        let directories: Vec<PathBuf> = directories.unwrap_or_default();
        sources.failed(&directories);
    }
    Page::new(py, what, Some(err)).ok()
}

/// A page in both its forms.
#[derive(Debug, Clone)]
pub struct Page {
    html: Arc<Vec<u8>>,
    text: Arc<Vec<u8>>,
}

impl Page {
    pub fn new(py: Python<'_>, what: &str, err: Option<&PyErr>) -> PyResult<Self> {
        let text = err.map_or_else(String::new, |err| exception::text(py, err));
        let exc = err.map(|err| exception::with_traceback(py, err));
        let pages = module(py)?.call_method1("report", (what, exc, text))?;
        let (html, text): (Vec<u8>, Vec<u8>) = pages.extract()?;
        Ok(Self { html: Arc::new(html), text: Arc::new(text) })
    }

    /// Sends it in place of a response whose head has not been sent. False if that does not work
    /// any more.
    pub fn send(&self, py: Python<'_>, response: &mut Response, form: Form) -> bool {
        let (kind, bytes) = match form {
            Form::Html => (&b"text/html; charset=utf-8"[..], &self.html),
            Form::Text => (&b"text/plain; charset=utf-8"[..], &self.text),
        };
        let head = ResponseHead::new(b"500 Internal Server Error").and_then(|mut head| {
            head.push(b"Content-Type", kind)?;
            head.push(b"Cache-Control", b"no-store")?;
            Ok(head)
        });
        let Ok(head) = head else { return false };
        if response.is_head_sent() || response.is_cancelled() {
            return false;
        }
        response.start(head);
        response.know_length(bytes.len() as u64);
        let sent = response.send(&PyBytes::new(py, bytes), Follows::AtOnce);
        sent.is_ok() && response.complete().is_ok()
    }

    /// Answers a request that does not reach an application.
    pub fn answer(&self, py: Python<'_>, request: &Request, sender: ResponseSender) {
        let ender = sender.ender();
        let mut response = Response::new(sender, request.flags.head);
        let sent = self.send(py, &mut response, Form::of(&request.vars));
        ender.finish(if sent { Ok(()) } else { Err(Failure::Import) });
    }
}

/// HTML for browsers, plain text for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Html,
    Text,
}

impl Form {
    /// HTML only if the client names it in its Accept field (RFC 9110 section 12.5.1).
    pub fn of(vars: &Vars) -> Self {
        let accept = vars.get(b"HTTP_ACCEPT").unwrap_or_default().to_ascii_lowercase();
        let names_html = accept.split(|byte| *byte == b',').any(|range| {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let is_html = matches!(parts.next(), Some(b"text/html" | b"application/xhtml+xml"));
            is_html && !parts.any(|part| matches!(part, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"))
        });
        if names_html { Self::Html } else { Self::Text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsgi::request::vars::VarsWriter;

    #[test]
    fn only_who_names_html_gets_it() {
        for (accept, form) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form::Html),
            ("application/json, Text/HTML ; q=0.5", Form::Html),
            ("application/xhtml+xml", Form::Html),
            ("*/*", Form::Text),
            ("text/*", Form::Text),
            ("text/html;q=0", Form::Text),
            ("text/html ; q=0.0, */*", Form::Text),
            ("text/htmlx", Form::Text),
            ("", Form::Text),
        ] {
            let mut vars = VarsWriter::default();
            vars.push(b"HTTP_ACCEPT", accept.as_bytes()).unwrap();
            assert_eq!(Form::of(&vars.finish()), form, "{accept}");
        }
        assert_eq!(Form::of(&Vars::default()), Form::Text);
    }
}
