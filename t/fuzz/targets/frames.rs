//! What clients send on a WebSocket, in pieces of any size.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [first, second, bytes @ ..] = data {
        let sizes = [usize::from(*first), usize::from(*second)];
        fuzz::frame_laws::frames_are_those_of_rfc_6455(bytes, &sizes);
    }
});
