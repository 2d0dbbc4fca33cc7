//! The vars of a request: any columns are read without harm, and any list comes back.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [divider, rest @ ..] = data {
        let (names, values) = rest.split_at(usize::from(*divider).min(rest.len()));
        fuzz::laws::any_columns_are_read(names, values);
    }
    fuzz::laws::vars_come_back(&fuzz::pairs(&fuzz::parts(data)));
});
