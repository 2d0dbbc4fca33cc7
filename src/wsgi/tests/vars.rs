//! The block of uwsgi vars.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};
use proptest::sample::Index;

use super::{borrowed, bytes, cases, laws};
use crate::wsgi::vars::VarsWriter;

#[test]
fn names_and_values_of_every_length_come_back() {
    for name in [0, 1, 255, 256, 65534, 65535, 65536, 65537, 131_072] {
        for value in [0, 1, 255, 256, 65534, 65535, 65536, 65537, (1 << 20) - 1, 1 << 20] {
            let (name, value) = (vec![b'n'; name], vec![b'v'; value]);
            laws::vars_come_back(&[(b"A", b"1"), (&name, &value), (&value, &name), (b"B", b"2")]);
        }
    }
}

/// A block as the layout has it, not as the writer makes it.
fn block() -> impl Strategy<Value = Vec<u8>> {
    vec((bytes(40), bytes(40)), 0..5).prop_map(|list| {
        let mut block = Vec::new();
        for (name, value) in list {
            block.extend([name.len() as u8, 0]);
            block.extend(name);
            block.extend([value.len() as u8, 0, 0, 0]);
            block.extend(value);
        }
        block
    })
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn any_list_of_vars_comes_back(list in vec((bytes(20), bytes(300)), 0..20)) {
        laws::vars_come_back(&borrowed(&list));
    }

    #[test]
    fn the_layout_is_read_to_its_end(block in block()) {
        laws::any_block_is_read(&block);
    }

    #[test]
    fn a_damaged_block_is_read_up_to_the_damage(
        mut block in block(),
        end in any::<Index>(),
        damage in vec((any::<Index>(), any::<u8>()), 0..3),
    ) {
        block.truncate(end.index(block.len() + 1));
        for (place, byte) in damage.iter().filter(|_| !block.is_empty()).collect::<Vec<_>>() {
            let place = place.index(block.len());
            block[place] = *byte;
        }
        laws::any_block_is_read(&block);
    }

    #[test]
    fn any_bytes_are_read_as_far_as_they_go(block in bytes(200)) {
        laws::any_block_is_read(&block);
    }

    #[test]
    fn the_name_of_a_header_is_upper_case_without_dashes(name in bytes(40), value in bytes(9)) {
        let mut writer = VarsWriter::default();
        writer.push_header(&name, &value).unwrap();
        let want: Vec<u8> = b"HTTP_".iter().chain(&name).map(|b| match b {
            b'a'..=b'z' => b - 32,
            b'-' => b'_',
            b => *b,
        }).collect();
        assert!(writer.finish().iter().eq([(&want[..], &value[..])]));
    }
}
