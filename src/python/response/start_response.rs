//! The `start_response` callable of one request, and the `write` callable it returns.
//!
//! Made by `call`; owns the [`Response`]. PyO3's borrow flag stands in for a lock: two threads
//! that write at once get a RuntimeError instead of a torn response, and none ever waits for a
//! lock while it is attached.
//! Runs on: pool thread. PEP 3333, "The start_response() Callable", "The write() Callable".

use pyo3::exceptions::{PyAssertionError, PyBaseException, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::python::interpreter::exception::{from_cancelled, from_head_error, wrong_type};
use crate::python::interpreter::ffi;
use crate::wsgi::exchange::Follows;
use crate::wsgi::head::ResponseHead;

use super::{Refused, Response};

#[pyclass(module = "wsgi", name = "StartResponse")]
pub struct StartResponse {
    /// `None` after the end of the request.
    response: Option<Response>,
    ignores_redirect: bool,
}

impl StartResponse {
    /// One without a request.
    pub fn new() -> Self {
        Self { response: None, ignores_redirect: false }
    }

    /// A request begins. `ignores_redirect`: of [`crate::wsgi::request::Flags`].
    pub fn begin(&mut self, response: Response, ignores_redirect: bool) {
        *self = Self { response: Some(response), ignores_redirect };
    }

    /// Fails after the end of the request.
    pub fn response(&mut self) -> PyResult<&mut Response> {
        let ended = || PyValueError::new_err("the response has ended");
        self.response.as_mut().ok_or_else(ended)
    }

    /// The request has ended, whatever the application keeps.
    pub fn end(&mut self) -> Option<Response> {
        self.response.take()
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, response_headers, exc_info = None, /))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        response_headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Before the borrow: truth may be code of the application.
        let exc_info = exc_info.map(given).transpose()?.flatten();
        {
            let mut this = slf.try_borrow_mut()?;
            let ignores_redirect = this.ignores_redirect;
            let response = this.response()?;
            if let Some(exc_info) = &exc_info {
                if response.is_head_sent() {
                    return Err(reraised(exc_info)?);
                }
            } else if response.is_started() {
                return Err(PyAssertionError::new_err(
                    "start_response() called again without exc_info",
                ));
            }
            let block = response.take_head_block();
            let mut head = head(block, status, response_headers)?;
            if ignores_redirect {
                head.ignore_redirect();
            }
            response.start(head);
        }
        slf.getattr(intern!(slf.py(), "write"))
    }

    #[pyo3(signature = (data, /))]
    fn write(&mut self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data =
            data.cast::<PyBytes>().map_err(|_| wrong_type("write() argument", "bytes", data))?;
        match self.response()?.send(data, Follows::Later) {
            Ok(_) => Ok(()),
            Err(Refused::Cancelled(cancelled)) => Err(from_cancelled(cancelled)),
            Err(Refused::NoHead) => {
                Err(PyAssertionError::new_err("write() before start_response()"))
            }
        }
    }
}

/// What is false counts as absent: PEP 3333's own example asks `if exc_info:`, and so do other
/// servers. Anything else is the tuple of sys.exc_info().
fn given<'a, 'py>(exc_info: &'a Bound<'py, PyAny>) -> PyResult<Option<&'a Bound<'py, PyTuple>>> {
    if !exc_info.is_truthy()? {
        return Ok(None);
    }
    let tuple = exc_info.cast::<PyTuple>().ok().filter(|tuple| tuple.len() == 3);
    tuple.map(Some).ok_or_else(|| not_exc_info(exc_info))
}

fn not_exc_info(got: &Bound<'_, PyAny>) -> PyErr {
    wrong_type("exc_info", "the tuple of sys.exc_info()", got)
}

/// The exception of an `exc_info` tuple, with its own traceback.
fn reraised(exc_info: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let exc = exc_info.get_item(1)?;
    if !exc.is_instance_of::<PyBaseException>() {
        return Err(not_exc_info(exc_info));
    }
    let traceback = exc_info.get_item(2)?;
    if !traceback.is_none() {
        exc.call_method1(intern!(exc.py(), "with_traceback"), (traceback,))?;
    }
    Ok(PyErr::from_value(exc))
}

/// Checks types and contents. Runs no code of the application.
fn head(
    block: Vec<u8>,
    status: &Bound<'_, PyAny>,
    headers: &Bound<'_, PyAny>,
) -> PyResult<ResponseHead> {
    let text = string(status, "status")?;
    let bytes = ffi::latin1_bytes(text).ok_or_else(|| not_latin1("status", text))?;
    let mut head = ResponseHead::new_in(block, bytes).map_err(|err| from_head_error(&err))?;
    let headers =
        headers.cast::<PyList>().map_err(|_| wrong_type("response headers", "a list", headers))?;
    for item in headers.iter() {
        let pair = item
            .cast::<PyTuple>()
            .map_err(|_| wrong_type("a response header", "a tuple (name, value)", &item))?;
        if pair.len() != 2 {
            return Err(PyTypeError::new_err(format!(
                "a response header must be a tuple (name, value), not of {} items",
                pair.len()
            )));
        }
        let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let name = string(&name, "name of a response header")?;
        let value = string(&value, "value of a response header")?;
        let name_bytes = ffi::latin1_bytes(name).ok_or_else(|| not_latin1("header name", name))?;
        let value_bytes =
            ffi::latin1_bytes(value).ok_or_else(|| not_latin1("value of header", name))?;
        head.push(name_bytes, value_bytes).map_err(|err| from_head_error(&err))?;
    }
    Ok(head)
}

fn string<'a, 'py>(got: &'a Bound<'py, PyAny>, what: &str) -> PyResult<&'a Bound<'py, PyString>> {
    got.cast::<PyString>().map_err(|_| wrong_type(what, "str", got))
}

fn not_latin1(what: &str, text: &Bound<'_, PyString>) -> PyErr {
    let text = text.repr().map_or_else(|_| String::new(), |repr| repr.to_string());
    PyValueError::new_err(format!("{what} {text} has a character outside of ISO-8859-1"))
}
