//! The environ dict of any vars. PEP 3333, "Unicode Issues": a character for each byte.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

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
    assert e.pop('wsgi.url_scheme') in ('http', 'https')
    lines = [points(k) + '=' + points(v) for k, v in e.items() if k[:5] != 'wsgi.']
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
        // PEP 3333 wants these; a later var of the same name replaces one.
        let mut want = BTreeMap::new();
        for name in ["SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"] {
            want.insert(name.as_bytes().to_vec(), Vec::new());
        }
        for (name, value) in vars.iter().filter(|(name, _)| !name.starts_with(b"wsgi.")) {
            want.insert(name.to_vec(), value.to_vec());
        }

        let outcome = request(echo(), with_vars(&vars));
        outcome.is_clean();
        let body = outcome.body();
        let got: BTreeMap<_, _> = body.split('\n').map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (points(name), points(value))
        }).collect();
        assert_eq!(got, want);
    }
}
