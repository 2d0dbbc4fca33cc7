//! The content handler: from nginx's request to a job in a queue.
//!
//! Also the two ways a request leaves without its application: refusals before it is queued, and
//! its timer.
//! Runs on: event loop.

use std::sync::Arc;
use std::time::Instant;

use ngx::ffi::{
    NGX_DONE, NGX_HTTP_BAD_REQUEST, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR,
    NGX_HTTP_NOT_FOUND, NGX_HTTP_SERVICE_UNAVAILABLE, NGX_HTTP_SPECIAL_RESPONSE,
    NGX_HTTP_VERSION_20, ngx_event_t, ngx_http_finalize_request, ngx_http_read_client_request_body,
    ngx_http_request_t, ngx_http_test_reading, ngx_int_t, ngx_uint_t,
};

use super::body::request_body;
use super::conf::{self, LocConf};
use super::context::{Context, Waiting};
use super::dispatch::{self, Worker};
use super::guard::protect;
use super::retry::{self, Answer};
use super::sys::bits;
use super::{headers, log, response, retire, unbuffered, vars};
use crate::wsgi::application::Import;
use crate::wsgi::exchange::{Exchange, Progress, time_left};
use crate::wsgi::mailbox::Level;
use crate::wsgi::passing::Accel;
use crate::wsgi::queue::Job;
use crate::wsgi::request::vars::Vars;
use crate::wsgi::request::{Flags, Request};

const NOT_FOUND: ngx_int_t = NGX_HTTP_NOT_FOUND as ngx_int_t;
const BAD_REQUEST: ngx_int_t = NGX_HTTP_BAD_REQUEST as ngx_int_t;
const INTERNAL_ERROR: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
const UNAVAILABLE: ngx_int_t = NGX_HTTP_SERVICE_UNAVAILABLE as ngx_int_t;

/// The handler of a location with `wsgi_app`.
///
/// # Safety
///
/// Called by nginx in the content phase.
pub unsafe extern "C" fn ngx_http_wsgi_handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    protect(INTERNAL_ERROR, || {
        // SAFETY: nginx's request.
        unsafe {
            let conf = conf::of_request(r);
            if split_path((*r).uri.as_bytes(), conf.mount()).is_none() {
                return NOT_FOUND;
            }
            let streams = !conf.request_buffering() && conf.passing.passes_request_body();
            let rc = if streams && unbuffered::is_unread(r) {
                bits::request::set_request_body_no_buffering(r, true);
                ngx_http_read_client_request_body(r, Some(ngx_http_wsgi_body_begun))
            } else {
                ngx_http_read_client_request_body(r, Some(ngx_http_wsgi_body_read))
            };
            if rc >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t { rc } else { NGX_DONE as ngx_int_t }
        }
    })
}

/// SCRIPT_NAME and PATH_INFO (RFC 3875 sections 4.1.5 and 4.1.13); whole segments only.
fn split_path<'a>(uri: &'a [u8], mount: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rest = uri.strip_prefix(mount)?;
    matches!((mount, rest), ([], _) | (_, [] | [b'/', ..])).then(|| uri.split_at(mount.len()))
}

/// The body is complete: queue the request, or say why not.
unsafe extern "C" fn ngx_http_wsgi_body_read(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: nginx's request, with a reference for us that one finalize gives back. What comes
        // after `submit` may free the request; nothing touches it then.
        unsafe {
            match protect(Err(INTERNAL_ERROR), || submit(r, Reading::Done)) {
                Ok(()) => watch_client(r),
                Err(rc) => ngx_http_finalize_request(r, rc),
            }
        }
    });
}

/// With `wsgi_request_buffering off`: all, a part or nothing of the body is there.
unsafe extern "C" fn ngx_http_wsgi_body_begun(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: as in `ngx_http_wsgi_body_read`.
        unsafe {
            match protect(Err(INTERNAL_ERROR), || submit(r, Reading::Begun)) {
                Ok(()) => unbuffered::start(r),
                Err(rc) => ngx_http_finalize_request(r, rc),
            }
        }
    });
}

/// How far nginx is with the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It is complete, or is not to be had.
    Done,
    /// The application reads it as it comes.
    Begun,
}

