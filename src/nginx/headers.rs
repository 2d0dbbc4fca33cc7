//! The head of a response as nginx's headers_out.
//!
//! Besides the list of headers nginx's filters look at fields of their own (content type, length,
//! encoding, dates), which are set as ngx_http_upstream does. RFC 9110 sections 8 and 15.
//! Runs on: event loop.

use std::ptr;
use std::slice;

use ngx::ffi::{
    NGX_ERROR, ngx_http_request_t, ngx_http_send_header, ngx_int_t, ngx_list_push,
    ngx_parse_http_time, ngx_pnalloc, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};

use crate::wsgi::head::ResponseHead;

/// Copies the head into headers_out and sends it through nginx's header filters.
///
/// # Safety
///
/// `r` is a live request whose head has not been sent.
pub unsafe fn send_head(r: *mut ngx_http_request_t, head: &ResponseHead) -> ngx_int_t {
    // SAFETY: as `advance`; the head has been checked, all strings are copied into r's pool.
    unsafe {
        let out = &raw mut (*r).headers_out;
        (*out).status = ngx_uint_t::from(head.code());
        // With a status line, nginx's filter does not know that these have no body.
        if !matches!(head.code(), 204 | 304) && head.status().len() > 4 {
            match copy(r, head.status()) {
                Some(line) => (*out).status_line = line,
                None => return NGX_ERROR as ngx_int_t,
            }
        }
        (*out).content_length_n = match (head.code(), head.content_length()) {
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
