//! WebSockets: an application that takes the connection of its client over.
//!
//! A request that asks for one has a thread of its own and one end of a pair of sockets. What the
//! application does first decides: if it writes a 101 there, the event loop sends that through
//! nginx's filters and from then on passes bytes both ways (`pump.rs`), whatever they mean; TLS is
//! nginx's. If it writes another response, that goes to the client as it is, and the connection is
//! closed. If it does the handshake of `wsgi.websocket` or `uwsgi`, messages go back and forth
//! (`frames.rs`). If it calls start_response, it is answered as any other request is.
//! Runs on: event loop. RFC 6455 section 4.2.

mod frames;
mod pump;

pub mod asked;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ngx::ffi::{
    NGX_HTTP_FLUSH, ngx_http_request_t, ngx_http_send_special, ngx_log_t, ngx_tcp_nodelay,
    ngx_uint_t,
};

use self::pump::pump;
use super::config::{self, LocConf};
use super::request::context::{self, Context};
use super::request::upgraded::{Upgraded, Way};
use super::response;
use super::response::end::finish;
use super::response::headers::send_head;
use super::sys::pair::{self, Received};
use super::sys::panic::protect;
use super::sys::socket::{Ready, Socket};
use super::sys::{bits, code, log};
use super::worker::display::display;
use super::worker::retire;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::{ExchangeId, Level, Mail, Mailbox};
use crate::wsgi::upgrade::Upgrade;
use crate::wsgi::upgrade::buffer::SIZE;
use crate::wsgi::upgrade::head::{self, Written};
use crate::wsgi::upgrade::raw::Raw;
use crate::wsgi::websocket::Conversation;

/// The pair of sockets for the request with this number; `None` if there is none to be had, which
/// has been logged.
///
/// # Safety
///
/// On the event loop of a worker; `log` lives as long as the process.
pub unsafe fn open(
    id: ExchangeId,
    conf: &LocConf,
    mailbox: &Arc<Mailbox>,
    log: *mut ngx_log_t,
) -> Option<Upgraded> {
    let ends = pair::pair().inspect_err(|err| {
        log::write_here(Level::Alert, format_args!("socketpair() failed: {err}"));
    });
    let (ours, theirs) = ends.ok()?;
    let act = Rc::new(move |ready| {
        if let Some(context) = context::table().find(id) {
            // SAFETY: contexts in the table belong to live requests.
            unsafe { Context::act(context, |context| happened(context, ready)) };
        }
    });
    let fd = std::os::fd::AsRawFd::as_raw_fd(&ours);
    // SAFETY: the event loop, and a log that lives as long, as the caller says.
    let socket = unsafe { Socket::open(ours, log, act) }?;
    let mailbox = Arc::clone(mailbox);
    let wake = move || mailbox.post(Mail::Response(id));
    let frames = Conversation::new(conf.websocket.limits(), Instant::now(), wake);
    let raw = Raw::new(theirs, fd, pair::has_bytes);
    let upgrade = Upgrade { raw, frames: Arc::new(frames) };
    Some(Upgraded::new(Arc::new(upgrade), socket))
}

/// Something has happened to the socket of a request.
unsafe fn happened(context: *mut Context, ready: Ready) {
    // SAFETY: the context is not detached, and its request is live. What may free them comes last.
    unsafe {
        let Some(upgraded) = (*context).upgraded.as_mut() else { return };
        upgraded.is_readable |= ready == Ready::Reading;
        match (ready, upgraded.way) {
            (Ready::Closing, _) => finish(context, code::ERROR),
            (_, Way::Undecided) => {
                listen(context);
            }
            (_, Way::Switched | Way::Verbatim) => pump(context),
            (_, Way::Wsgi | Way::Frames) => (),
        }
    }
}

/// The application has answered as WSGI has it, or has returned. May end the request.
///
/// # Safety
///
/// The context is not detached. It and its request may be freed: afterwards only the connection
/// may be looked at.
pub unsafe fn advance(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live. What may free them comes last.
    unsafe {
        match (*context).upgraded.as_ref().map(|upgraded| upgraded.way) {
            None | Some(Way::Wsgi) => response::advance(context),
            Some(Way::Undecided) if converses(context) => (),
            Some(Way::Undecided) => decide(context),
            Some(Way::Frames) => {
                take_end(context);
                frames::pump(context);
            }
            Some(Way::Switched | Way::Verbatim) => {
                take_end(context);
                pump(context);
            }
        }
    }
}