unsafe fn submit(r: *mut ngx_http_request_t, reading: Reading) -> Result<(), ngx_int_t> {
    // SAFETY: the caller's request.
    unsafe {
        let conf = conf::of_request(r);
        let (Some(worker), Some(endpoint)) = (dispatch::worker(), conf.endpoint) else {
            log::write_request(r, Level::Error, format_args!("python is not running"));
            retry::ask_for_python();
            return Err(not_loaded(r));
        };
        let (Some(app), Some(queue)) = (worker.app(endpoint.app), worker.queue(endpoint)) else {
            return Err(INTERNAL_ERROR);
        };
        let now = Instant::now();
        if app.import() == Import::Failed
            && let Answer::Refuse(left) = retry::ask(worker, endpoint.app)
            // With wsgi_debug a thread shows why.
            && !conf.debug()
        {
            let name = app.name();
            let next = if left.is_zero() {
                String::from("a fresh worker is to try")
            } else {
                format!("next try in {left:.1?}")
            };
            let text = format_args!("\"{name}\" is not loaded, {next}");
            log::write_request(r, Level::Error, text);
            return Err(not_loaded(r));
        }
        if worker.runners.lost(endpoint.pool) >= queue.threads() {
            log::write_request(r, Level::Error, format_args!("{NO_THREAD}"));
            return Err(unavailable(r, 1));
        }
        let id = worker.next_id();
        let pipe = match reading {
            Reading::Begun => unbuffered::open(r, id, &worker.mailbox),
            Reading::Done => None,
        };
        // One that is not passed has been read, and is there for another location that the request
        // is given to.
        let passes = conf.passing.passes_request_body();
        let body = match pipe.is_some() || unbuffered::is_begun(r) || !passes {
            true => None,
            false => request_body(r).map_err(|err| {
                log::write_request(r, Level::Alert, format_args!("request body: {err}"));
                INTERNAL_ERROR
            })?,
        };
        let body = body.map(Arc::new);
        let (left, old) = worker.stock.take();
        let len = (reading == Reading::Done).then(|| body.as_ref().map_or(0, |body| body.len()));
        let request = Request {
            vars: vars(r, conf, len, left)?,
            body,
            pipe: pipe.clone(),
            flags: Flags {
                head: (*r).method == NGX_HTTP_HEAD as ngx_uint_t,
                ignores_redirect: conf.passing.ignores(Accel::Redirect),
                debug: conf.debug(),
                multithread: queue.threads() > 1,
                multiprocess: worker.multiprocess,
            },
        };
        let (exchange, response) = match old {
            Some(old) => Exchange::open_over(old, id, conf.buffering()),
            None => Exchange::open(id, conf.buffering(), worker.mailbox.clone()),
        };
        let waiting = Waiting {
            exchange,
            kept: (request.vars.clone(), request.body.clone()),
            takes_body: pipe.is_some() && unbuffered::is_begun(r),
            pipe,
            conf,
            queued: now,
        };
        let context = Context::create(r, waiting, Some(ngx_http_wsgi_timeout));
        if context.is_null() {
            return Err(INTERNAL_ERROR);
        }
        let job = Job::Call { app, request, response };
        if !worker.push(endpoint.pool, job, conf.queue().limit) {
            log::write_request(r, Level::Error, format_args!("wsgi queue is full"));
            let rc = unavailable(r, 1);
            (*context).account.refused(rc);
            (*context).detach();
            return Err(rc);
        }
        worker.remember(id, context);
        (*context).arm(conf.queue_timeout().min(conf.read_timeout()));
        retire::count();
        Ok(())
    }
}

/// 500 for an application that is not there. A worker that is to be replaced for it keeps no
/// connection.
unsafe fn not_loaded(r: *mut ngx_http_request_t) -> ngx_int_t {
    if retire::is_draining() {
        // SAFETY: the caller's request.
        unsafe { bits::request::set_keepalive(r, false) };
    }
    INTERNAL_ERROR
}

/// The vars of the request. `body`: its length, as far as it is known; `left`: to be written over.
unsafe fn vars(
    r: *mut ngx_http_request_t,
    conf: &LocConf,
    body: Option<u64>,
    left: Vars,
) -> Result<Vars, ngx_int_t> {
    // SAFETY: the caller's request.
    unsafe {
        let path = split_path((*r).uri.as_bytes(), conf.mount()).ok_or(NOT_FOUND)?;
        let main = conf::main_of_request(r);
        vars::request_vars(r, main, conf, path, body, left).map_err(|err| {
            log::write_request(r, Level::Info, format_args!("request variables: {err}"));
            BAD_REQUEST
        })
    }
}

