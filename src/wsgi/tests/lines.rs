//! Log lines, whatever is written and in however many writes.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use super::{bytes, cases, line_laws};

const WORDS: [&[u8]; 18] = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\t",
    b"\x1b[31m",
    b"\x1b",
    b"[1;",
    b"m",
    b"\0",
    b"x",
    b"\xc3",
    b"\xa9",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa9",
    b"\xf0\x9f\x98",
    b"\x80",
    "\u{85}\u{20ac}\u{1f600}".as_bytes(),
    b"\xed\xa0\x80",
];

fn write() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(select(&WORDS[..]), 0..9).prop_map(|words| words.concat()),
        2 => bytes(50),
        1 => any::<String>().prop_map(String::into_bytes),
        // Around the longest line.
        1 => (select(&WORDS[..]), 120..1100usize).prop_map(|(word, times)| word.repeat(times)),
    ]
}

fn long_write() -> impl Strategy<Value = Vec<u8>> {
    let chars = select(&["x", "\u{e9}", "\u{20ac}", "\u{1f600}", "\u{1b}", "\u{1b}[1m"][..]);
    (chars, 1..40_000usize).prop_map(|(char, times)| char.repeat(times).into_bytes())
}

fn check(writes: &[Vec<u8>]) {
    let writes: Vec<&[u8]> = writes.iter().map(|write| &write[..]).collect();
    line_laws::lines_do_not_depend_on_writes(&writes);
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn lines_do_not_depend_on_how_they_are_written(writes in vec(write(), 0..12)) {
        check(&writes);
    }
}

proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn nothing_is_lost_of_lines_without_an_end(
        writes in vec(long_write(), 1..5),
        cut in 1..4usize,
    ) {
        // Cut anew, so that characters are divided between writes.
        let writes = writes.concat();
        check(&writes.chunks(writes.len() / 3 + cut).map(<[u8]>::to_vec).collect::<Vec<_>>());
    }
}