/// Whether the application has done the handshake of a WebSocket. Then that is answered, and
/// `context` may be gone.
unsafe fn converses(context: *mut Context) -> bool {
    // SAFETY: the context is not detached, and its request is live. What may free them comes last.
    unsafe {
        match (*context).upgraded.as_mut().and_then(frames::head) {
            Some(Ok(head)) => switch(context, head, Way::Frames),
            // Only checked values are in it.
            Some(Err(_)) => finish(context, code::INTERNAL_SERVER_ERROR),
            None => return false,
        }
        true
    }
}

/// It has not written to its socket, as far as is known.
unsafe fn decide(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live. What may free them comes last.
    unsafe {
        if !listen(context) || converses(context) {
            // What has been decided has been done, but for the end of the application.
            return;
        }
        let Some(upgraded) = (*context).upgraded.as_mut() else { return };
        if upgraded.to_client.is_empty() {
            if !upgraded.upgrade.frames.withdraw() {
                // The handshake has been done just now, and mail tells of it.
                return;
            }
            upgraded.way = Way::Wsgi;
            upgraded.close();
            return response::advance(context);
        }
        if take_end(context) {
            refuse(context, format_args!("its head is not complete"));
        }
    }
}

/// Takes from the exchange what nobody is to get; whether the application has returned.
unsafe fn take_end(context: *mut Context) -> bool {
    // SAFETY: the context is not detached, and nothing here ends its request.
    unsafe {
        let Some(end) = (*context).exchange.take().end else { return false };
        (*context).end = Some(end);
        (*context).timings.close();
        if let Some(upgraded) = (*context).upgraded.as_mut() {
            upgraded.has_returned = true;
            // All that it has written is there now.
            upgraded.is_readable = true;
        }
        true
    }
}

/// Reads the head of the application's own response, as far as it has come. False if that has
/// decided how the request goes on; then `context` may be gone.
unsafe fn listen(context: *mut Context) -> bool {
    // SAFETY: the context is not detached, and its request is live. What may free them comes last.
    unsafe {
        loop {
            let Some(upgraded) = (*context).upgraded.as_mut() else { return false };
            if upgraded.to_client.room().is_empty() {
                refuse(context, format_args!("its head is longer than {SIZE} bytes"));
                return false;
            }
            match upgraded.receive() {
                Received::Bytes(_) if !upgraded.upgrade.frames.withdraw() => {
                    // The handshake has been done just now.
                    upgraded.to_client.clear();
                    return true;
                }
                Received::Bytes(_) => (),
                Received::End if !upgraded.to_client.is_empty() => {
                    refuse(context, format_args!("its head is not complete"));
                    return false;
                }
                Received::Nothing | Received::End => {
                    upgraded.to_client.rest();
                    return true;
                }
            }
            match head::read(upgraded.to_client.bytes()) {
                Ok(Written::Part) => continue,
                Ok(Written::Switch(head, len)) => {
                    upgraded.to_client.passed(len);
                    switch(context, head, Way::Switched);
                }
                Ok(Written::Response(status)) => verbatim(context, status),
                Err(why) => refuse(context, format_args!("{why}")),
            }
            return false;
        }
    }
}

/// What the application has written is no response: the client gets one of nginx's.
unsafe fn refuse(context: *mut Context, why: std::fmt::Arguments<'_>) {
    // SAFETY: the context is not detached, and its request is live until `finish`.
    unsafe {
        let text = format_args!("application wrote no HTTP response to its socket: {why}");
        log::write_request((*context).request, Level::Error, text);
        finish(context, code::BAD_GATEWAY);
    }
}

/// From now on the connection is the application's, whose response has begun with this status.
unsafe fn begin(context: *mut Context, way: Way, status: u16) {
    // SAFETY: the context is not detached, and its request is live.
    unsafe {
        let r = (*context).request;
        // What else it answers is nobody's.
        (*context).exchange.discard();
        take_end(context);
        (*context).timings.head(status);
        (*context).head_taken = true;
        if let Some(upgraded) = (*context).upgraded.as_mut() {
            upgraded.way = way;
        }
        if let Some(display) = display()
            && let Some(endpoint) = (*context).conf().endpoint.filter(|_| way != Way::Verbatim)
        {
            display.websocket(endpoint.app, true);
        }
        bits::request::set_keepalive(r, false);
        (*r).read_event_handler = Some(ngx_http_wsgi_socket_read);
        (*r).write_event_handler = Some(ngx_http_wsgi_socket_write);
    }
}