/// Notices when the client goes away. May free the request.
///
/// # Safety
///
/// `r` is a live request whose body is complete.
pub unsafe fn watch_client(r: *mut ngx_http_request_t) {
    // SAFETY: a live request that waits for its application.
    unsafe {
        if bits::request::post_action((*r).main) || conf::of_request(r).ignores_client_abort() {
            // It runs when the client has its response, and may be gone.
            return;
        }
        (*r).read_event_handler = Some(ngx_http_test_reading);
        // Its end may have been seen while the body was read; there is no second event for it.
        let read = (*(*r).connection).read;
        if (*r).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t && bits::event::pending_eof(read) {
            ngx_http_test_reading(r);
        }
    }
}

/// 503 with Retry-After, in seconds (RFC 9110 section 10.2.3).
unsafe fn unavailable(r: *mut ngx_http_request_t, seconds: u64) -> ngx_int_t {
    // SAFETY: the caller's request.
    unsafe {
        let value = seconds.to_string();
        let header = headers::push_header(r, b"Retry-After", value.as_bytes());
        if header.is_none() { INTERNAL_ERROR } else { UNAVAILABLE }
    }
}

const NO_THREAD: &str = "all threads of the pool are lost";

/// No thread of this pool will take what waits for it.
pub fn refuse_waiting(worker: &Worker, pool: usize) {
    if !dispatch::is_running() {
        // The event loop has ended.
        return;
    }
    for id in worker.exchanges() {
        let Some(context) = worker.context(id) else { continue };
        // SAFETY: contexts in the table belong to live requests.
        unsafe {
            if (*context).pool() != Some(pool) || !(*context).exchange.withdraw() {
                continue;
            }
            Context::act(context, |context| {
                let r = (*context).request;
                log::write_request(r, Level::Error, format_args!("{NO_THREAD}"));
                response::finish(context, unavailable(r, 1));
            });
        }
    }
}

/// The timer of a context: it waited too long in the queue, or its application is silent.
unsafe extern "C" fn ngx_http_wsgi_timeout(ev: *mut ngx_event_t) {
    protect((), || {
        // SAFETY: the event is part of its context, whose request is live while the timer is set.
        unsafe {
            Context::act((*ev).data.cast(), |context| timed_out(context));
        }
    });
}

unsafe fn timed_out(context: *mut Context) {
    let now = Instant::now();
    // SAFETY: the context is not detached, its request is live.
    unsafe {
        let r = (*context).request;
        let progress = (*context).exchange.progress();
        let pipe = (*context).pipe.as_ref();
        let progress = pipe.map_or(progress, |pipe| pipe.progress(progress));
        let read_timeout = (*context).conf().read_timeout();
        if progress == Progress::Queued {
            let left = (*context).queue_deadline().saturating_duration_since(now);
            if !left.is_zero() {
                return (*context).arm(left.min(read_timeout));
            }
            // Who gets a 503 sends the request again: it must not have run.
            if !(*context).exchange.withdraw() {
                return (*context).arm(read_timeout);
            }
            let waited = (*context).conf().queue_timeout();
            let text = format_args!("request waited {waited:?} in the wsgi queue");
            log::write_request(r, Level::Error, text);
            let rc = unavailable(r, waited.as_secs().max(1));
            return response::finish(context, rc);
        }
        let request_left = (*context).request_time_left(progress, now);
        if request_left.is_some_and(|left| left.is_zero()) {
            let time = (*context).conf().request_timeout().unwrap_or_default();
            log::write_request(r, Level::Error, format_args!("request took longer than {time:?}"));
            return give_up(context);
        }
        match time_left(progress, read_timeout, now) {
            Some(left) if left.is_zero() => {
                let text = format_args!("application was silent for {read_timeout:?}");
                log::write_request(r, Level::Error, text);
                give_up(context);
            }
            left => {
                let left = left.unwrap_or(read_timeout);
                (*context).arm(request_left.map_or(left, |request| request.min(left)));
            }
        }
    }
}

/// The application has had its time: 504, or a response that is cut.
unsafe fn give_up(context: *mut Context) {
    // SAFETY: as `timed_out`.
    unsafe {
        match (*context).head_taken {
            false => response::finish(context, log::TIMED_OUT),
            true => response::abort(context),
        }
    }
}
