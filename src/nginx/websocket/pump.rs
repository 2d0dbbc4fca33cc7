//! Bytes between a client and an application: from the connection to the socket, and back.
//!
//! One buffer a direction, and none while nothing is on its way: as long as it is not empty nothing
//! more is received, so that a slow client holds its application back, and a slow application its
//! client. nginx's send_timeout counts for a client that takes nothing.
//! Runs on: event loop.

use std::time::Instant;

use ngx::ffi::{
    NGX_HTTP_LAST, ngx_connection_t, ngx_event_t, ngx_handle_read_event, ngx_handle_write_event,
    ngx_http_output_filter, ngx_http_request_t, ngx_http_send_special, ngx_msec_t,
    ngx_posted_next_events, ngx_uint_t,
};

use crate::nginx::config;
use crate::nginx::request::context::Context;
use crate::nginx::request::upgraded::{Upgraded, Way};
use crate::nginx::response::end::finish;
use crate::nginx::sys::connection::{receive, send};
use crate::nginx::sys::event::{add_timer, del_timer, post_event};
use crate::nginx::sys::pair::{Received, Sent};
use crate::nginx::sys::{bits, code, log};
use crate::nginx::worker::display;
use crate::wsgi::mailbox::Level;
use crate::wsgi::status::counters::Timeout;

/// How often a buffer is filled before other connections get their turn.
pub(super) const ROUNDS: usize = 16;

/// How far one direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// Until somebody has to be waited for.
    All,
    /// There is more to do, later.
    Part,
    /// The client has gone.
    Gone,
}

/// Passes on what there is, both ways. May end the request.
///
/// # Safety
///
/// The context is not detached, and its connection is the application's. It and its request may be
/// freed: afterwards only the connection may be looked at.
pub unsafe fn pump(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live until it is finished.
    unsafe {
        let c = (*(*context).request).connection;
        if bits::event::timedout((*c).write) {
            return give_up(context);
        }
        let down = to_client(context);
        let up = if down == Passed::Gone { down } else { to_app(context) };
        if up == Passed::Gone {
            return finish(context, code::ERROR);
        }
        let Some(upgraded) = (*context).upgraded.as_mut() else { return };
        let has_ended = upgraded.has_ended || (upgraded.has_returned && !upgraded.is_readable);
        if has_ended && upgraded.to_client.is_empty() {
            return end(context);
        }
        if [down, up].contains(&Passed::Part) {
            post_event((*c).write, &raw mut ngx_posted_next_events);
        }
        watch(context);
    }
}

/// The application has written its last, and the client has been sent all of it.
pub(super) unsafe fn end(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live until it is finished.
    unsafe {
        let is_switched = (*context).is_websocket();
        let rc = if is_switched {
            ngx_http_send_special((*context).request, NGX_HTTP_LAST as ngx_uint_t)
        } else {
            code::OK
        };
        finish(context, rc);
    }
}

/// The client has taken nothing for send_timeout.
pub(super) unsafe fn give_up(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live until it is finished.
    unsafe {
        let r = (*context).request;
        log::write_request(r, Level::Info, format_args!("client timed out"));
        bits::connection::set_timedout((*r).connection, true);
        if let Some(endpoint) = (*context).conf().endpoint {
            display::count(endpoint.series, |cells| cells.timeout(Timeout::Send));
        }
        finish(context, code::REQUEST_TIME_OUT);
    }
}

/// Whether the client can be sent something behind what nginx's filters still have.
pub(super) unsafe fn is_writable(r: *mut ngx_http_request_t) -> Option<bool> {
    // SAFETY: the request is live.
    unsafe {
        let c = (*r).connection;
        let holds = || bits::request::buffered(r) != 0 || bits::connection::buffered(c) != 0;
        if holds()
            && bits::event::ready((*c).write)
            && ngx_http_output_filter(r, std::ptr::null_mut()) == code::ERROR
        {
            return None;
        }
        Some(!holds() && bits::event::ready((*c).write))
    }
}

