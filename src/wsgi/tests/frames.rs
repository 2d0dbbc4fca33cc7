//! WebSocket frames, good ones and others, in pieces of any size.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::frame_laws::{MAX, frames_are_those_of_rfc_6455};
use super::{bytes, cases, select, vec};

/// A frame as clients send them, or one that has something wrong.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        9 => select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        1 => Just(0x88),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        3 => "[a-zß€𝄞]{0,9}".prop_map(String::into_bytes),
        1 => bytes(130),
        1 => bytes(MAX + 9),
        1 => (0..5000_u16, bytes(4)).prop_map(|(code, rest)| [&code.to_be_bytes()[..], &rest].concat()),
    ];
    (first, payload, any::<[u8; 4]>(), 0..20_u8, 0..4_usize).prop_map(
        |(first, payload, mask, odd, cut)| {
            let masked = if odd == 1 { 0 } else { 0x80 };
            let mut frame = vec![first];
            match payload.len() {
                len @ 0..=125 => frame.push(masked | len as u8),
                len => {
                    frame.push(masked | 126);
                    frame.extend((len as u16).to_be_bytes());
                }
            }
            if masked == 0 {
                frame.extend(&payload);
            } else {
                frame.extend(mask);
                frame.extend(
                    payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask),
                );
            }
            if odd == 2 {
                frame.truncate(frame.len() - cut.min(frame.len()));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn frames_do_not_depend_on_pieces(
        frames in vec(frame(), 0..12),
        sizes in vec(0..40_usize, 1..5),
    ) {
        frames_are_those_of_rfc_6455(&frames.concat(), &sizes);
    }

    #[test]
    fn any_bytes_are_taken_without_harm(bytes in bytes(300), sizes in vec(0..9_usize, 1..5)) {
        frames_are_those_of_rfc_6455(&bytes, &sizes);
    }
}
