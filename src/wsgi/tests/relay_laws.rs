//! What must hold for any message of another worker.
//!
//! Used by the properties in `relay` and by the fuzzers in `t/fuzz`.

use std::fs::File;

use crate::wsgi::relay::message::Message;
use crate::wsgi::relay::packet::{MAX_PACKET, cut, pack, unpack};

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

/// The same of packets. What comes without its descriptors is the same but for its last message.
pub fn a_packet_has_one_form(bytes: &[u8], fds: usize) {
    let files = (0..fds).map(|_| File::open("/dev/null").expect("it is there").into()).collect();
    let messages: Result<Vec<_>, _> = unpack(bytes, files).collect();
    if let Ok(messages) = &messages
        && !messages.is_empty()
        && bytes.len() <= MAX_PACKET
    {
        let mut again = Vec::new();
        let (count, passed) = pack(messages, &mut again);
        assert_eq!((count, passed.len()), (messages.len(), fds));
        assert!(again == bytes, "{messages:?} are {again:?}, not {bytes:?}");
    }
    if let Ok((before, last)) = cut(bytes) {
        assert!(before.len() + last.len() < bytes.len() && bytes.ends_with(last));
        if let Ok(messages) = &messages {
            assert_eq!(unpack(before, Vec::new()).count() + 1, messages.len());
            let id = messages.last().map(|message| message.id);
            assert_eq!(Message::about(last).map(|(id, _)| id), id);
        }
    } else {
        assert!(messages.is_err() || bytes.is_empty());
    }
}
