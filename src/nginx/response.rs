//! From the exchange to the client: nginx's chains, flow control and the end.
//!
//! Called when a pool thread has sent something, and when the client can take more. nginx does not
//! protect the framing of a content handler, so an exchange that failed after its head never ends
//! cleanly here: the connection (HTTP/1) or stream (HTTP/2) is aborted.
//! Runs on: event loop.

use std::fs::File;
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;

use libc::off_t;
use ngx::core::Status;
use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_REQUEST_TIME_OUT,
    NGX_HTTP_SPECIAL_RESPONSE, NGX_HTTP_VERSION_20, NGX_HTTP_WRITE_BUFFERED, NGX_OK, ngx_buf_t,
    ngx_chain_get_free_buf, ngx_chain_t, ngx_chain_update_chains, ngx_connection_t, ngx_file_t,
    ngx_handle_write_event, ngx_http_finalize_request, ngx_http_output_filter, ngx_http_request_t,
    ngx_int_t, ngx_pcalloc, ngx_str_t, ngx_uint_t,
};
use ngx::ngx_string;

use super::context::Context;
use super::guard::protect;
use super::headers::send_head;
use super::intercept::intercept;
use super::sys::bits;
use super::sys::event::{add_timer, del_timer};
use super::{accel, conf};
use super::{log, retire, unbuffered};
use crate::wsgi::exchange::{Batch, Passed, Progress};
use crate::wsgi::mailbox::Level;
use crate::wsgi::segment::{Segment, Segments};

/// Takes what the application has sent and passes it on. May end the request.
///
/// # Safety
///
/// The context is not detached. It and its request may be freed: afterwards only the connection
/// may be looked at.
pub unsafe fn advance(context: *mut Context) {
    // SAFETY: a context that is not detached and its request are live. `finish` is the last use.
    unsafe {
        // HTTP/2 empties buffers before it calls the write handler, which would find nothing new.
        let mut busy = (*context).is_spooled();
        if busy {
            release(context, ptr::null_mut());
            busy = (*context).is_spooled();
        }
        let Batch { head, chunks, end } = (*context).exchange.take_unless(busy);
        let r = (*context).request;
        if let Some(end) = end {
            (*context).end = Some(end);
            (*context).account.close();
        }
        if let Some(rc) = (*context).client_lost {
            if (*context).end.is_some() {
                finish(context, rc);
            }
            return;
        }
        if let Some(head) = head {
            (*context).head_taken = true;
            (*context).account.head(head.code());
            if intercept(context, &head) || accel::redirect(context, &head) {
                return;
            }
            if retire::is_draining() {
                bits::request::set_keepalive(r, false);
            }
            let rc = send_head(r, &head);
            (*context).blocks.head = head.into_block();
            if rc == NGX_ERROR as ngx_int_t && outlives_client(context, rc) {
                return;
            }
            if rc == NGX_ERROR as ngx_int_t
                || rc > NGX_OK as ngx_int_t
                || bits::request::header_only(r)
            {
                return finish(context, rc);
            }
            (*r).write_event_handler = Some(ngx_http_wsgi_write);
        } else if let (false, Some(end)) = ((*context).head_taken, (*context).end) {
            let rc = match end {
                Ok(()) => NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
                Err(failure) => {
                    let (rc, level) = log::failure(failure);
                    log::write_request(r, level, format_args!("{failure}"));
                    rc
                }
            };
            return finish(context, rc);
        }
        (*context).account.received(chunks.iter().map(Segment::len).sum());
        let last = (*context).end == Some(Ok(()));
        let rc = match chunks.is_empty() && !last {
            // An abort; or the application is blocked, or nginx still busy with what it has.
            true => {
                release(context, ptr::null_mut());
                NGX_OK as ngx_int_t
            }
            false => send_chunks(context, chunks, last),
        };
        settle(context, rc);
    }
}

/// After output: ends the request, or waits for the client or the application.
unsafe fn settle(context: *mut Context, rc: ngx_int_t) {
    // SAFETY: as `advance`.
    unsafe {
        if rc == NGX_ERROR as ngx_int_t {
            return match outlives_client(context, rc) {
                true => (),
                false => finish(context, rc),
            };
        }
        let r = (*context).request;
        let c = (*r).connection;
        let buffered = bits::request::buffered(r) != 0
            || !(*r).postponed.is_null()
            || (is_active(r) && bits::connection::buffered(c) != 0);
        match (*context).end {
            // nginx sends the rest by itself.
            Some(Ok(())) => finish(context, rc),
            Some(Err(_)) if !buffered => abort(context),
            _ => watch_output(context),
        }
    }
}

