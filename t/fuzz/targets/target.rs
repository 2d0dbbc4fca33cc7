//! The argument of `wsgi_app`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| fuzz::laws::a_target_means_what_it_says(text));
