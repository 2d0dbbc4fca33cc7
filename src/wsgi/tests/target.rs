//! The argument of `wsgi_app`.

use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::sample::select;

use super::{cases, laws};

const PIECES: [&str; 20] = [
    "a",
    "b1",
    "_",
    "é",
    ".",
    "..",
    ":",
    "/",
    "()",
    "(",
    "$",
    " ",
    "7",
    "/srv/x.py",
    ".py",
    "a.b:app",
    "paste:",
    "#",
    ")",
    "('x:', y=1)",
];

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn a_target_made_of_pieces_means_what_it_says(pieces in vec(select(&PIECES[..]), 0..8)) {
        laws::a_target_means_what_it_says(&pieces.concat());
    }

    #[test]
    fn any_text_is_a_target_or_refused(text in any::<String>()) {
        laws::a_target_means_what_it_says(&text);
    }
}
