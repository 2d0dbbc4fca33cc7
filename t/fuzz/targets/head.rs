//! Status and headers of an application: nothing gets through that was not asked for.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [status, fields @ ..] = &fuzz::parts(data)[..] {
        // More of them would only cost time.
        let fields = &fields[..fields.len().min(8)];
        fuzz::laws::a_head_is_what_was_asked_for(status, &fuzz::pairs(fields));
    }
});
