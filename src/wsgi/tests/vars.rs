//! The columns of uwsgi vars.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};
use proptest::sample::Index;

use super::{borrowed, bytes, cases, laws};
use crate::wsgi::request::vars::{Vars, VarsWriter};

#[test]
fn names_and_values_of_every_length_come_back() {
    for name in [0, 1, 255, 256, 65534, 65535, 65536, 65537, 131_072] {
        for value in [0, 1, 255, 256, 65534, 65535, 65536, 65537, (1 << 20) - 1, 1 << 20] {
            let (name, value) = (vec![b'n'; name], vec![b'v'; value]);
            laws::vars_come_back(&[(b"A", b"1"), (&name, &value), (&value, &name), (b"B", b"2")]);
        }
    }
}

/// Columns as the layout has them, not as the writer makes them.
fn columns() -> impl Strategy<Value = [Vec<u8>; 2]> {
    vec((bytes(40), bytes(40)), 0..5).prop_map(|list| {
        let [mut names, mut values] = [const { Vec::new() }; 2];
        for (name, value) in list {
            names.extend([name.len() as u8, 0]);
            names.extend(name);
            values.extend([value.len() as u8, 0, 0, 0]);
            values.extend(value);
        }
        [names, values]
    })
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn any_list_of_vars_comes_back(list in vec((bytes(20), bytes(300)), 0..20)) {
        laws::vars_come_back(&borrowed(&list));
    }

    #[test]
    fn vars_are_written_over_others_without_a_trace(
        lists in vec(vec((bytes(20), bytes(300)), 0..9), 1..4),
        keeps in any::<bool>(),
    ) {
        let mut kept = Vec::new();
        let mut vars = Vars::default();
        for list in &lists {
            let mut writer = VarsWriter::over(vars);
            for (name, value) in list {
                writer.push(name, value).unwrap();
            }
            vars = writer.finish();
            assert!(vars.iter().eq(borrowed(list)));
            kept.extend(keeps.then(|| vars.clone()));
            assert_eq!(vars.is_free(), !keeps);
        }
        for (vars, list) in kept.iter().zip(&lists) {
            assert!(vars.iter().eq(borrowed(list)), "a clone has changed");
        }
    }

    #[test]
    fn a_known_name_is_written_as_any_other(value in bytes(300)) {
        let [mut known, mut other] = [const { VarsWriter::default }; 2].map(|new| new());
        known.push_known(b"NAME", &value).unwrap();
        other.push(b"NAME", &value).unwrap();
        let (known, other) = (known.finish(), other.finish());
        assert_eq!(known.names(), other.names());
        assert!(known.iter().eq(other.iter()));
    }

    #[test]
    fn the_layout_is_read_to_its_end([names, values] in columns()) {
        laws::any_columns_are_read(&names, &values);
    }

    #[test]
    fn damaged_columns_are_read_up_to_the_damage(
        mut columns in columns(),
        ends in any::<[Index; 2]>(),
        damage in vec((any::<bool>(), any::<Index>(), any::<u8>()), 0..3),
    ) {
        for (column, end) in columns.iter_mut().zip(ends) {
            column.truncate(end.index(column.len() + 1));
        }
        for (which, place, byte) in damage {
            let column = &mut columns[usize::from(which)];
            if !column.is_empty() {
                let place = place.index(column.len());
                column[place] = byte;
            }
        }
        laws::any_columns_are_read(&columns[0], &columns[1]);
    }

    #[test]
    fn any_bytes_are_read_as_far_as_they_go(names in bytes(200), values in bytes(200)) {
        laws::any_columns_are_read(&names, &values);
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
