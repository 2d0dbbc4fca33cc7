//! One request, from the call of the application to the `close()` of what it returned.
//!
//! Called by `app` for each request. Whatever happens, the exchange gets exactly one end, `close()`
//! runs once after it, and the objects the application may have kept are dead afterwards. After
//! every return from application code a forked child is caught: it must never answer.
//! Runs on: pool thread. PEP 3333, "Specification Details", "Error Handling".

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyBrokenPipeError, PyConnectionError, PyOSError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PyString, PyTuple};

use crate::python::interpreter::{exception, ffi, log};
use crate::python::request::errors::Context;
pub use crate::python::request::objects::ObjectFactory;
use crate::python::request::objects::{Body, RequestObjects};
use crate::python::request::socket::Connection;
use crate::python::response::file_wrapper::FileWrapper;
use crate::python::response::{Refused, Response, TOO_LONG, Wanted};
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::{End, Ender, Follows, ResponseSender};
use crate::wsgi::fork;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::{ExchangeId, Level};
use crate::wsgi::request::Request;
use crate::wsgi::websocket::Outcome;
use crate::wsgi::websocket::handshake::{self, Refusal};

use super::development::{Form, Page};
use super::watchdog;

/// Whether anybody wants to know the processor time of requests.
static MEASURES_CPU: AtomicBool = AtomicBool::new(false);

/// From now on the processor time of each request is measured.
pub fn measure_cpu() {
    MEASURES_CPU.store(true, Ordering::Relaxed);
}

/// Serves one request.
pub fn serve(
    app: &Bound<'_, PyAny>,
    factory: &ObjectFactory,
    request: Request,
    sender: ResponseSender,
) {
    let (py, id, ender, flags) = (app.py(), sender.id(), sender.ender(), request.flags);
    let debug = flags.debug.then(|| Form::of(&request.vars));
    let began = MEASURES_CPU.load(Ordering::Relaxed).then(ffi::cpu_time);
    match factory.make(py, request, sender) {
        Ok(objects) => {
            // Until all objects are gone: their ends may print something.
            let context = Context::enter(py, Some(id));
            let (ended, finished) = (Cell::new(false), Cell::new(false));
            let call = Call {
                py,
                id,
                objects: &objects,
                ender,
                context: &context,
                debug,
                began,
                ended,
                finished,
            };
            call.run(app);
            drop(call);
            factory.leave(objects);
        }
        Err(err) => exception::log(py, Some(id), "the request could not be handed over", &err),
    }
}

/// To be called after every return from application code.
pub fn returned() {
    if fork::is_child() {
        ffi::leave_forked_child();
    }
}

/// What the application returns next; it comes from there.
fn next<'py>(iter: &mut Bound<'py, PyIterator>) -> Result<Option<Bound<'py, PyAny>>, Broken> {
    let item = iter.next();
    returned();
    item.transpose().map_err(|err| Broken::Raised("", err))
}

/// Why the application's output ends early.
enum Broken {
    /// An exception, and where it comes from if not from the application.
    Raised(&'static str, PyErr),
    /// PEP 3333 is broken: what to say of it.
    Protocol(String),
    Cancelled,
}

impl From<Refused> for Broken {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Cancelled(_) => Self::Cancelled,
            Refused::NoHead => Self::Protocol(NO_HEAD.to_owned()),
        }
    }
}

/// One request at work.
struct Call<'a, 'py> {
    py: Python<'py>,
    id: ExchangeId,
    objects: &'a RequestObjects<'py>,
    ender: Ender,
    context: &'a Context<'py>,
    /// `wsgi_debug`: what the client is shown in place of a bare 500.
    debug: Option<Form>,
    /// See [`Self::end_early`].
    ended: Cell<bool>,
    /// The processor time of the thread before, if it is wanted.
    began: Option<Duration>,
    /// [`Self::finish`] has come to its end.
    finished: Cell<bool>,
}

