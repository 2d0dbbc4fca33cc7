//! From the exchange to the client: nginx's headers_out, chains, flow control and the end.
//!
//! Called when a pool thread has sent something, and when the client can take more. nginx does not
//! protect the framing of a content handler, so an exchange that failed after its head never ends
//! cleanly here: the connection (HTTP/1) or stream (HTTP/2) is aborted.
//! Runs on: event loop.

use std::mem;
use std::ptr;
use std::slice;

use bytes::Bytes;
use ngx::core::Status;
use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_REQUEST_TIME_OUT, NGX_HTTP_VERSION_20,
    NGX_OK, ngx_add_timer, ngx_buf_t, ngx_chain_get_free_buf, ngx_chain_t, ngx_chain_update_chains,
    ngx_del_timer, ngx_handle_write_event, ngx_http_core_loc_conf_t, ngx_http_finalize_request,
    ngx_http_output_filter, ngx_http_request_t, ngx_http_send_header, ngx_int_t, ngx_list_push,
    ngx_parse_http_time, ngx_pnalloc, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};
use ngx::http::{HttpModule, NgxHttpCoreModule};

use super::context::Context;
use super::guard::protect;
use super::log;
use crate::module::http_module;
use crate::wsgi::exchange::Batch;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::Level;

/// Takes what the application has sent and passes it on. May end the request.
///
/// # Safety
///
/// The context is not detached. Its request may be freed: afterwards only the connection may be
/// looked at.
pub unsafe fn advance(context: &mut Context) {
    let Batch { head, chunks, end } = context.exchange.take();
    let r = context.request;
    if let Some(end) = end {
        context.end = Some(end);
    }
    // SAFETY: the request of a context that is not detached is live.
    unsafe {
        if let Some(head) = head {
            let rc = send_head(r, &head);
            if rc == NGX_ERROR as ngx_int_t || rc > NGX_OK as ngx_int_t || (*r).header_only() != 0 {
                return finish(context, rc);
            }
            (*r).write_event_handler = Some(ngx_http_wsgi_write);
        } else if let (0, Some(end)) = ((*r).header_sent(), context.end) {
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
        let last = context.end == Some(Ok(()));
        if !chunks.is_empty() || last {
            let rc = send_chunks(context, chunks, last);
            return settle(context, rc);
        }
        // Only an abort comes without anything to send.
        settle(context, NGX_OK as ngx_int_t);
    }
}

/// After output: ends the request, or waits for the client or the application.
unsafe fn settle(context: &mut Context, rc: ngx_int_t) {
    let r = context.request;
    // SAFETY: as `advance`.
    unsafe {
        if rc == NGX_ERROR as ngx_int_t {
            return finish(context, rc);
        }
        let c = (*r).connection;
        let buffered = (*r).buffered() != 0
            || !(*r).postponed.is_null()
            || (r == (*r).main && (*c).buffered() != 0);
        match context.end {
            // nginx sends the rest by itself.
            Some(Ok(())) => finish(context, rc),
            Some(Err(_)) if !buffered => abort(context),
            _ if buffered => wait_for_client(context),
            _ => {
                if (*(*c).write).timer_set() != 0 && (*(*c).write).delayed() == 0 {
                    ngx_del_timer((*c).write);
                }
            }
        }
    }
}

/// Cuts a response whose head has been sent: the application failed, or was silent too long.
///
/// # Safety
///
/// As [`advance`].
pub unsafe fn abort(context: &mut Context) {
    let r = context.request;
    // SAFETY: as `advance`.
    unsafe {
        if let Some(Err(failure)) = context.end {
            let (_, level) = log::failure(failure);
            log::write_request(r, level, format_args!("{failure}, response is cut"));
        }
        let until_close = (*r).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t
            && (*r).chunked() == 0
            && (*r).headers_out.content_length_n == -1;
        if r == (*r).main && until_close {
            // The body ends with the connection: only a reset tells the client that it is cut.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            libc::setsockopt(
                (*(*r).connection).fd,
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                mem::size_of::<libc::linger>() as libc::socklen_t,
            );
        }
        finish(context, Status::NGX_ERROR.into());
    }
}

/// Gives the request back to nginx with `rc`. The application is told if it still runs.
///
/// # Safety
///
/// As [`advance`].
pub unsafe fn finish(context: &mut Context, rc: ngx_int_t) {
    context.detach();
    // SAFETY: the request is live; its body reader's reference is ours and given back here, once.
    unsafe { ngx_http_finalize_request(context.request, rc) };
}

