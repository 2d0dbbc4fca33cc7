//! The other way of a WebSocket: the application has messages, the client frames.
//!
//! `wsgi/websocket` makes the ones of the others, and says what is to be sent, whether the client
//! may be read from, and when it is to be asked whether it is there.
//! Runs on: event loop. RFC 6455 section 5.

use std::time::Instant;

use ngx::ffi::ngx_posted_next_events;

use super::pump::{Passed, ROUNDS, end, flush, give_up, has_failed, watch};
use crate::nginx::request::context::Context;
use crate::nginx::request::upgraded::Upgraded;
use crate::nginx::response::end::finish;
use crate::nginx::sys::connection::receive;
use crate::nginx::sys::event::post_event;
use crate::nginx::sys::{bits, code, log};
use crate::wsgi::error::HeadError;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::Level;
use crate::wsgi::websocket::End;

/// The head of the 101, if the application has done the handshake.
pub fn head(upgraded: &mut Upgraded) -> Option<Result<ResponseHead, HeadError>> {
    let look = upgraded.upgrade.frames.look(Vec::new(), Instant::now());
    let accepted = look.accepted?;
    // Whatever has been written to the socket, nobody has seen it.
    upgraded.close();
    upgraded.to_client.clear();
    upgraded.to_client.exchange(|_| look.output);
    let upgrade = (&b"Upgrade"[..], &b"websocket"[..]);
    let others = accepted.fields().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    Some(ResponseHead::switching([upgrade].into_iter().chain(others)))
}

/// Passes on what there is, both ways. May end the request.
///
/// # Safety
///
/// The context is not detached, and its connection is a WebSocket of messages. It and its request
/// may be freed: afterwards only the connection may be looked at.
pub unsafe fn pump(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live until it is finished.
    unsafe {
        let c = (*(*context).request).connection;
        if bits::event::timedout((*c).write) {
            return give_up(context);
        }
        let mut left = ROUNDS;
        let passed = loop {
            match round(context) {
                Round::More if left > 0 => left -= 1,
                Round::More => break Passed::Part,
                Round::Waits => break Passed::All,
                Round::Done => return over(context),
                Round::Gone => return finish(context, code::ERROR),
            }
        };
        if passed == Passed::Part {
            post_event((*c).write, &raw mut ngx_posted_next_events);
        }
        wait(context);
        watch(context);
    }
}

/// What a step has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There may be more.
    More,
    /// Until the client or the application has done something.
    Waits,
    /// The conversation is over, and all of it has been sent.
    Done,
    Gone,
}

/// Sends what there is, then reads once.
unsafe fn round(context: *mut Context) -> Round {
    // SAFETY: the context is not detached, and its request is live; nothing here ends it.
    unsafe {
        let c = (*(*context).request).connection;
        if flush(context) == Passed::Gone {
            return Round::Gone;
        }
        let Some(upgraded) = (*context).upgraded.as_mut() else { return Round::Gone };
        let now = Instant::now();
        let frames = &upgraded.upgrade.frames;
        if upgraded.to_client.is_empty() {
            let look = &mut upgraded.look;
            upgraded.to_client.exchange(|spare| {
                *look = frames.look(spare, now);
                std::mem::take(&mut look.output)
            });
            if !upgraded.to_client.is_empty() {
                return Round::More;
            }
            if upgraded.look.done {
                return Round::Done;
            }
        } else {
            // A client that takes nothing for now may still say something.
            upgraded.look.reads = frames.reads(now);
        }
        if !upgraded.look.reads {
            return if has_failed(c) { Round::Gone } else { Round::Waits };
        }
        if !upgraded.to_app.is_empty() {
            let used = frames.feed(upgraded.to_app.bytes(), now);
            upgraded.to_app.passed(used);
            return Round::More;
        }
        if !bits::event::ready((*c).read) {
            return Round::Waits;
        }
        match receive(c, upgraded.to_app.room()) {
            code::AGAIN => Round::Waits,
            code::ERROR | 0 => Round::Gone,
            len => {
                upgraded.to_app.filled(usize::try_from(len).unwrap_or(0));
                Round::More
            }
        }
    }
}

/// The last has been sent.
unsafe fn over(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live until it is finished.
    unsafe {
        let r = (*context).request;
        let end_of =
            (*context).upgraded.as_ref().and_then(|upgraded| upgraded.upgrade.frames.end());
        if let Some(why @ (End::Broken(_) | End::Silent)) = end_of {
            log::write_request(r, Level::Info, format_args!("websocket is closed: {why}"));
        }
        // The client may be about to say more: a reset would take the close frame away from it.
        bits::request::set_lingering_close(r, true);
        end(context);
    }
}

/// Arms the timer for what the conversation has to do next, if it is not armed for earlier.
unsafe fn wait(context: *mut Context) {
    // SAFETY: the context is not detached, and nothing here ends its request.
    unsafe {
        let Some(upgraded) = (*context).upgraded.as_mut() else { return };
        let Some(due) = upgraded.upgrade.frames.deadline() else { return };
        if upgraded.due.is_none_or(|before| due < before) {
            upgraded.due = Some(due);
            let left = due.saturating_duration_since(Instant::now());
            // Not before: the next look would come too early once more.
            let msec = left.as_millis() + 1;
            (*context).arm_for(msec.try_into().unwrap_or(1));
        }
    }
}

/// The timer has come.
///
/// # Safety
///
/// As of [`pump`].
pub unsafe fn tick(context: *mut Context) {
    // SAFETY: the context is not detached, and its request is live. What may free them comes last.
    unsafe {
        (*context).disarm();
        if let Some(upgraded) = (*context).upgraded.as_mut() {
            upgraded.due = None;
            upgraded.upgrade.frames.tick(Instant::now());
        }
        pump(context);
    }
}
