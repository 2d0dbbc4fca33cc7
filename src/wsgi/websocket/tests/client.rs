//! A client's frames, written and read in another way than the module's.
//!
//! Runs on: test threads.

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(first: u8, payload: &[u8]) -> Self {
        Self { first, payload: payload.to_vec() }
    }

    /// A close frame.
    pub fn close(code: u16) -> Self {
        Self::new(0x88, &code.to_be_bytes())
    }
}

const MASK: [u8; 4] = [0xa5, 0x00, 0xff, 0x3c];

/// A masked frame with this first byte: FIN, reserved bits, and what it is.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64, true);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The header alone, with the mask.
pub fn header(first: u8, len: u64, masked: bool) -> Vec<u8> {
    let mut bytes = vec![first];
    let bit = if masked { 0x80 } else { 0 };
    match len {
        0..=125 => bytes.push(bit | len as u8),
        126..=0xffff => {
            bytes.push(bit | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(bit | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    if masked {
        bytes.extend(MASK);
    }
    bytes
}

pub fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

pub fn close(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes())
}

/// What a server has sent; panics on anything that a client would not take.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        assert!(len & 0x80 == 0, "masked");
        let (len, rest) = match len {
            126 => {
                let len = u16::from_be_bytes([rest[0], rest[1]]);
                assert!(len > 125, "not the shortest form");
                (u64::from(len), &rest[2..])
            }
            127 => {
                let len = u64::from_be_bytes(rest[..8].try_into().unwrap());
                assert!(len > 0xffff, "not the shortest form");
                (len, &rest[8..])
            }
            len => (u64::from(*len), rest),
        };
        assert!(first & 0x70 == 0, "reserved bits");
        assert!(first & 0x08 == 0 || (len < 126 && first & 0x80 != 0), "control frame");
        let (payload, rest) = rest.split_at(len as usize);
        found.push(Frame::new(*first, payload));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a header");
    found
}