impl<'py> Call<'_, 'py> {
    fn run(&self, app: &Bound<'py, PyAny>) {
        self.ender.interruption().open(ffi::thread());
        let result = app.call1((&self.objects.environ, &self.objects.start));
        returned();
        match result {
            Ok(result) => {
                let nothing =
                    result.is_none() && (self.is_taken_over() || self.has_lost_websocket());
                self.finish(if nothing { Ok(()) } else { self.pass_on(&result) });
                self.close(&result);
            }
            Err(err) => self.finish(Err(Broken::Raised("", err))),
        }
    }

    /// Sends what the application returned.
    fn pass_on(&self, result: &Bound<'py, PyAny>) -> Result<(), Broken> {
        if let Ok(list) = result.cast_exact::<PyList>() {
            return self.send_sequence(list.iter(), list.iter());
        }
        if let Ok(tuple) = result.cast_exact::<PyTuple>() {
            return self.send_sequence(tuple.iter(), tuple.iter());
        }
        if let Ok(wrapper) = result.cast_exact::<FileWrapper>()
            && let Some((file, offset, rest)) = wrapper.get().regular_file(self.py)
        {
            let sent = self.response(|response| response.send_file(self.py, file, offset, rest))?;
            return sent.map_err(Broken::from);
        }
        if result.is_instance_of::<PyBytes>() {
            return self.send_sequence([result.clone()].into_iter(), [result.clone()].into_iter());
        }
        if result.is_instance_of::<PyString>() {
            return Err(Broken::Protocol(wrong_item("application returned", result)));
        }
        self.send_iterable(result)
    }

    /// All is there: one wake-up of the event loop serves the chunks and the end.
    fn send_sequence<I>(&self, items: I, same_items: I) -> Result<(), Broken>
    where
        I: Iterator<Item = Bound<'py, PyAny>>,
    {
        let len =
            |item: Bound<'py, PyAny>| Some(item.cast::<PyBytes>().ok()?.as_bytes().len() as u64);
        if let Some(total) = items.map(len).sum::<Option<u64>>() {
            self.response(|response| response.know_length(total))?;
        }
        for item in same_items {
            if self.send(&item, Follows::AtOnce)? == Wanted::Nothing {
                break;
            }
        }
        Ok(())
    }

    fn send_iterable(&self, result: &Bound<'py, PyAny>) -> Result<(), Broken> {
        let iter = result.try_iter();
        returned();
        let mut iter = iter.map_err(|err| Broken::Raised("application's result:", err))?;
        if ffi::is_of_sequence(&iter) {
            // As a list: no code of the application runs between its items. Django's HttpResponse.
            let items: PyResult<Vec<_>> = iter.collect();
            let items = items.map_err(|err| Broken::Raised("", err))?;
            return self.send_sequence(items.iter().cloned(), items.iter().cloned());
        }
        while let Some(item) = next(&mut iter)? {
            if self.completes(&item)? {
                let wanted = self.send(&item, Follows::AtOnce)?;
                self.end_early();
                return if wanted == Wanted::More { self.run_out(iter) } else { Ok(()) };
            }
            if self.send(&item, Follows::Later)? == Wanted::Nothing {
                break;
            }
        }
        Ok(())
    }

    /// Whether the response is whole with this item, whatever the application does afterwards. An
    /// application that still reads the body of its request may do so.
    fn completes(&self, item: &Bound<'py, PyAny>) -> Result<bool, Broken> {
        let Body::Whole(_) = self.objects.input else { return Ok(false) };
        let Ok(chunk) = item.cast::<PyBytes>() else { return Ok(false) };
        self.response(|response| response.is_whole_with(chunk.as_bytes().len()))
    }

    fn end_exchange(&self, end: End) {
        if let Some(began) = self.began {
            self.ender.spent(ffi::cpu_time().saturating_sub(began));
        }
        self.ender.finish(end);
    }

    /// Ends the exchange before the application has returned everything.
    fn end_early(&self) {
        self.flush();
        self.end_exchange(Ok(()));
        self.ended.set(true);
    }

    /// Lets the application come to its end, which its client does not wait for.
    fn run_out(&self, mut iter: Bound<'py, PyIterator>) -> Result<(), Broken> {
        while let Some(item) = next(&mut iter)? {
            let Ok(chunk) = item.cast::<PyBytes>() else {
                return Err(Broken::Protocol(wrong_item("application yielded", &item)));
            };
            if !chunk.as_bytes().is_empty() {
                return Err(Broken::Protocol(TOO_LONG.to_owned()));
            }
        }
        Ok(())
    }

    fn send(&self, item: &Bound<'py, PyAny>, next: Follows) -> Result<Wanted, Broken> {
        let Ok(chunk) = item.cast::<PyBytes>() else {
            return Err(Broken::Protocol(wrong_item("application yielded", item)));
        };
        let sent = self.response(|response| response.send(chunk, next))?;
        sent.map_err(Broken::from)
    }

    /// Borrows the response; fails while another thread of the application writes.
    fn response<R>(&self, act: impl FnOnce(&mut Response) -> R) -> Result<R, Broken> {
        let raised = |err| Broken::Raised("write() still runs in another thread", err);
        let mut start = self.objects.start.try_borrow_mut().map_err(|err| raised(err.into()))?;
        Ok(act(start.response().map_err(raised)?))
    }

    /// Logs what is wrong, then ends the exchange. What the application has begun to print goes
    /// first: after the end there is no request whose context its lines could have.
    fn finish(&self, outcome: Result<(), Broken>) {
        self.end_interruption();
        self.flush();
        if self.ended.get() {
            if let Err(broken) = outcome {
                self.explain_late(broken);
            }
        } else {
            let end =
                if self.is_taken_over() { self.end_connection(outcome) } else { self.end(outcome) };
            if let Some(connection) = &self.objects.connection {
                let is_good = end.is_ok();
                connection.ended(if is_good { Outcome::Returned } else { Outcome::Raised });
            }
            self.end_exchange(end);
        }
        self.end_start_response();
        self.finished.set(true);
    }

    /// The application has answered on its connection, or as a WebSocket.
    fn is_taken_over(&self) -> bool {
        self.objects.connection.as_ref().is_some_and(Connection::is_used)
    }

    fn flush(&self) {
        self.objects.errors.get().flush(self.py);
        self.context.flush();
    }

    /// How the exchange is to end.
    fn end(&self, outcome: Result<(), Broken>) -> End {
        match outcome.and_then(|()| self.response(Response::complete)) {
            Ok(end) => {
                if let Some(refusal) = self.refusal().filter(|_| end.is_err()) {
                    self.refuse(refusal)
                } else if end == Err(Failure::Protocol) && !self.has_lost_websocket() {
                    self.say(Level::Error, NO_HEAD);
                    self.show(NO_HEAD, None, Failure::Protocol)
                } else {
                    end
                }
            }
            // The end reaches nobody.
            Err(Broken::Cancelled) => Ok(()),
            Err(Broken::Protocol(line)) => {
                self.say(Level::Error, &line);
                self.show(&line, None, Failure::Protocol)
            }
            Err(Broken::Raised(what, err)) => {
                if let Some(refusal) = self.refusal()
                    && err.is_instance_of::<PyOSError>(self.py)
                {
                    return self.refuse(refusal);
                }
                self.explain(what, &err);
                self.show(UNCAUGHT, Some(&err), Failure::Application)
            }
        }
    }

    /// How the exchange is to end of an application that has taken the connection over: what it
    /// says by start_response and returns is nobody's.
    fn end_connection(&self, outcome: Result<(), Broken>) -> End {
        match outcome {
            Err(Broken::Raised(what, err)) if !self.is_way_to_end(&err) => {
                self.explain(what, &err);
                Err(Failure::Application)
            }
            _ => Ok(()),
        }
    }

    /// gunicorn's is StopIteration. Under Werkzeug's server, which drops the connection without a
    /// word, python-engineio raises ConnectionError; one that says something has another cause.
    fn is_way_to_end(&self, err: &PyErr) -> bool {
        let args = || err.value(self.py).getattr(intern!(self.py, "args"))?.is_empty();
        err.is_instance_of::<PyStopIteration>(self.py)
            || err.get_type(self.py).is(self.py.get_type::<PyConnectionError>())
                && args().unwrap_or(false)
    }

    /// Why the client's request is no handshake, if the application has tried to do it.
    fn refusal(&self) -> Option<Refusal> {
        self.objects.connection.as_ref()?.refusal()
    }

    /// The application has nothing to say to a client whose handshake is bad.
    fn refuse(&self, refusal: Refusal) -> End {
        self.say(Level::Info, &refusal.to_string());
        let head = ResponseHead::new(refusal.reason().as_bytes()).and_then(|mut head| {
            if refusal == Refusal::Version {
                head.push(b"Sec-WebSocket-Version", handshake::VERSION.as_bytes())?;
                head.name_upgrade(b"websocket");
            }
            Ok(head)
        });
        let answered = self.response(|response| {
            let head = head.ok().filter(|_| !response.is_head_sent())?;
            response.start(head);
            response.know_length(0);
            Some(response.complete())
        });
        answered.ok().flatten().unwrap_or(Err(Failure::Application))
    }

    /// With `wsgi_debug` the client is shown what has happened, if it still can be.
    fn show(&self, what: &str, err: Option<&PyErr>, failure: Failure) -> End {
        let shown = self.debug.is_some_and(|form| {
            // Nothing is made for nobody.
            let open =
                |response: &mut Response| !response.is_head_sent() && !response.is_cancelled();
            self.response(open).unwrap_or(false)
                && Page::new(self.py, what, err).is_ok_and(|page| {
                    self.response(|response| page.send(self.py, response, form)).unwrap_or(false)
                })
        });
        if shown { Ok(()) } else { Err(failure) }
    }

    /// From now on start_response and write() raise. While a write() runs in another thread of the
    /// application, the end of the exchange stops it.
    fn end_start_response(&self) {
        if let Ok(mut start) = self.objects.start.try_borrow_mut() {
            drop(start.end());
        }
    }

    /// From now on the request's timeout raises nothing in this thread.
    fn end_interruption(&self) {
        if self.ender.interruption().close() {
            ffi::forget_raised(self.py);
        }
    }

    fn has_lost_websocket(&self) -> bool {
        self.objects.connection.as_ref().is_some_and(Connection::has_lost_websocket)
    }

    /// A client that has gone is not the application's fault: no traceback for it.
    fn explain(&self, what: &str, err: &PyErr) {
        let gone = self.response(|response| response.is_cancelled()).unwrap_or(false);
        if watchdog::is_timeout(self.py, err) {
            self.say(Level::Info, "application was interrupted by wsgi_request_timeout");
        } else if gone && err.is_instance_of::<PyBrokenPipeError>(self.py) {
            self.say(Level::Info, "application stopped at write(): the client is gone");
        } else if (gone && self.is_taken_over() || self.has_lost_websocket())
            && err.is_instance_of::<PyOSError>(self.py)
        {
            let line = format!("application stopped at its socket: {}", err.value(self.py));
            self.say(Level::Info, &line);
        } else if gone && self.objects.input.is_broken() && err.is_instance_of::<PyOSError>(self.py)
        {
            let line = format!("application stopped at wsgi.input: {}", err.value(self.py));
            self.say(Level::Info, &line);
        } else {
            exception::log(self.py, Some(self.id), what, err);
        }
    }

    /// What went wrong when the response was complete. The request is gone, and with it the log's
    /// context.
    fn explain_late(&self, broken: Broken) {
        let name = self.name().unwrap_or_default();
        match broken {
            Broken::Raised(_, err) if watchdog::is_timeout(self.py, &err) => {
                let line = format!("application was interrupted by wsgi_request_timeout: {name}");
                self.say(Level::Info, &line);
            }
            Broken::Raised(_, err) => {
                let what = format!("application after the end of its response for {name}:");
                exception::log(self.py, Some(self.id), &what, &err);
            }
            Broken::Protocol(line) => self.say(Level::Error, &format!("{line}: {name}")),
            Broken::Cancelled => (),
        }
    }

    /// Method and URI, as far as the application has left them in the environ.
    fn name(&self) -> PyResult<String> {
        let method = self.objects.environ.get_item(intern!(self.py, "REQUEST_METHOD"))?;
        let uri = self.objects.environ.get_item(intern!(self.py, "REQUEST_URI"))?;
        Ok(format!("\"{method} {uri}\""))
    }

    fn say(&self, level: Level, line: &str) {
        log::text(self.py, Some(self.id), level, line);
    }

    /// `close()` is for the application to clean up, whatever has become of the response.
    fn close(&self, result: &Bound<'py, PyAny>) {
        if result.is_exact_instance_of::<PyList>()
            || result.is_exact_instance_of::<PyTuple>()
            || result.is_exact_instance_of::<PyBytes>()
        {
            return;
        }
        let closed = result
            .getattr_opt(intern!(self.py, "close"))
            .and_then(|close| close.map_or(Ok(()), |close| close.call0().map(drop)));
        returned();
        if let Err(err) = closed {
            // The request is gone, and with it the log's context.
            let what = format!(
                "close() of the application's result for {}:",
                self.name().unwrap_or_default()
            );
            exception::log(self.py, Some(self.id), &what, &err);
        }
    }
}

impl Drop for Call<'_, '_> {
    fn drop(&mut self) {
        if !self.finished.get() {
            // After a panic: an exchange without an end would keep its client waiting.
            self.end_interruption();
            self.ender.finish(Err(Failure::Lost));
        }
        // Once more: a write() in another thread may have held it.
        self.end_start_response();
        self.objects.input.end();
        if let Some(connection) = &self.objects.connection {
            connection.close();
        }
        self.objects.errors.get().end(self.py);
    }
}

const NO_HEAD: &str = "application did not call start_response() before its first chunk or end";

const UNCAUGHT: &str = "The application has raised an exception";

/// `TypeError: application yielded str instead of bytes`.
fn wrong_item(what: &str, item: &Bound<'_, PyAny>) -> String {
    let name = item.get_type();
    let name = name.name();
    let name = name.as_ref().map_or("?".into(), |name| name.to_string_lossy());
    format!("TypeError: {what} {name} instead of bytes")
}