/// The client can take more, or has not for send_timeout.
unsafe extern "C" fn ngx_http_wsgi_write(r: *mut ngx_http_request_t) {
    protect((), || {
        // SAFETY: nginx calls this for a live request.
        unsafe {
            let context = Context::of(r);
            if context.is_null() || (*context).is_detached() {
                return;
            }
            let context = &mut *context;
            let wev = (*(*r).connection).write;
            if (*wev).timedout() != 0 {
                log::write_request(r, Level::Info, format_args!("client timed out"));
                (*(*r).connection).set_timedout(1);
                return finish(context, NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t);
            }
            if (*wev).delayed() != 0 || (*r).aio() != 0 {
                return wait_for_client(context);
            }
            let rc = ngx_http_output_filter(r, ptr::null_mut());
            release(context, ptr::null_mut());
            settle(context, rc);
        }
    });
}

unsafe fn wait_for_client(context: &mut Context) {
    let r = context.request;
    // SAFETY: as `advance`; the core module's configuration of the main request decides, as in
    // nginx's own writer.
    unsafe {
        let c = (*r).connection;
        if r != (*c).data.cast() {
            // A subrequest that is not active yet: nginx calls the write handler when it is.
            return;
        }
        let clcf: *mut ngx_http_core_loc_conf_t =
            (*(*(*r).main).loc_conf.add(NgxHttpCoreModule::module().ctx_index)).cast();
        if (*(*c).write).delayed() == 0 {
            ngx_add_timer((*c).write, (*clcf).send_timeout);
        }
        if ngx_handle_write_event((*c).write, (*clcf).send_lowat) != NGX_OK as ngx_int_t {
            finish(context, Status::NGX_ERROR.into());
        }
    }
}

/// Passes chunks to nginx's filters; they are flushed, since nothing may hold them back
/// (PEP 3333, "Buffering and Streaming").
unsafe fn send_chunks(context: &mut Context, chunks: Vec<Bytes>, last: bool) -> ngx_int_t {
    let r = context.request;
    // SAFETY: as `advance`. The bytes behind the buffers are in `context.chunks` until nginx has
    // emptied the buffer, or the request's pool is destroyed.
    unsafe {
        let mut out: *mut ngx_chain_t = ptr::null_mut();
        let mut tail: *mut *mut ngx_chain_t = &mut out;
        let mut b: *mut ngx_buf_t = ptr::null_mut();
        for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
            b = next_buf(context, &mut tail);
            if b.is_null() {
                return NGX_ERROR as ngx_int_t;
            }
            (*b).pos = chunk.as_ptr().cast_mut();
            (*b).last = (*b).pos.add(chunk.len());
            (*b).start = (*b).pos;
            (*b).end = (*b).last;
            (*b).set_memory(1);
            context.chunks.push_back(chunk);
        }
        if last {
            if b.is_null() {
                b = next_buf(context, &mut tail);
                if b.is_null() {
                    return NGX_ERROR as ngx_int_t;
                }
                context.chunks.push_back(Bytes::new());
                // Only the end of a main request may be empty and nothing else.
                (*b).set_sync(u32::from(!ends_response(r)));
            }
            (*b).set_last_buf(u32::from(ends_response(r)));
            (*b).set_last_in_chain(1);
        } else if !b.is_null() {
            (*b).set_flush(1);
        }
        let rc = ngx_http_output_filter(r, out);
        release(context, out);
        rc
    }
}

/// The last buffer of this request is that of the response: not so in a subrequest.
unsafe fn ends_response(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as `advance`.
    unsafe { r == (*r).main && (*r).post_action() == 0 }
}

/// Appends an empty buffer to the chain at `tail`; null without memory.
unsafe fn next_buf(context: &mut Context, tail: &mut *mut *mut ngx_chain_t) -> *mut ngx_buf_t {
    // SAFETY: buffers come from the request's pool and are used again when they are empty.
    unsafe {
        let link = ngx_chain_get_free_buf((*context.request).pool, &mut context.free);
        if link.is_null() {
            return ptr::null_mut();
        }
        (*link).next = ptr::null_mut();
        let b = (*link).buf;
        ptr::write_bytes(b, 0, 1);
        (*b).tag = tag();
        **tail = link;
        *tail = &raw mut (*link).next;
        b
    }
}

fn tag() -> *mut std::ffi::c_void {
    ptr::from_ref(http_module()).cast_mut().cast()
}

/// Drops the chunks whose buffers nginx has emptied and makes room for the application.
unsafe fn release(context: &mut Context, mut out: *mut ngx_chain_t) {
    // SAFETY: `busy` and `out` are chains of buffers made by `next_buf`, in the order of `chunks`.
    unsafe {
        ngx_chain_update_chains(
            (*context.request).pool,
            &mut context.free,
            &mut context.busy,
            &mut out,
            tag(),
        );
        let mut busy = 0;
        let mut link = context.busy;
        while !link.is_null() {
            busy += 1;
            link = (*link).next;
        }
        let mut consumed = 0;
        while context.chunks.len() > busy {
            consumed += context.chunks.pop_front().map_or(0, |chunk| chunk.len());
        }
        if consumed > 0 {
            context.exchange.consumed(consumed);
        }
    }
}

