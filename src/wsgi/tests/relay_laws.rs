//! What must hold for any message of another worker.
//!
//! Used by the properties in `relay` and by the fuzzers in `t/fuzz`.

use std::fs::File;

use crate::wsgi::relay::message::Message;

/// Whatever comes is refused, or it is exactly what would be written for what it is taken for.
pub fn a_message_has_one_form(bytes: &[u8], fds: usize) {
    let files = (0..fds).map(|_| File::open("/dev/null").expect("it is there").into()).collect();
    if let Ok(message) = Message::decode(bytes, files) {
        let mut again = Vec::new();
        let passed = message.encode(&mut again).len();
        assert!(again == bytes, "{message:?} is {again:?}, not {bytes:?}");
        assert_eq!(passed, fds, "descriptors of {message:?}");
    }
}
