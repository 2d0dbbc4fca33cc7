//! The vars of a request: any block is read without harm, and any list comes back.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::laws::any_block_is_read(data);
    fuzz::laws::vars_come_back(&fuzz::pairs(&fuzz::parts(data)));
});
