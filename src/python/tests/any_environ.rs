//! The environ dict of any vars. PEP 3333, "Unicode Issues": a character for each byte.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::thread;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::sample::{select, subsequence};

use super::{PythonApplication, app, request, with_vars};
use crate::wsgi::tests::{bytes, cases};

const NAMES: [&[u8]; 9] = [
    b"PATH_INFO",
    b"QUERY_STRING",
    b"HTTP_X",
    b"HTTPS",
    b"REQUEST_SCHEME",
    b"wsgi.input",
    b"wsgi.version",
    b"wsgi.",
    b"",
];

/// Variables whose values are kept, and such whose values are not.
const SHARED: [&[u8]; 8] = [
    b"REMOTE_ADDR",
    b"HTTPS",
    b"REQUEST_SCHEME",
    b"HTTP_HOST",
    b"PATH_INFO",
    b"QUERY_STRING",
    b"HTTP_COOKIE",
    b"wsgi.version",
];

const VALUES: [&[u8]; 6] = [b"", b"on", b"https", b"http", b"\xff", &[b'v'; 300]];

/// Answers with its environ: code points in decimal, so that no decoder is needed to read it.
fn echo() -> &'static PythonApplication {
    static ECHO: OnceLock<PythonApplication> = OnceLock::new();
    ECHO.get_or_init(|| {
        app("def points(s):
    assert type(s) is str, type(s)
    return ' '.join(str(ord(c)) for c in s)
def application(e, s):
    ok(s)
    assert type(e) is dict and e['wsgi.version'] == (1, 0) and e['wsgi.input'].read() == b''
    lines = [points(k) + '=' + points(v) for k, v in e.items()
             if k[:5] != 'wsgi.' or k == 'wsgi.url_scheme']
    e['REMOTE_ADDR'] = e['HTTP_HOST'] = e['wsgi.url_scheme'] = 'what an application sets'
    e['PATH_INFO'] = 'is gone with its request'
    return ['\\n'.join(lines).encode()]")
    })
}

fn points(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|point| point.parse().expect("a point below 256")).collect()
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![select(&NAMES[..]).prop_map(<[u8]>::to_vec), bytes(6), bytes(200)]
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn any_vars_are_in_the_environ_byte_for_byte(
        vars in vec((name(), prop_oneof![bytes(9), bytes(400)]), 0..12),
        all in any::<bool>(),
    ) {
        let every_byte: Vec<u8> = (0..=255).collect();
        let mut vars: Vec<(&[u8], &[u8])> = vars.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        if all {
            vars.push((&every_byte, &every_byte));
        }
        is_in_the_environ(&vars);
    }

    /// Requests with the same names share what they have in common.
    #[test]
    fn the_environ_of_one_request_shows_nothing_of_another(
        names in subsequence(&SHARED[..], 0..=SHARED.len()).prop_shuffle(),
        extra in option::of(name()),
        requests in vec(vec(select(&VALUES[..]), SHARED.len() + 1), 3..9),
    ) {
        for values in requests {
            let names = names.iter().copied().chain(extra.as_deref());
            let vars: Vec<_> = names.zip(values).collect();
            is_in_the_environ(&vars);
        }
    }
}

#[test]
fn threads_share_what_their_requests_have_in_common() {
    thread::scope(|scope| {
        for addr in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            scope.spawn(move || {
                for n in 0..100 {
                    let scheme: &[u8] = if n % 3 == 0 { b"https" } else { b"http" };
                    is_in_the_environ(&[
                        (b"REMOTE_ADDR", addr.as_bytes()),
                        (b"REQUEST_SCHEME", scheme),
                        (b"HTTP_X", n.to_string().as_bytes()),
                    ]);
                }
            });
        }
    });
}

/// The environ has these vars and nothing else, byte for byte.
fn is_in_the_environ(vars: &[(&[u8], &[u8])]) {
    let outcome = request(echo(), with_vars(vars));
    outcome.is_clean();
    let body = outcome.body();
    let mut got: BTreeMap<_, _> = body
        .split('\n')
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (points(name), points(value))
        })
        .collect();
    // PEP 3333 wants these; a later var of the same name replaces one.
    let mut want = BTreeMap::new();
    for name in ["SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"] {
        want.insert(name.as_bytes().to_vec(), Vec::new());
    }
    for (name, value) in vars.iter().filter(|(name, _)| !name.starts_with(b"wsgi.")) {
        want.insert(name.to_vec(), value.to_vec());
    }
    let scheme = got.remove(&b"wsgi.url_scheme"[..]).unwrap();
    assert_eq!(got, want);
    let is_secure = vars.iter().any(|(name, value)| {
        let value = value.to_ascii_lowercase();
        match *name {
            b"HTTPS" => [&b"on"[..], b"1", b"https", b"true"].contains(&&value[..]),
            b"REQUEST_SCHEME" => value == b"https",
            _ => false,
        }
    });
    assert_eq!(scheme, if is_secure { &b"https"[..] } else { b"http" });
}