/// The application has taken the connection over: sends the 101, and passes on what follows.
unsafe fn switch(context: *mut Context, head: ResponseHead, way: Way) {
    // SAFETY: the context is not detached, and its request is live. `finish` and `pump`, which may
    // free them, come last.
    unsafe {
        let r = (*context).request;
        let c = (*r).connection;
        begin(context, way, head.code());
        (*context).head = Some(head);
        let rc = (*context).head.as_ref().map_or(code::ERROR, |head| send_head(r, head));
        if rc == code::ERROR || rc > code::OK {
            return finish(context, rc);
        }
        let is_delayed =
            config::core_of_request(r).tcp_nodelay != 0 && ngx_tcp_nodelay(c) != code::OK;
        if is_delayed || ngx_http_send_special(r, NGX_HTTP_FLUSH as ngx_uint_t) == code::ERROR {
            return finish(context, code::ERROR);
        }
        (*(*c).log).action = c"serving a websocket".as_ptr().cast_mut();
        (*context).disarm();
        if let Some(upgraded) = (*context).upgraded.as_mut() {
            // What the client has sent behind its head.
            let ahead = (*r).header_in;
            let len = (*ahead).last.offset_from((*ahead).pos) as usize;
            upgraded.to_app.append(std::slice::from_raw_parts((*ahead).pos, len));
            (*ahead).pos = (*ahead).last;
        }
        match way {
            // Nobody serves until this worker goes; the others have been cut, see `cut_all`.
            _ if retire::is_gone() => finish(context, code::OK),
            Way::Frames => frames::pump(context),
            _ => pump(context),
        }
    }
}

/// The application answers with a response of its own that is no 101. Its time goes on to count.
unsafe fn verbatim(context: *mut Context, status: u16) {
    // SAFETY: the context is not detached, and its request is live. `pump` may free them.
    unsafe {
        (*(*context).request).headers_out.status = ngx_uint_t::from(status);
        begin(context, Way::Verbatim, status);
        pump(context);
    }
}

/// Ends all connections that are an application's: nothing else would end them before long.
pub fn cut_all() {
    let table = context::table();
    for context in table.ids().into_iter().filter_map(|id| table.find(id)) {
        // SAFETY: contexts in the table belong to live requests, and each is ended by itself.
        unsafe {
            if (*context).is_websocket() {
                Context::act(context, |context| finish(context, code::OK));
            }
        }
    }
}

/// The timer of a request whose connection is the application's. False if it is not, or its time
/// counts as that of other requests.
///
/// # Safety
///
/// As of [`advance`].
pub unsafe fn timed_out(context: *mut Context) -> bool {
    // SAFETY: the context is not detached, and its request is live until `finish`.
    unsafe {
        let Some(upgraded) = (*context).upgraded.as_ref() else { return false };
        match upgraded.way {
            Way::Switched => (),
            Way::Frames => {
                frames::tick(context);
                return true;
            }
            _ => return false,
        }
        if upgraded.client_ended {
            let text = "application goes on after the end of its websocket's client";
            log::write_request((*context).request, Level::Info, format_args!("{text}"));
            finish(context, code::OK);
        } else {
            (*context).disarm();
        }
        true
    }
}

/// The client has sent something, or has gone.
unsafe extern "C" fn ngx_http_wsgi_socket_read(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls this for a live request.
    protect((), || unsafe { moves(r) });
}

/// The client can take more, or has not for send_timeout.
unsafe extern "C" fn ngx_http_wsgi_socket_write(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls this for a live request.
    protect((), || unsafe { moves(r) });
}

unsafe fn moves(r: *mut ngx_http_request_t) {
    // SAFETY: the request is live, as the caller says.
    unsafe {
        let context = Context::of(r);
        if context.is_null() || (*context).is_detached() {
            return;
        }
        match (*context).upgraded.as_ref().map(|upgraded| upgraded.way) {
            Some(Way::Switched | Way::Verbatim) => pump(context),
            Some(Way::Frames) => frames::pump(context),
            Some(Way::Undecided | Way::Wsgi) | None => (),
        }
    }
}
