//! The environ dict. PEP 3333, "environ Variables".

use super::{app, request, with_vars};
use crate::wsgi::request::Flags;

#[test]
fn environ_is_a_dict_of_latin1_strings() {
    let app = app("def application(e, s):
    assert type(e) is dict
    assert all(type(k) is str for k in e)
    assert all(type(v) is str for k, v in e.items() if not k.startswith('wsgi.'))
    assert e['PATH_INFO'] == '/a b/\\xc3\\xa9\\xff', ascii(e['PATH_INFO'])
    assert e['HTTP_X'] == '' and e['SCRIPT_NAME'] == '' and e['QUERY_STRING'] == ''
    e.clear(); ok(s); return []");
    let vars: &[(&[u8], &[u8])] = &[(b"PATH_INFO", b"/a b/\xc3\xa9\xff"), (b"HTTP_X", b"")];
    for _ in 0..3 {
        request(&app, with_vars(vars)).is_clean();
    }
}

#[test]
fn the_wsgi_keys_are_right_and_cannot_be_overridden() {
    let app = app("from wsgiref.validate import check_environ
def application(e, s):
    assert e['wsgi.version'] == (1, 0) and type(e['wsgi.version']) is tuple
    assert e['wsgi.multithread'] is True and e['wsgi.multiprocess'] is False
    assert e['wsgi.run_once'] is False and e['wsgi.input_terminated'] is True
    assert e['wsgi.url_scheme'] == 'http' and e['PATH_INFO'] == '/'
    check_environ(e); ok(s); return []");
    let mut request = with_vars(&[
        (b"REQUEST_METHOD", b"GET"),
        (b"SERVER_NAME", b"x"),
        (b"SERVER_PORT", b"80"),
        (b"SERVER_PROTOCOL", b"HTTP/1.1"),
        (b"PATH_INFO", b"/"),
        (b"wsgi.version", b"x"),
        (b"wsgi.input", b"x"),
        (b"wsgi.url_scheme", b"gopher"),
    ]);
    request.flags = Flags { multithread: true, ..Flags::default() };
    super::request(&app, request).is_clean();
}

#[test]
fn the_scheme_follows_https_and_request_scheme() {
    let app = app("def application(e, s): ok(s); return [e['wsgi.url_scheme'].encode()]");
    for (name, value, scheme) in [
        (&b"HTTPS"[..], &b"on"[..], "https"),
        (b"HTTPS", b"1", "https"),
        (b"HTTPS", b"True", "https"),
        (b"HTTPS", b"off", "http"),
        (b"REQUEST_SCHEME", b"https", "https"),
        (b"REQUEST_SCHEME", b"http", "http"),
        (b"X", b"https", "http"),
    ] {
        assert_eq!(request(&app, with_vars(&[(name, value)])).body(), scheme);
    }
}

#[test]
fn any_number_of_names_is_served() {
    let app = app("def application(e, s): ok(s); return [str(len(e)).encode()]");
    let names: Vec<_> = (0..3000).map(|n| format!("HTTP_X{n}")).collect();
    let vars: Vec<_> = names.iter().map(|name| (name.as_bytes(), &b"v"[..])).collect();
    let plain: usize = request(&app, with_vars(&[])).body().parse().unwrap();
    for _ in 0..2 {
        let count: usize = request(&app, with_vars(&vars)).body().parse().unwrap();
        assert_eq!(count, plain + 3000);
    }
}