/// Sends what is in the buffer for the client, as far as that goes; then it is [`Passed::All`].
pub(super) unsafe fn flush(context: *mut Context) -> Passed {
    // SAFETY: the context is not detached, and its request is live; nothing here ends it.
    unsafe {
        let r = (*context).request;
        loop {
            let has = |upgraded: &Upgraded| !upgraded.to_client.is_empty();
            if !(*context).upgraded.as_ref().is_some_and(has) {
                return Passed::All;
            }
            // Filters may ask for variables, which look at the context: nothing of it is held.
            match is_writable(r) {
                None => return Passed::Gone,
                Some(false) => return Passed::All,
                Some(true) => (),
            }
            let Some(upgraded) = (*context).upgraded.as_mut() else { return Passed::Gone };
            match send((*r).connection, upgraded.to_client.bytes_mut()) {
                code::ERROR => return Passed::Gone,
                // With TLS it may be for something to be read.
                code::AGAIN => return Passed::All,
                len => {
                    let len = usize::try_from(len).unwrap_or(0);
                    upgraded.to_client.passed(len);
                    if upgraded.way == Way::Frames {
                        upgraded.upgrade.frames.sent(len, Instant::now());
                    }
                    (*context).timings.received(len as u64);
                }
            }
        }
    }
}

unsafe fn to_client(context: *mut Context) -> Passed {
    // SAFETY: the context is not detached, and its request is live; nothing here ends it.
    unsafe {
        // The head may be held back, and nothing else may be there.
        if is_writable((*context).request).is_none() {
            return Passed::Gone;
        }
        for _ in 0..ROUNDS {
            if flush(context) == Passed::Gone {
                return Passed::Gone;
            }
            let Some(upgraded) = (*context).upgraded.as_mut() else { return Passed::All };
            if !upgraded.to_client.is_empty()
                || !upgraded.is_readable
                || !matches!(upgraded.receive(), Received::Bytes(_))
            {
                return Passed::All;
            }
        }
        Passed::Part
    }
}

unsafe fn to_app(context: *mut Context) -> Passed {
    // SAFETY: the context is not detached, and its request is live; nothing here ends it.
    unsafe {
        let c = (*(*context).request).connection;
        let Some(upgraded) = (*context).upgraded.as_mut() else { return Passed::All };
        for _ in 0..ROUNDS {
            while !upgraded.to_app.is_empty() {
                if upgraded.send() == Sent::Full {
                    let is_gone = !upgraded.watch_room() || has_failed(c);
                    return if is_gone { Passed::Gone } else { Passed::All };
                }
            }
            if upgraded.client_ended || upgraded.way != Way::Switched {
                return Passed::All;
            }
            if !bits::event::ready((*c).read) {
                return Passed::All;
            }
            match receive(c, upgraded.to_app.room()) {
                code::AGAIN => return Passed::All,
                code::ERROR => return Passed::Gone,
                0 => {
                    upgraded.client_ended = true;
                    upgraded.end();
                    let time = config::core_of_request((*context).request).send_timeout;
                    (*context).arm_for(time);
                    return Passed::All;
                }
                len => upgraded.to_app.filled(usize::try_from(len).unwrap_or(0)),
            }
        }
        Passed::Part
    }
}

/// Whether the client has reset the connection, while what it had sent before waits for the
/// application.
pub(super) unsafe fn has_failed(c: *mut ngx_connection_t) -> bool {
    let mut err: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the connection is open; the option is an int, whose address and size are given.
    unsafe {
        bits::event::pending_eof((*c).read)
            && libc::getsockopt(
                (*c).fd,
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut err).cast(),
                &raw mut len,
            ) == 0
            && err != 0
    }
}

/// Be called when more can be done, and time a client that takes nothing.
pub(super) unsafe fn watch(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live until it is finished.
    unsafe {
        let r = (*context).request;
        let (rev, wev) = ((*(*r).connection).read, (*(*r).connection).write);
        let clcf = config::core_of_request(r);
        if ngx_handle_write_event(wev, clcf.send_lowat) != code::OK
            || ngx_handle_read_event(rev, 0) != code::OK
        {
            return finish(context, code::ERROR);
        }
        let Some(upgraded) = (*context).upgraded.as_mut() else { return };
        let waits = !upgraded.to_client.is_empty() && !bits::event::ready(wev);
        // limit_rate has a timer of its own for the head.
        if !bits::event::delayed(wev) {
            time(wev, waits.then_some(clcf.send_timeout));
        }
        upgraded.to_client.rest();
        upgraded.to_app.rest();
    }
}

/// Sets the timer of an event, or takes it back.
unsafe fn time(event: *mut ngx_event_t, time: Option<ngx_msec_t>) {
    // SAFETY: the event of an open connection.
    unsafe {
        match time {
            Some(time) => add_timer(event, time),
            None if bits::event::timer_set(event) => del_timer(event),
            None => (),
        }
    }
}
