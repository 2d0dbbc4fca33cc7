//! Properties: what holds for any input, tried with random ones.
//!
//! `laws` says what holds; the fuzzers in `t/fuzz` use it too. The others draw the input.

mod body;
mod frame_laws;
mod frames;
mod head;
mod laws;
mod line_laws;
mod lines;
mod relay;
mod relay_laws;
mod target;
mod vars;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any};
use proptest::sample::{Index, select};

/// This many inputs, or PROPTEST_CASES. What breaks a property is printed, and not kept in the
/// source tree.
pub fn cases(cases: u32) -> ProptestConfig {
    let given = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        given
    } else {
        ProptestConfig { cases, ..given }
    }
}

/// Any bytes, fewer than `len`.
pub fn bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..len)
}

/// One of these words, with up to three bytes replaced, added or taken away.
fn nearly(words: &[&'static [u8]]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let change = (0..3, any::<Index>(), any::<u8>());
    (select(words.to_vec()), vec(change, 0..4)).prop_map(|(word, changes)| {
        let mut word = word.to_vec();
        for (kind, place, byte) in changes {
            match kind {
                0 => word.insert(place.index(word.len() + 1), byte),
                1 if !word.is_empty() => drop(word.remove(place.index(word.len()))),
                2 if !word.is_empty() => {
                    let place = place.index(word.len());
                    word[place] = byte;
                }
                _ => (),
            }
        }
        word
    })
}

/// The type that laws take.
fn borrowed(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect()
}
