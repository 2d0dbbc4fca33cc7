//! The head of a response as nginx's headers_out.
//!
//! Besides the list of headers nginx's filters look at fields of their own (content type, length,
//! encoding, dates), which are set as ngx_http_upstream does. RFC 9110 sections 8 and 15.
//! Runs on: event loop.

use std::ptr;
use std::slice;

use ngx::ffi::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, ngx_array_create, ngx_array_push, ngx_array_t, ngx_atoi,
    ngx_http_request_t, ngx_http_send_header, ngx_int_t, ngx_list_push, ngx_palloc,
    ngx_parse_http_time, ngx_pool_t, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};

use crate::nginx::config;
use crate::nginx::sys::pool::copy;
use crate::nginx::sys::{bits, code};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::header_policy::{Accel, HeaderPolicy};

/// Copies the head into headers_out and sends it through nginx's header filters.
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
pub unsafe fn send_head(r: *mut ngx_http_request_t, head: &ResponseHead) -> ngx_int_t {
    // SAFETY: the request is live, as the caller says; the head has been checked, all strings are
    // copied into r's pool.
    unsafe {
        let out = &raw mut (*r).headers_out;
        (*out).status = ngx_uint_t::from(head.code());
        // With a status line, nginx's filter does not know that these have no body.
        if !matches!(head.code(), 204 | 304) && head.status().len() > 4 {
            match copy((*r).pool, head.status()) {
                Some(line) => (*out).status_line = line,
                None => return code::ERROR,
            }
        }
        (*out).content_length_n = match (head.code(), head.content_length()) {
            (205, _) => 0,
            (_, Some(length)) => length as i64,
            (_, None) => -1,
        };
        let policy = &config::of_request(r).policy;
        for (name, value) in head.fields() {
            if !obey(r, policy, name, value) || !(policy.hides(name) || set_header(r, name, value))
            {
                return code::ERROR;
            }
        }
        allow_ranges(r, head, policy.forces_ranges());
        bits::request::set_disable_not_modified(r, !leaves_conditions(r));
        ngx_http_send_header(r)
    }
}

/// Does what X-Accel-Limit-Rate and X-Accel-Charset ask for; nothing for other names. False
/// without memory.
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
pub unsafe fn obey(
    r: *mut ngx_http_request_t,
    policy: &HeaderPolicy,
    name: &[u8],
    value: &[u8],
) -> bool {
    let Some(accel) = Accel::of(name).filter(|accel| !policy.ignores(*accel)) else {
        return true;
    };
    // SAFETY: the request is live, as the caller says; the string and its holder are in its pool.
    unsafe {
        if accel == Accel::LimitRate {
            let rate = ngx_atoi(value.as_ptr().cast_mut(), value.len());
            if rate != code::ERROR {
                (*r).limit_rate = rate as usize;
                bits::request::set_limit_rate_set(r, true);
            }
        } else if accel == Accel::Charset {
            let charset: *mut ngx_str_t = ngx_palloc((*r).pool, size_of::<ngx_str_t>()).cast();
            let (false, Some(value)) = (charset.is_null(), copy((*r).pool, value)) else {
                return false;
            };
            *charset = value;
            (*r).headers_out.override_charset = charset;
        }
        true
    }
}

/// Whether nginx may answer 304 or 412 in place of the application (RFC 9110 section 13). Not to a
/// method that changes something: that has been done, and the response is about what has become of
/// it. And not if the response lacks what the condition is about, since nginx would take that for
/// one that is not met.
unsafe fn leaves_conditions(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the request is live, as the caller says; the fields are null or live as long as the
    // request.
    unsafe {
        let (fields, out) = (&raw const (*r).headers_in, &raw const (*r).headers_out);
        let tag_asked = !(*fields).if_match.is_null() || !(*fields).if_none_match.is_null();
        let date_asked = !(*fields).if_unmodified_since.is_null();
        is_read(r)
            && !(tag_asked && (*out).etag.is_null())
            && !(date_asked && (*out).last_modified_time == -1)
    }
}

/// GET or HEAD.
unsafe fn is_read(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the request is live, as the caller says.
    unsafe { (*r).method as u32 & (NGX_HTTP_GET | NGX_HTTP_HEAD) != 0 }
}