/// The client has gone, which `wsgi_ignore_client_abort` keeps from the application: what it sends
/// is dropped from now on, and the request ends with `rc` when the application does. False if
/// there is no reason to wait for that.
unsafe fn outlives_client(context: *mut Context, rc: ngx_int_t) -> bool {
    // SAFETY: as `advance`.
    unsafe {
        let c = (*(*context).request).connection;
        let gone = bits::connection::error(c) || bits::connection::timedout(c);
        if !((*context).conf().ignores_client_abort() && gone && (*context).end.is_none()) {
            return false;
        }
        (*context).client_lost = Some(rc);
        (*context).exchange.discard();
        let wev = (*c).write;
        if bits::event::timer_set(wev) {
            del_timer(wev);
        }
        true
    }
}

/// The request whose output goes to the connection now: a main request waits for its subrequests,
/// and a subrequest for those before it.
unsafe fn is_active(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the data of a connection with a request is its active request.
    unsafe { (*(*r).connection).data == r.cast() }
}

/// Cuts a response whose head has been sent: the application failed, or was silent too long.
///
/// # Safety
///
/// As [`advance`].
pub unsafe fn abort(context: *mut Context) {
    // SAFETY: as `advance`.
    unsafe {
        let r = (*context).request;
        if let Some(Err(failure)) = (*context).end {
            let (_, level) = log::failure(failure);
            log::write_request(r, level, format_args!("{failure}, response is cut"));
        }
        let main = (*r).main;
        // A post_action would end it well, with a connection that goes on.
        bits::request::set_keepalive(main, false);
        let until_close = (*main).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t
            && !bits::request::chunked(main)
            && (*main).headers_out.content_length_n == -1;
        if until_close {
            reset_at_close((*r).connection);
        }
        finish(context, Status::NGX_ERROR.into());
    }
}

/// The body ends with the connection: only a reset tells the client that it is cut, and with TLS
/// only the missing close_notify.
unsafe fn reset_at_close(c: *mut ngx_connection_t) {
    // SAFETY: a live connection.
    unsafe {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        libc::setsockopt(
            (*c).fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            mem::size_of::<libc::linger>() as libc::socklen_t,
        );
        #[cfg(ngx_feature = "ssl")]
        if !(*c).ssl.is_null() {
            bits::tls::set_no_send_shutdown((*c).ssl, true);
            bits::tls::set_no_wait_shutdown((*c).ssl, true);
        }
    }
}

/// Gives the request back to nginx with `rc`. The application is told if it still runs.
///
/// # Safety
///
/// As [`advance`].
pub unsafe fn finish(context: *mut Context, rc: ngx_int_t) {
    // SAFETY: the request is live; its body reader's reference is ours and given back here, once.
    unsafe {
        let r = (*context).request;
        (*context).detach();
        (*context).account.refused(rc);
        // A post_action has no response of its own, and the client's must not suffer.
        let failed = rc >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t;
        let rc = if failed && bits::request::post_action(r) { NGX_OK as ngx_int_t } else { rc };
        ngx_http_finalize_request(r, rc);
    }
}

/// The client can take more, or has not for send_timeout.
unsafe extern "C" fn ngx_http_wsgi_write(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: nginx calls this for a live request.
        unsafe {
            let context = Context::of(r);
            if context.is_null() || (*context).is_detached() || (*context).client_lost.is_some() {
                return;
            }
            if mem::take(&mut (*context).is_passive) {
                unbuffered::look_again(r);
            }
            let wev = (*(*r).connection).write;
            if bits::event::timedout(wev) {
                log::write_request(r, Level::Info, format_args!("client timed out"));
                bits::connection::set_timedout((*r).connection, true);
                let rc = NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t;
                if !outlives_client(context, rc) {
                    finish(context, rc);
                }
                return;
            }
            if bits::event::delayed(wev) || bits::request::aio(r) {
                return watch_output(context);
            }
            let rc = ngx_http_output_filter(r, ptr::null_mut());
            let busy = (*context).is_spooled();
            release(context, ptr::null_mut());
            if busy && !(*context).is_spooled() && rc != NGX_ERROR as ngx_int_t {
                // More may have been written to the file meanwhile.
                return advance(context);
            }
            settle(context, rc);
        }
    });
}

