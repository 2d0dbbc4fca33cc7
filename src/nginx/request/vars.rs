//! The request as uwsgi vars: the set of nginx's `uwsgi_params`, the client's headers, wsgi_param.
//!
//! Written into two owned columns, see `wsgi/request/vars.rs`. RFC 3875 section 4.1 for the CGI
//! names, PEP 3333 "environ Variables" for what must be there.
//! Runs on: event loop.

use ngx::ffi::{
    ngx_connection_local_sockaddr, ngx_connection_t, ngx_http_complex_value,
    ngx_http_core_srv_conf_t, ngx_http_get_flushed_variable, ngx_http_request_t, ngx_inet_get_port,
    ngx_str_t, ngx_table_elt_t,
};
use ngx::http::{HttpModule, NgxHttpCoreModule};

use super::left_body;
use crate::nginx::config::{LocConf, MainConf, Param};
use crate::nginx::sys::{bits, code, list};
use crate::wsgi::error::VarsError;
use crate::wsgi::request::fields::Fields;
use crate::wsgi::request::vars::{Vars, VarsWriter, header_byte};

/// Writes the vars of one request.
struct Writer<'a> {
    vars: VarsWriter,
    params: &'a [Param],
}

impl Writer<'_> {
    /// A built-in variable, unless a wsgi_param replaces it.
    #[inline]
    fn put<const N: usize>(&mut self, name: &[u8; N], value: &[u8]) -> Result<(), VarsError> {
        if self.params.iter().any(|param| param.name == name) {
            return Ok(());
        }
        self.vars.push_known(name, value)
    }
}

/// True if a wsgi_param is named as this header would be.
fn replaces_header(params: &[Param], header: &[u8]) -> bool {
    params.iter().any(|param| {
        param
            .name
            .strip_prefix(b"HTTP_")
            .is_some_and(|name| name.iter().copied().eq(header.iter().map(|b| header_byte(*b))))
    })
}

/// All vars of `r`. `body`: length of the body, `None` if it is still to come; `path`: SCRIPT_NAME
/// and PATH_INFO; `left`: to be written over.
///
/// # Safety
///
/// `r` is a live request of this location, its body read unless it is still to come.
pub unsafe fn request_vars(
    r: *mut ngx_http_request_t,
    main: &MainConf,
    conf: &LocConf,
    path: (&[u8], &[u8]),
    body: Option<u64>,
    left: Vars,
) -> Result<Vars, VarsError> {
    let mut fields = Fields::default();
    if conf.policy.passes_request_headers() {
        // SAFETY: the request is live, as the caller says.
        unsafe { collect_fields(r, &mut fields) };
    }
    // SAFETY: the strings of a live request.
    let uri = unsafe { 2 * (*r).unparsed_uri.len + (*r).args.len };
    let (names, values) = fields.size();
    let mut vars = VarsWriter::over(left);
    vars.reserve(names + 300, values + uri + 300);
    let mut w = Writer { vars, params: conf.params() };
    // SAFETY: the request is live, as the caller says.
    unsafe {
        put_request(&mut w, r, main, path)?;
        put_body(&mut w, r, body)?;
        put_peers(&mut w, r)?;
        if conf.policy.passes_request_headers() {
            put_fields(&mut w, r, &mut fields)?;
        }
        put_params(&mut w, r)?;
    }
    Ok(w.vars.finish())
}

/// The client's header fields, in order.
unsafe fn collect_fields(r: *mut ngx_http_request_t, all: &mut Fields<'_>) {
    // SAFETY: the list holds ngx_table_elt_t's that live as long as the request.
    unsafe {
        for header in list::elements::<ngx_table_elt_t>(&raw const (*r).headers_in.headers) {
            all.push((*header).key.as_bytes(), (*header).value.as_bytes());
        }
    }
}

unsafe fn put_request(
    w: &mut Writer<'_>,
    r: *mut ngx_http_request_t,
    main: &MainConf,
    (script_name, path_info): (&[u8], &[u8]),
) -> Result<(), VarsError> {
    // SAFETY: the strings of a live request; nginx has parsed its request line.
    unsafe {
        w.put(b"QUERY_STRING", (*r).args.as_bytes())?;
        w.put(b"REQUEST_METHOD", (*r).method_name.as_bytes())?;
        w.put(b"REQUEST_URI", (*r).unparsed_uri.as_bytes())?;
        w.put(b"SCRIPT_NAME", script_name)?;
        w.put(b"PATH_INFO", path_info)?;
        let protocol = (*r).http_protocol.as_bytes();
        let protocol = if protocol.is_empty() { b"HTTP/0.9" } else { protocol };
        w.put(b"SERVER_PROTOCOL", protocol)?;
        let root = ngx_http_get_flushed_variable(r, main.document_root as usize);
        if !root.is_null() && !bits::variable::not_found(root) {
            w.put(b"DOCUMENT_ROOT", (*root).as_bytes())?;
        }
    }
    Ok(())
}

