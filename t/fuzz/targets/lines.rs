//! What applications write to the error log, in writes of any size.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::line_laws::lines_do_not_depend_on_writes(&fuzz::parts(data));
});