/// The response goes on: be called when the client can take more, and time it if it cannot.
unsafe fn watch_output(context: *mut Context) {
    // SAFETY: as `advance`; the core module's configuration of the main request decides, as in
    // nginx's own writer.
    unsafe {
        let r = (*context).request;
        if !is_active(r) {
            // nginx calls the write handler when it becomes active.
            (*context).is_passive = true;
            return;
        }
        let wev = (*(*r).connection).write;
        let clcf = conf::core_of_request((*r).main);
        if ngx_handle_write_event(wev, clcf.send_lowat) != NGX_OK as ngx_int_t {
            return finish(context, Status::NGX_ERROR.into());
        }
        if bits::event::delayed(wev) {
            // limit_rate has a timer of its own.
        } else if bits::event::active(wev) && !bits::event::ready(wev) {
            add_timer(wev, clcf.send_timeout);
        } else {
            if bits::event::timer_set(wev) {
                del_timer(wev);
            }
            // Nothing is left to write, so a filter holds it back for an end that does not come.
            let written =
                bits::connection::buffered((*r).connection) & NGX_HTTP_WRITE_BUFFERED == 0;
            if written && matches!((*context).end, Some(Err(_))) {
                abort(context);
            }
        }
    }
}

/// Passes chunks to nginx's filters; they are flushed, since nothing may hold them back
/// (PEP 3333, "Buffering and Streaming").
unsafe fn send_chunks(context: *mut Context, chunks: Segments, last: bool) -> ngx_int_t {
    // SAFETY: as `advance`. The bytes behind the buffers are in `chunks` of the context until nginx
    // has emptied the buffer, or the request's pool is destroyed.
    unsafe {
        let r = (*context).request;
        let mut out: *mut ngx_chain_t = ptr::null_mut();
        let mut tail: *mut *mut ngx_chain_t = &mut out;
        let mut b: *mut ngx_buf_t = ptr::null_mut();
        for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
            b = next_buf(context, &mut tail);
            if b.is_null() || !fill(context, b, &chunk) {
                return NGX_ERROR as ngx_int_t;
            }
            (*context).chunks.push(chunk);
        }
        if last {
            if b.is_null() {
                b = next_buf(context, &mut tail);
                if b.is_null() {
                    return NGX_ERROR as ngx_int_t;
                }
                (*context).chunks.push(Segment::default());
                // Only the end of a main request may be empty and nothing else.
                bits::buffer::set_sync(b, !ends_response(r));
            }
            bits::buffer::set_last_buf(b, ends_response(r));
            bits::buffer::set_last_in_chain(b, true);
        } else if !b.is_null() {
            bits::buffer::set_flush(b, true);
        }
        let rc = ngx_http_output_filter(r, out);
        release(context, out);
        rc
    }
}

/// Makes `b` refer to `chunk`, which outlives it; false without memory.
unsafe fn fill(context: *mut Context, b: *mut ngx_buf_t, chunk: &Segment) -> bool {
    // SAFETY: as `advance`; `b` is empty and zeroed.
    unsafe {
        let r = (*context).request;
        let (file, offset, len) = match chunk {
            Segment::Memory(bytes) => return fill_memory(b, bytes),
            Segment::Copied(bytes) => return fill_memory(b, bytes),
            Segment::File { file, offset, len } => (open_file(r, file, FILE_NAME), offset, len),
            Segment::Spooled { file, offset, len } => {
                // One for all pieces, of which there may be many.
                if (*context).spool.is_null() {
                    (*context).spool = open_file(r, file, SPOOL_NAME);
                    (*context).spool_file = Some(Arc::clone(file));
                }
                ((*context).spool, offset, len)
            }
        };
        (*b).file = file;
        (*b).file_pos = *offset as off_t;
        (*b).file_last = (*offset + *len) as off_t;
        bits::buffer::set_in_file(b, true);
        !file.is_null()
    }
}