/// nginx may send parts of what has a known length (RFC 9110 section 14): of a file unless the
/// application forbids it, of anything else if the application says that it has ranges, or if
/// `forced`, which is for all methods. Only a response with status 200 is ever cut, so an
/// application's own 206 stays as it is.
unsafe fn allow_ranges(r: *mut ngx_http_request_t, head: &ResponseHead, forced: bool) {
    // SAFETY: the request is live, as the caller says, whose head has not been sent.
    unsafe {
        let out = &raw mut (*r).headers_out;
        let wanted = if (*out).accept_ranges.is_null() {
            head.is_file()
        } else {
            (*(*out).accept_ranges).value.as_bytes().eq_ignore_ascii_case(b"bytes")
        };
        let cut = wanted && is_read(r) && (*out).content_length_n != -1;
        if !(cut || forced) {
            return;
        }
        bits::request::set_allow_ranges(r, true);
        // Several ranges need the whole body in one buffer.
        bits::request::set_single_range(r, !head.is_file());
        if !(*out).accept_ranges.is_null() {
            // The range filter has one of its own.
            (*(*out).accept_ranges).hash = 0;
            (*out).accept_ranges = ptr::null_mut();
        }
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
    // SAFETY: the request is live, as the caller says.
    unsafe {
        let header: *mut ngx_table_elt_t = ngx_list_push(&mut (*r).headers_out.headers).cast();
        if header.is_null() {
            return None;
        }
        // Until both strings are there, nginx shall skip it.
        ptr::write_bytes(header, 0, 1);
        (*header).key = copy((*r).pool, name)?;
        (*header).value = copy((*r).pool, value)?;
        (*header).hash = 1;
        Some(header)
    }
}

/// One header, with what nginx's filters want to know of it; false without memory.
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
pub unsafe fn set_header(r: *mut ngx_http_request_t, name: &[u8], value: &[u8]) -> bool {
    // SAFETY: the request is live, as the caller says, whose head has not been sent.
    unsafe {
        let out = &raw mut (*r).headers_out;
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"content-type") {
            let Some(value) = copy((*r).pool, value) else {
                return false;
            };
            return set_content_type(r, value);
        }
        let Some(header) = push_header(r, name, value) else {
            return false;
        };
        // Not Location: nginx would make a relative one absolute.
        match name.len() {
            4 if is(b"link") => return (*out).link.append((*r).pool, header),
            4 if is(b"date") => (*out).date = header,
            4 if is(b"etag") => (*out).etag = header,
            6 if is(b"server") => (*out).server = header,
            7 if is(b"expires") => (*out).expires = header,
            13 if is(b"accept-ranges") => (*out).accept_ranges = header,
            13 if is(b"content-range") => (*out).content_range = header,
            13 if is(b"cache-control") => return (*out).cache_control.append((*r).pool, header),
            13 if is(b"last-modified") => {
                (*out).last_modified = header;
                (*out).last_modified_time = ngx_parse_http_time((*header).value.data, value.len());
            }
            16 if is(b"content-encoding") => (*out).content_encoding = header,
            16 if is(b"www-authenticate") => (*out).www_authenticate = header,
            _ => (),
        }
        true
    }
}

/// A field of headers_out for a header that may come several times: an array before nginx 1.23,
/// a linked list since.
trait Several {
    /// False without memory.
    ///
    /// # Safety
    ///
    /// The field is nginx's own, `header` is in `pool`.
    unsafe fn append(&mut self, pool: *mut ngx_pool_t, header: *mut ngx_table_elt_t) -> bool;
}

impl Several for ngx_array_t {
    unsafe fn append(&mut self, pool: *mut ngx_pool_t, header: *mut ngx_table_elt_t) -> bool {
        // SAFETY: an array of pointers, zeroed before its first use.
        unsafe {
            if self.elts.is_null() {
                let made = ngx_array_create(pool, 1, size_of::<*mut ngx_table_elt_t>());
                if made.is_null() {
                    return false;
                }
                *self = *made;
            }
            let place: *mut *mut ngx_table_elt_t = ngx_array_push(self).cast();
            if place.is_null() {
                return false;
            }
            *place = header;
            true
        }
    }
}

#[cfg(ngx_linked_headers)]
impl Several for *mut ngx_table_elt_t {
    unsafe fn append(&mut self, _pool: *mut ngx_pool_t, header: *mut ngx_table_elt_t) -> bool {
        // SAFETY: a list of live headers that ends with null.
        unsafe {
            let mut place: *mut Self = self;
            while !(*place).is_null() {
                place = &raw mut (**place).next;
            }
            *place = header;
            (*header).next = ptr::null_mut();
            true
        }
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
