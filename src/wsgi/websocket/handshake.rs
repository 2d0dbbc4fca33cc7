//! The server's part of the opening handshake: RFC 6455 section 4.2.
//!
//! That the request is an upgrade to WebSocket has been found out before (`src/nginx`); here are its
//! key, its version and its subprotocols.
//! Runs on: either.

use std::fmt;

/// What is appended to the client's key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The only version there is.
pub const VERSION: &str = "13";

/// Why a handshake is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No Sec-WebSocket-Key, several, or one that is not 16 bytes in base64.
    Key,
    /// Another Sec-WebSocket-Version, or none.
    Version,
}

impl Refusal {
    /// Status and reason of the response; with 426 goes a Sec-WebSocket-Version of [`VERSION`].
    pub fn reason(self) -> &'static str {
        match self {
            Self::Key => "400 Bad Request",
            Self::Version => "426 Upgrade Required",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "client sent invalid \"Sec-WebSocket-Key\" header",
            Self::Version => "client sent unsupported \"Sec-WebSocket-Version\" header",
        })
    }
}

/// What the client's request says; as in the environ, where fields of one name are joined.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offer<'a> {
    pub key: Option<&'a [u8]>,
    pub version: Option<&'a [u8]>,
    pub protocols: Option<&'a [u8]>,
}

/// The response to a good request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    accept: String,
    protocol: Option<String>,
}

impl Accepted {
    /// Names and values of the response's header fields; those of every 101 are not among them.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let protocol = self.protocol.as_deref();
        [("Sec-WebSocket-Accept", self.accept.as_str())]
            .into_iter()
            .chain(protocol.map(|protocol| ("Sec-WebSocket-Protocol", protocol)))
    }

    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }
}

impl Offer<'_> {
    /// The answer, with the subprotocol that the application has chosen: without one the first of
    /// the client's, as a browser fails a connection on which it has asked for some and got none.
    pub fn accept(&self, chosen: Option<&str>) -> Result<Accepted, Refusal> {
        if self.version.map(<[u8]>::trim_ascii) != Some(VERSION.as_bytes()) {
            return Err(Refusal::Version);
        }
        let key = self.key.map(<[u8]>::trim_ascii).filter(|key| is_key(key)).ok_or(Refusal::Key)?;
        let first = || {
            let first =
                self.protocols?.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).next()?;
            is_token(first).then(|| String::from_utf8_lossy(first).into_owned())
        };
        let protocol = chosen.map(str::to_owned).or_else(first);
        Ok(Accepted { accept: accept(key), protocol })
    }
}

/// The value of Sec-WebSocket-Accept.
fn accept(key: &[u8]) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key);
    hash.update(GUID);
    base64(&hash.digest().bytes())
}

/// Whether these are 16 bytes in base64 (RFC 6455 section 4.1): 22 characters and the padding.
fn is_key(key: &[u8]) -> bool {
    let [digits @ .., b'=', b'='] = key else { return false };
    digits.len() == 22 && digits.iter().all(|digit| ALPHABET.contains(digit))
}

/// RFC 9110 section 5.6.2: what a subprotocol may be.
pub fn is_token(name: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(tchar)
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let of = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 0x3f;
            let there = digit <= group.len();
            text.push(if there { char::from(ALPHABET[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

    fn offer(key: &'static [u8], version: &'static [u8]) -> Offer<'static> {
        Offer { key: Some(key), version: Some(version), protocols: None }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn the_sample_of_rfc_6455_is_accepted() {
        let accepted = offer(KEY, b"13").accept(None).unwrap();
        let fields: Vec<_> = accepted.fields().collect();
        assert_eq!(fields, [("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]);
    }

    #[test]
    fn another_version_is_told_which_there_is() {
        for version in [&b""[..], b"8", b"14", b"013", b"13, 13", b"13,8"] {
            let offer = Offer { version: Some(version), ..offer(KEY, b"") };
            assert_eq!(offer.accept(None), Err(Refusal::Version));
        }
        assert_eq!(Offer::default().accept(None), Err(Refusal::Version));
        assert_eq!(Refusal::Version.reason(), "426 Upgrade Required");
    }

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        for key in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZQ=a",
            b"dGhlIHNhbXBsZSBub25jZ===",
            b"dGhlIHNhbXBsZSBub25jZSE=",
            b"dGhlIHNhbXBsZSBub2 jZQ==",
            b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            let offer = Offer { key: Some(key), ..offer(b"", b"13") };
            assert_eq!(offer.accept(None), Err(Refusal::Key));
        }
        assert_eq!(Refusal::Key.reason(), "400 Bad Request");
        assert!(offer(b" dGhlIHNhbXBsZSBub25jZQ== ", b" 13").accept(None).is_ok());
    }

    #[test]
    fn the_application_chooses_the_subprotocol_or_the_client_does() {
        let with =
            |protocols: &'static [u8]| Offer { protocols: Some(protocols), ..offer(KEY, b"13") };
        let protocol = |offer: Offer, chosen| {
            let accepted = offer.accept(chosen).unwrap();
            accepted.protocol().map(str::to_owned)
        };
        assert_eq!(protocol(with(b"chat, superchat"), None).as_deref(), Some("chat"));
        assert_eq!(
            protocol(with(b"chat, superchat"), Some("superchat")).as_deref(),
            Some("superchat")
        );
        assert_eq!(protocol(with(b""), None), None);
        assert_eq!(protocol(with(b"a b, c"), None), None);
        assert_eq!(protocol(offer(KEY, b"13"), None), None);
        let accepted = with(b"chat").accept(None).unwrap();
        assert_eq!(accepted.fields().last(), Some(("Sec-WebSocket-Protocol", "chat")));
    }
}
