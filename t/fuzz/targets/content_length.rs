//! Content-Length: digits that fit, once.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let fields: Vec<_> =
        fuzz::parts(data).iter().take(3).map(|v| (&b"Content-Length"[..], *v)).collect();
    fuzz::laws::a_head_is_what_was_asked_for(b"200 OK", &fields);
});