/// Copies the head into headers_out and sends it through nginx's header filters.
unsafe fn send_head(r: *mut ngx_http_request_t, head: &ResponseHead) -> ngx_int_t {
    // SAFETY: as `advance`; the head has been checked, all strings are copied into r's pool.
    unsafe {
        let out = &raw mut (*r).headers_out;
        (*out).status = ngx_uint_t::from(head.code());
        // With a status line, nginx's filter does not know that these have no body.
        if head.allows_body() && head.status().len() > 4 {
            match copy(r, head.status()) {
                Some(line) => (*out).status_line = line,
                None => return NGX_ERROR as ngx_int_t,
            }
        }
        (*out).content_length_n = match (head.code(), head.content_length()) {
            (204, _) => -1,
            (205, _) => 0,
            (_, Some(length)) => length as i64,
            (_, None) => -1,
        };
        for (name, value) in head.fields() {
            if !set_header(r, name, value) {
                return NGX_ERROR as ngx_int_t;
            }
        }
        ngx_http_send_header(r)
    }
}

unsafe fn copy(r: *mut ngx_http_request_t, bytes: &[u8]) -> Option<ngx_str_t> {
    // SAFETY: one byte more for the zero that some of nginx's parsers rely on.
    unsafe {
        let data: *mut u8 = ngx_pnalloc((*r).pool, bytes.len() + 1).cast();
        if data.is_null() {
            return None;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
        *data.add(bytes.len()) = 0;
        Some(ngx_str_t { len: bytes.len(), data })
    }
}

/// Appends a header to the response.
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
pub unsafe fn push_header(
    r: *mut ngx_http_request_t,
    name: &[u8],
    value: &[u8],
) -> Option<*mut ngx_table_elt_t> {
    // SAFETY: the caller's request.
    unsafe {
        let header: *mut ngx_table_elt_t = ngx_list_push(&mut (*r).headers_out.headers).cast();
        if header.is_null() {
            return None;
        }
        // Until both strings are there, nginx shall skip it.
        ptr::write_bytes(header, 0, 1);
        (*header).key = copy(r, name)?;
        (*header).value = copy(r, value)?;
        (*header).hash = 1;
        Some(header)
    }
}

/// One header, with what nginx's filters want to know of it; false without memory.
unsafe fn set_header(r: *mut ngx_http_request_t, name: &[u8], value: &[u8]) -> bool {
    // SAFETY: as `send_head`.
    unsafe {
        let out = &raw mut (*r).headers_out;
        let lower = name.to_ascii_lowercase();
        if lower == b"content-type" {
            let Some(value) = copy(r, value) else {
                return false;
            };
            return set_content_type(r, value);
        }
        let Some(header) = push_header(r, name, value) else {
            return false;
        };
        match &lower[..] {
            b"server" => (*out).server = header,
            b"date" => (*out).date = header,
            b"last-modified" => {
                (*out).last_modified = header;
                (*out).last_modified_time = ngx_parse_http_time((*header).value.data, value.len());
            }
            b"etag" => (*out).etag = header,
            b"expires" => (*out).expires = header,
            b"accept-ranges" => (*out).accept_ranges = header,
            b"content-range" => (*out).content_range = header,
            b"content-encoding" => (*out).content_encoding = header,
            b"www-authenticate" => (*out).www_authenticate = header,
            // Not Location: nginx would make a relative one absolute.
            _ => (),
        }
        true
    }
}

/// As nginx's upstream does: the charset is known apart from the type.
unsafe fn set_content_type(r: *mut ngx_http_request_t, value: ngx_str_t) -> bool {
    // SAFETY: `value` is in the request's pool.
    unsafe {
        let out = &raw mut (*r).headers_out;
        (*out).content_type = value;
        (*out).content_type_len = value.len;
        (*out).content_type_lowcase = ptr::null_mut();
        let text = slice::from_raw_parts(value.data, value.len);
        let mut start = 0;
        while let Some(semicolon) = text[start..].iter().position(|b| *b == b';') {
            let semicolon = start + semicolon;
            let spaces = text[semicolon + 1..].iter().take_while(|b| **b == b' ').count();
            start = semicolon + 1 + spaces;
            let Some((key, charset)) = text[start..].split_at_checked(b"charset=".len()) else {
                continue;
            };
            if key.eq_ignore_ascii_case(b"charset=") {
                let charset = charset.strip_prefix(b"\"").unwrap_or(charset);
                let charset = charset.strip_suffix(b"\"").unwrap_or(charset);
                (*out).content_type_len = semicolon;
                (*out).charset =
                    ngx_str_t { len: charset.len(), data: charset.as_ptr().cast_mut() };
                break;
            }
        }
        true
    }
}