/// A subrequest names a body only if it has one: auth_request and SSI drop their main request's.
unsafe fn put_body(
    w: &mut Writer<'_>,
    r: *mut ngx_http_request_t,
    body: Option<u64>,
) -> Result<(), VarsError> {
    // SAFETY: the headers of a live request.
    unsafe {
        if body == Some(0) && r != (*r).main {
            return Ok(());
        }
        let headers = &(*r).headers_in;
        if !headers.content_type.is_null() {
            w.put(b"CONTENT_TYPE", (*headers.content_type).value.as_bytes())?;
        }
        let declared = !headers.content_length.is_null();
        let sent = || {
            let was_sent = bits::request::internal(r) && left_body::is_gone(r);
            declared || bits::headers_in::chunked(headers) || was_sent
        };
        let length = match body {
            Some(len) => (len > 0 || sent()).then_some(len),
            None => declared.then_some(headers.content_length_n as u64),
        };
        if let Some(length) = length {
            w.put(b"CONTENT_LENGTH", itoa::Buffer::new().format(length).as_bytes())?;
        }
    }
    Ok(())
}

unsafe fn put_peers(w: &mut Writer<'_>, r: *mut ngx_http_request_t) -> Result<(), VarsError> {
    // SAFETY: a live request has a connection, and a server configuration of the core module.
    unsafe {
        let c = (*r).connection;
        let https = is_tls(c);
        if https {
            w.put(b"HTTPS", b"on")?;
        }
        w.put(b"REQUEST_SCHEME", if https { b"https" } else { b"http" })?;
        w.put(b"REMOTE_ADDR", (*c).addr_text.as_bytes())?;
        let mut digits = itoa::Buffer::new();
        w.put(b"REMOTE_PORT", port(&mut digits, ngx_inet_get_port((*c).sockaddr)))?;
        let local = ngx_connection_local_sockaddr(c, std::ptr::null_mut(), 0);
        let local = if local == code::OK { ngx_inet_get_port((*c).local_sockaddr) } else { 0 };
        // A unix socket has no port; PEP 3333 wants one.
        let server_port = match (local, https) {
            (0, true) => 443,
            (0, false) => 80,
            (port, _) => port,
        };
        w.put(b"SERVER_PORT", port(&mut digits, server_port))?;
        let cscf: *mut ngx_http_core_srv_conf_t =
            (*(*r).srv_conf.add(NgxHttpCoreModule::module().ctx_index)).cast();
        let names = [(*cscf).server_name.as_bytes(), (*r).headers_in.server.as_bytes()];
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or(b"localhost");
        w.put(b"SERVER_NAME", name)
    }
}

#[cfg(any(ngx_feature = "ssl", ngx_feature = "compat"))]
unsafe fn is_tls(c: *mut ngx_connection_t) -> bool {
    // SAFETY: the connection of a live request.
    unsafe { !(*c).ssl.is_null() }
}

#[cfg(not(any(ngx_feature = "ssl", ngx_feature = "compat")))]
unsafe fn is_tls(_c: *mut ngx_connection_t) -> bool {
    false
}

/// What has no port has an empty one.
fn port(digits: &mut itoa::Buffer, number: u16) -> &[u8] {
    if number == 0 { b"" } else { digits.format(number).as_bytes() }
}

/// HTTP_*. The host of the request target stands for that of the field.
unsafe fn put_fields(
    w: &mut Writer<'_>,
    r: *mut ngx_http_request_t,
    fields: &mut Fields<'_>,
) -> Result<(), VarsError> {
    // SAFETY: the request is live, as the caller says.
    let target_host = unsafe { host_of_target(r) };
    if let Some(host) = target_host.filter(|_| !replaces_header(w.params, b"host")) {
        w.vars.push(b"HTTP_HOST", host)?;
    }
    let Writer { vars, params } = w;
    fields.write(vars, |name| {
        replaces_header(params, name)
            || (target_host.is_some() && name.eq_ignore_ascii_case(b"host"))
    })
}

/// The host of an absolute-form request target, with its port: it wins over the Host header
/// (RFC 9112 section 3.2.2). Also that of the `:authority` of HTTP/3, which nginx puts into no
/// header field. Subrequests have that of their main request, which alone has been parsed.
unsafe fn host_of_target<'a>(r: *mut ngx_http_request_t) -> Option<&'a [u8]> {
    // SAFETY: nginx sets both pointers while it parses the main request, and what they point to
    // lives as long. It keeps no pointer to the port that would survive a larger header buffer.
    unsafe {
        let r = (*r).main;
        let (start, end) = ((*r).host_start, (*r).host_end);
        if start.is_null() || end <= start {
            return None;
        }
        let host = end.offset_from(start) as usize;
        let line = (*r).request_line.as_bytes();
        if !line.as_ptr_range().contains(&start.cast_const()) {
            // HTTP/3 sends no request line, and one value for host and port.
            return Some(std::slice::from_raw_parts(start, host));
        }
        let from = (start as usize).checked_sub(line.as_ptr() as usize)?;
        let target = line.get(from..)?;
        let port = target
            .get(host..)?
            .strip_prefix(b":")
            .map_or(0, |rest| 1 + rest.iter().take_while(|b| b.is_ascii_digit()).count());
        target.get(..host + port)
    }
}

/// wsgi_param, in the order of the configuration.
unsafe fn put_params(w: &mut Writer<'_>, r: *mut ngx_http_request_t) -> Result<(), VarsError> {
    for param in w.params {
        let mut value = ngx_str_t::empty();
        let compiled = (&raw const param.value).cast_mut();
        // SAFETY: compiled for this location; nginx evaluates it into the request's pool and
        // only reads the compiled form.
        let rc = unsafe { ngx_http_complex_value(r, compiled, &mut value) };
        if rc == code::OK && !(param.skip_empty && value.is_empty()) {
            w.vars.push(&param.name, value.as_bytes())?;
        }
    }
    Ok(())
}
