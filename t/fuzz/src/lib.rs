//! The sources that need neither nginx nor Python, and the laws they are fuzzed against.

#[path = "../../../src/wsgi/mod.rs"]
pub mod wsgi;

#[path = "../../../src/wsgi/tests/frame_laws.rs"]
pub mod frame_laws;

#[path = "../../../src/wsgi/tests/laws.rs"]
pub mod laws;

#[path = "../../../src/wsgi/tests/line_laws.rs"]
pub mod line_laws;

#[path = "../../../src/wsgi/tests/relay_laws.rs"]
pub mod relay_laws;

/// The parts of one input. Its first byte divides them, so that any byte may stand in a part.
pub fn parts(data: &[u8]) -> Vec<&[u8]> {
    match data {
        [divider, rest @ ..] => rest.split(|byte| byte == divider).collect(),
        [] => Vec::new(),
    }
}

/// The parts by twos.
pub fn pairs<'a>(parts: &[&'a [u8]]) -> Vec<(&'a [u8], &'a [u8])> {
    parts.chunks(2).map(|pair| (pair[0], pair.get(1).copied().unwrap_or_default())).collect()
}
