//! What another worker says: anything is read without harm, and what is read has no other form.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [fds, bytes @ ..] = data {
        fuzz::relay_laws::a_message_has_one_form(bytes, usize::from(*fds) % 4);
        fuzz::relay_laws::a_packet_has_one_form(bytes, usize::from(*fds) % 4);
    }
});
