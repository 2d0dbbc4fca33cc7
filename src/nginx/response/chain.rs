//! Chunks of an exchange as chains of nginx's, and room for more when nginx has sent them.
//!
//! Runs on: event loop.

use std::fs::File;
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;

use libc::off_t;
use ngx::ffi::{
    ngx_buf_t, ngx_chain_get_free_buf, ngx_chain_t, ngx_chain_update_chains, ngx_file_t,
    ngx_http_output_filter, ngx_http_request_t, ngx_int_t, ngx_pcalloc, ngx_str_t,
};
use ngx::ngx_string;

use crate::nginx::request::context::Context;
use crate::nginx::sys::module::tag;
use crate::nginx::sys::{bits, code, list};
use crate::wsgi::exchange::{InFlight, Progress};
use crate::wsgi::segment::{Segment, Segments};

/// The request whose output goes to the connection now: a main request waits for its subrequests,
/// and a subrequest for those before it.
pub unsafe fn is_active(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the data of a connection with a request is its active request.
    unsafe { (*(*r).connection).data == r.cast() }
}

/// Passes chunks to nginx's filters; they are flushed, since nothing may hold them back
/// (PEP 3333, "Buffering and Streaming").
pub unsafe fn send_chunks(context: *mut Context, chunks: Segments) -> ngx_int_t {
    // SAFETY: the context is not detached, and its request is live. The bytes behind the buffers
    // are in `chunks` of the context until nginx has emptied the buffer, or the request's pool is
    // destroyed.
    unsafe {
        let r = (*context).request;
        let mut out: *mut ngx_chain_t = ptr::null_mut();
        let mut tail: *mut *mut ngx_chain_t = &mut out;
        let mut b: *mut ngx_buf_t = ptr::null_mut();
        for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
            b = next_buf(context, &mut tail);
            if b.is_null() || !fill(context, b, &chunk) {
                return code::ERROR;
            }
            (*context).chunks.push(chunk);
        }
        if (*context).end == Some(Ok(())) {
            if b.is_null() {
                b = next_buf(context, &mut tail);
                if b.is_null() {
                    return code::ERROR;
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
    // SAFETY: the context is not detached, and its request is live; `b` is empty and zeroed.
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
    // SAFETY: the context is not detached, and its request is live.
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
    // SAFETY: the context is not detached, and its request is live.
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
        (*b).tag = tag();
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
pub unsafe fn release(context: *mut Context, mut out: *mut ngx_chain_t) {
    // SAFETY: `busy` and `out` are chains of buffers made by `next_buf`, in the order of `chunks`.
    // Nothing here calls back, so the reference is the only one.
    unsafe {
        let context = &mut *context;
        ngx_chain_update_chains(
            (*context.request).pool,
            &mut context.free,
            &mut context.busy,
            &mut out,
            tag(),
        );
        let busy = list::links(context.busy).count();
        let mut passed = InFlight::default();
        for chunk in context.chunks.drain(..context.chunks.len().saturating_sub(busy)) {
            passed = passed.plus(InFlight::of(&chunk));
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
            let held =
                context.chunks.iter().map(InFlight::of).fold(InFlight::default(), InFlight::plus);
            // What is in the file must stay there.
            let held = InFlight { spooled: 0, ..held };
            passed = passed.plus(context.held_back.raise_to(held));
        }
        if passed != InFlight::default() {
            context.exchange.consumed(passed);
        }
    }
}
