//! Status and headers: PEP 3333, "The start_response() Callable"; RFC 9110 section 5.

use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_oneof, proptest};

use super::{borrowed, bytes, cases, laws, nearly};

fn status() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        nearly(&[b"200 OK", b"404", b"299 ", b"599 Sm\xf6rg\tas", b"100 Continue", b"600 x"]),
        bytes(8),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => nearly(&[
            b"X", b"Content-Type", b"Set-Cookie", b"content-length", b"Connection", b"TE",
            b"Trailer", b"Proxy-Connection", b"Transfer-Encoding", b"Keep-Alive", b"upgrade",
        ]),
        1 => bytes(12),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        nearly(&[b"", b"text/html; charset=utf-8", b"a=1", b"v\r\nX-Injected: 1\r\n\r\nbody"]),
        nearly(LENGTHS),
        bytes(30),
    ]
}

const LENGTHS: &[&[u8]] = &[
    b"0",
    b"5",
    b"007",
    b"-1",
    b"+5",
    b" 5",
    b"5, 5",
    b"0x10",
    b"18446744073709551616",
    b"9223372036854775807",
    b"9223372036854775808",
    b"000000000000000000009223372036854775807",
];

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_head_is_what_was_asked_for(status in status(), fields in vec((name(), value()), 0..6)) {
        laws::a_head_is_what_was_asked_for(&status, &borrowed(&fields));
        // With a good status the fields are looked at in each case.
        laws::a_head_is_what_was_asked_for(b"200 OK", &borrowed(&fields));
    }

    #[test]
    fn a_content_length_is_digits_that_fit(values in vec(nearly(LENGTHS), 1..3)) {
        let fields: Vec<_> = values.iter().map(|v| (&b"Content-Length"[..], &v[..])).collect();
        laws::a_head_is_what_was_asked_for(b"200", &fields);
    }
}

#[test]
fn every_byte_is_right_or_wrong_in_each_place() {
    for byte in 0..=255 {
        for place in 0..=6 {
            let mut status = b"200 OK".to_vec();
            status.insert(place, byte);
            laws::a_head_is_what_was_asked_for(&status, &[]);
        }
        for text in [&[byte][..], &[b'a', byte], &[byte, b'a'], &[b'a', byte, b'a']] {
            let fields = [(text, &b"v"[..]), (b"X", text), (b"Content-Length", text)];
            laws::a_head_is_what_was_asked_for(b"200 OK", &fields);
        }
    }
}

#[test]
fn values_of_every_length_are_right_or_wrong() {
    for len in [0, 1, 255, 256, 65534, 65535, 65536, 65537, 1 << 20] {
        let fields = [(&b"X"[..], &vec![b'v'; len][..]), (b"Y", b"y")];
        laws::a_head_is_what_was_asked_for(b"200 OK", &fields);
    }
}
