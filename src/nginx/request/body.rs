//! The request body that nginx has read, as owned data.
//!
//! Bytes in memory are copied (at most client_body_buffer_size), the temp file's descriptor is
//! duplicated: nothing of it belongs to the request any more.
//! Runs on: event loop.

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;

use ngx::ffi::{ngx_buf_t, ngx_http_request_t};

use crate::nginx::sys::{bits, children, list};
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::segment::Segment;

/// The body of `r`, if it has one.
///
/// # Safety
///
/// `r` is a live request whose body nginx has read.
pub unsafe fn request_body(r: *mut ngx_http_request_t) -> io::Result<Option<RequestBody>> {
    let mut segments = Vec::new();
    // SAFETY: after the body has been read, `bufs` is a chain of complete buffers.
    unsafe {
        if (*r).request_body.is_null() {
            return Ok(None);
        }
        for link in list::links((*(*r).request_body).bufs) {
            segments.extend(segment((*link).buf)?);
        }
    }
    Ok((!segments.is_empty()).then(|| RequestBody::new(segments)))
}

/// # Safety
///
/// `b` is a complete buffer.
unsafe fn segment(b: *mut ngx_buf_t) -> io::Result<Option<Segment>> {
    // SAFETY: a buffer in a file names its open file, one in memory its bytes.
    unsafe {
        if bits::buffer::in_file(b) {
            let offset = (*b).file_pos as u64;
            let len = (*b).file_last as u64 - offset;
            // nginx's own descriptor is as little for children as ours.
            children::set_cloexec((*(*b).file).fd);
            let fd = libc::fcntl((*(*b).file).fd, libc::F_DUPFD_CLOEXEC, 0);
            if fd == -1 {
                return Err(io::Error::last_os_error());
            }
            return Ok(Some(Segment::File { file: File::from_raw_fd(fd), offset, len }));
        }
        if (*b).pos.is_null() || (*b).pos == (*b).last {
            return Ok(None);
        }
        let len = (*b).last.offset_from((*b).pos) as usize;
        let bytes = std::slice::from_raw_parts((*b).pos, len);
        Ok(Some(Segment::Copied(bytes.to_vec())))
    }
}