/// Makes `b` refer to bytes that outlive it; true.
unsafe fn fill_memory(b: *mut ngx_buf_t, bytes: &[u8]) -> bool {
    // SAFETY: `b` is empty and zeroed.
    unsafe {
        (*b).pos = bytes.as_ptr().cast_mut();
        (*b).last = (*b).pos.add(bytes.len());
        (*b).start = (*b).pos;
        (*b).end = (*b).last;
        bits::buffer::set_memory(b, true);
    }
    true
}

/// nginx's view of a file; null without memory. A name must be there: nginx logs it.
unsafe fn open_file(r: *mut ngx_http_request_t, file: &File, name: ngx_str_t) -> *mut ngx_file_t {
    // SAFETY: as `advance`.
    unsafe {
        let opened: *mut ngx_file_t = ngx_pcalloc((*r).pool, mem::size_of::<ngx_file_t>()).cast();
        if !opened.is_null() {
            (*opened).fd = file.as_raw_fd();
            (*opened).log = (*(*r).connection).log;
            (*opened).name = name;
        }
        opened
    }
}

/// What nginx's messages call a file of the application.
const FILE_NAME: ngx_str_t = ngx_string!("wsgi.file_wrapper");
/// And the temporary file, which has no name.
const SPOOL_NAME: ngx_str_t = ngx_string!("wsgi_temp_path");

/// The last buffer of this request is that of the response: not so in a subrequest.
unsafe fn ends_response(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as `advance`.
    unsafe { r == (*r).main && !bits::request::post_action(r) }
}

/// Appends an empty buffer to the chain at `tail`; null without memory.
unsafe fn next_buf(context: *mut Context, tail: &mut *mut *mut ngx_chain_t) -> *mut ngx_buf_t {
    // SAFETY: buffers come from the request's pool and are used again when they are empty.
    unsafe {
        let pool = (*(*context).request).pool;
        let link = ngx_chain_get_free_buf(pool, &raw mut (*context).free);
        if link.is_null() {
            return ptr::null_mut();
        }
        (*link).next = ptr::null_mut();
        let b = (*link).buf;
        ptr::write_bytes(b, 0, 1);
        (*b).tag = conf::tag();
        **tail = link;
        *tail = &raw mut (*link).next;
        b
    }
}

/// Whether filters have parts of a file read into memory. What they pass on says that it is in the
/// file as well, and is sent from there, when the buffer that named the file has long been empty.
unsafe fn is_read_ahead(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: a live request has a main request.
    unsafe {
        [r, (*r).main].into_iter().any(|r| {
            bits::request::main_filter_need_in_memory(r)
                || bits::request::filter_need_in_memory(r)
                || bits::request::filter_need_temporary(r)
        })
    }
}

/// Drops the chunks whose buffers nginx has emptied and makes room for the application.
unsafe fn release(context: *mut Context, mut out: *mut ngx_chain_t) {
    // SAFETY: `busy` and `out` are chains of buffers made by `next_buf`, in the order of `chunks`.
    // Nothing here calls back, so the reference is the only one.
    unsafe {
        let context = &mut *context;
        ngx_chain_update_chains(
            (*context.request).pool,
            &mut context.free,
            &mut context.busy,
            &mut out,
            conf::tag(),
        );
        let mut busy = 0;
        let mut link = context.busy;
        while !link.is_null() {
            busy += 1;
            link = (*link).next;
        }
        let mut passed = Passed::default();
        for chunk in context.chunks.drain(..context.chunks.len().saturating_sub(busy)) {
            passed = passed.plus(Passed::of(&chunk));
            if let Segment::Copied(block) = chunk {
                context.blocks.chunk = block;
            }
        }
        // What is held back by a subrequest does not hold the application: the subrequest may
        // need its very thread. When the temporary file is full too, it is kept in memory.
        passed = context.held_back.settle(passed);
        if is_read_ahead(context.request) {
            // So the file is never used again.
            passed.spooled = 0;
        }
        if !is_active(context.request) && context.exchange.progress() == Progress::Blocked {
            let held = context.chunks.iter().map(Passed::of).fold(Passed::default(), Passed::plus);
            // What is in the file must stay there.
            let held = Passed { spooled: 0, ..held };
            passed = passed.plus(context.held_back.raise_to(held));
        }
        if passed != Passed::default() {
            context.exchange.consumed(passed);
        }
    }
}
