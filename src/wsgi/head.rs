//! Status and headers of a response, with the checks of PEP 3333 as pure functions.
//!
//! Filled by `src/python/response/start_response.rs`, turned into nginx's `headers_out` by
//! `src/nginx/response/`. PEP 3333, "The start_response() Callable"; RFC 9110 sections 5 and 15.
//! Runs on: pool thread (filled), event loop (read).

use super::error::HeadError;

/// Longest name, and longest value, of a header in bytes.
pub const MAX_LEN: usize = 65535;

/// What a name means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Of the connection: not the application's (PEP 3333, "Other HTTP Features").
    HopByHop,
    ContentLength,
    Redirect,
    Buffering,
    Plain,
}

impl Meaning {
    /// Most names are told by their length.
    fn of(name: &[u8]) -> Self {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is(b"te") => Self::HopByHop,
            7 if is(b"trailer") || is(b"upgrade") => Self::HopByHop,
            10 if is(b"connection") || is(b"keep-alive") => Self::HopByHop,
            14 if is(b"content-length") => Self::ContentLength,
            16 if is(b"proxy-connection") => Self::HopByHop,
            16 if is(b"x-accel-redirect") => Self::Redirect,
            17 if is(b"transfer-encoding") => Self::HopByHop,
            17 if is(b"x-accel-buffering") => Self::Buffering,
            18 if is(b"proxy-authenticate") => Self::HopByHop,
            19 if is(b"proxy-authorization") => Self::HopByHop,
            _ => Self::Plain,
        }
    }
}

/// A checked head. All of it lies in one block: the status line, then names and values, each with
/// its length in front (two bytes, little endian).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    code: u16,
    status_len: usize,
    block: Vec<u8>,
    content_length: Option<u64>,
    redirect: bool,
    buffering: Option<bool>,
    file: bool,
}

impl ResponseHead {
    /// `status`: `200` or `200 OK`.
    pub fn new(status: &[u8]) -> Result<Self, HeadError> {
        Self::new_in(Vec::new(), status)
    }

    /// The same in this block, which is empty.
    pub fn new_in(mut block: Vec<u8>, status: &[u8]) -> Result<Self, HeadError> {
        let code = parse_status(status)?;
        block.reserve(256);
        block.extend_from_slice(status);
        Ok(Self {
            code,
            status_len: status.len(),
            block,
            content_length: None,
            redirect: false,
            buffering: None,
            file: false,
        })
    }

    /// The memory of what is not needed any more.
    pub fn into_block(self) -> Vec<u8> {
        self.block
    }

    /// 101, with which an application takes its connection over (RFC 9110 section 15.2.2). Of what
    /// belongs to the connection Upgrade alone stays; nginx says the rest itself.
    pub fn switching<'a>(
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, HeadError> {
        const STATUS: &[u8] = b"101 Switching Protocols";
        let mut head = Self {
            code: 101,
            status_len: STATUS.len(),
            block: STATUS.to_vec(),
            content_length: None,
            redirect: false,
            buffering: None,
            file: false,
        };
        for (name, value) in fields {
            check_name(name)?;
            check_value(name, value)?;
            let is_upgrade = name.eq_ignore_ascii_case(b"upgrade");
            match Meaning::of(name) {
                Meaning::HopByHop if !is_upgrade => (),
                Meaning::ContentLength => (),
                _ => head.append(name, value.trim_ascii()),
            }
        }
        Ok(head)
    }

    /// Appends one header. Content-Length is kept apart, see [`Self::content_length`]. White space
    /// around a value is none of it, and malformed in HTTP/2 (RFC 9110 section 5.5).
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        check_name(name)?;
        let meaning = Meaning::of(name);
        if meaning == Meaning::HopByHop {
            return Err(HeadError::HopByHop(lossy(name)));
        }
        check_value(name, value)?;
        let text = value.trim_ascii();
        match meaning {
            Meaning::ContentLength if self.content_length.is_some() => {
                return Err(HeadError::ContentLengthTwice);
            }
            Meaning::ContentLength => {
                self.content_length = Some(parse_content_length(value)?);
                return Ok(());
            }
            Meaning::Redirect => self.redirect = true,
            Meaning::Buffering => self.buffering = parse_buffering(text).or(self.buffering),
            Meaning::HopByHop | Meaning::Plain => (),
        }
        self.append(name, text);
        Ok(())
    }

    /// What a 426 has to name (RFC 9110 sections 7.8 and 15.5.22): the server's own, not an
    /// application's.
    pub fn name_upgrade(&mut self, protocol: &[u8]) {
        self.append(b"Upgrade", protocol);
        self.append(b"Connection", b"upgrade");
    }

    /// Appends what has been checked, also against the limits of both.
    fn append(&mut self, name: &[u8], text: &[u8]) {
        for part in [name, text] {
            let len = part.len() as u16;
            self.block.extend_from_slice(&len.to_le_bytes());
            self.block.extend_from_slice(part);
        }
    }

    /// The length the server found out by itself.
    pub fn set_content_length(&mut self, length: u64) {
        self.content_length = Some(length);
    }

    /// The body is a file, so that the server can send any part of it.
    pub fn set_file(&mut self) {
        self.file = true;
    }

    pub fn is_file(&self) -> bool {
        self.file
    }

    /// Three digits, 200 to 599, or 101.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Code and reason as the application gave them; the reason may be missing.
    pub fn status(&self) -> &[u8] {
        &self.block[..self.status_len]
    }

    /// Bytes of the status, and of names and values with their lengths.
    pub fn block_len(&self) -> usize {
        self.block.len()
    }

    /// Names and values in the application's order, without Content-Length.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.block[self.status_len..];
        let mut part = move || {
            let (len, tail) = rest.split_first_chunk::<2>()?;
            let (part, tail) = tail.split_at_checked(u16::from_le_bytes(*len).into())?;
            rest = tail;
            Some(part)
        };
        std::iter::from_fn(move || Some((part()?, part()?)))
    }

    /// Length of the body in bytes, if it is known.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// nginx is sent elsewhere for the body, by X-Accel-Redirect.
    pub fn is_redirect(&self) -> bool {
        self.redirect
    }

    /// X-Accel-Redirect is not obeyed here: it is a header like any other.
    pub fn ignore_redirect(&mut self) {
        self.redirect = false;
    }

    /// What X-Accel-Buffering says, if it is there.
    pub fn buffering(&self) -> Option<bool> {
        self.buffering
    }

    /// False for the codes that never have a body (RFC 9110 sections 15.2, 15.3.5, 15.3.6, 15.4.5), and
    /// with X-Accel-Redirect: the body comes from where nginx is sent to.
    pub fn allows_body(&self) -> bool {
        !self.redirect && !matches!(self.code, 101 | 204 | 205 | 304)
    }
}

/// The code of `200` or `200 OK`.
fn parse_status(status: &[u8]) -> Result<u16, HeadError> {
    let syntax = || HeadError::StatusSyntax(lossy(status));
    let (digits, rest) = status.split_first_chunk::<3>().ok_or_else(syntax)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(rest.first(), None | Some(b' ')) {
        return Err(syntax());
    }
    if rest.iter().any(|b| is_control(*b)) {
        return Err(syntax());
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    if !(200..600).contains(&code) {
        return Err(HeadError::StatusRange(code));
    }
    Ok(code)
}

fn check_name(name: &[u8]) -> Result<(), HeadError> {
    if name.len() > MAX_LEN {
        return Err(HeadError::HeaderNameTooLong(name.len()));
    }
    if name.is_empty() || !name.iter().all(|b| TCHARS[usize::from(*b)]) {
        return Err(HeadError::HeaderName(lossy(name)));
    }
    Ok(())
}

fn check_value(name: &[u8], value: &[u8]) -> Result<(), HeadError> {
    if value.len() > MAX_LEN {
        return Err(HeadError::HeaderTooLong(lossy(name)));
    }
    // Without an early end the compiler looks at many bytes at a time.
    if value.iter().fold(false, |found, b| found | is_control(*b)) {
        return Err(HeadError::HeaderValue(lossy(name)));
    }
    Ok(())
}

/// RFC 9110 section 8.6: digits only. Above 2^63-1 nginx's `off_t` would overflow.
fn parse_content_length(value: &[u8]) -> Result<u64, HeadError> {
    let error = || HeadError::ContentLength(lossy(value));
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(error());
    }
    value
        .iter()
        .try_fold(0i64, |n, digit| n.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(error)
}

/// As nginx reads it from an upstream: anything else is no word.
fn parse_buffering(value: &[u8]) -> Option<bool> {
    let is = |word: &[u8]| value.eq_ignore_ascii_case(word);
    if is(b"yes") { Some(true) } else { is(b"no").then_some(false) }
}

/// C0 controls other than tab, and DEL.
fn is_control(b: u8) -> bool {
    (b < 0x20 && b != b'\t') || b == 0x7f
}

/// The characters of a token (RFC 9110 section 5.6.2).
static TCHARS: [bool; 256] = {
    let mut table = [false; 256];
    let tokens = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut n = 0;
    while n < tokens.len() {
        table[tokens[n] as usize] = true;
        n += 1;
    }
    table
};

/// For messages: latin-1, as the application gave it.
fn lossy(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> ResponseHead {
        ResponseHead::new(b"200 OK").unwrap()
    }

    #[test]
    fn good_status_lines() {
        for (status, code) in [
            (&b"200 OK"[..], 200),
            (b"200", 200),
            (b"404 ", 404),
            (b"299 Sm\xf6rg\tas", 299),
            (b"599 x", 599),
        ] {
            let head = ResponseHead::new(status).unwrap();
            assert_eq!((head.code(), head.status()), (code, status));
        }
    }

    #[test]
    fn bad_status_lines() {
        for status in [
            &b""[..],
            b"OK",
            b"20X",
            b"20",
            b"2000 OK",
            b"200OK",
            b" 200 OK",
            b"200\tOK",
            b"200 O\rK",
            b"200 O\nK",
            b"200 O\0K",
            b"-20 x",
            b"+20 x",
        ] {
            assert!(
                matches!(ResponseHead::new(status), Err(HeadError::StatusSyntax(_))),
                "{status:?}"
            );
        }
        for (status, code) in
            [(&b"099 x"[..], 99), (b"100 Continue", 100), (b"101 x", 101), (b"600 x", 600)]
        {
            assert_eq!(ResponseHead::new(status), Err(HeadError::StatusRange(code)));
        }
    }

    #[test]
    fn headers_keep_their_order_and_duplicates() {
        let mut head = head();
        let all =
            [(&b"Set-Cookie"[..], &b"a=1"[..]), (b"X-Empty", b""), (b"Set-Cookie", b"b=\xe9")];
        for (name, value) in all {
            head.push(name, value).unwrap();
        }
        assert_eq!(head.fields().collect::<Vec<_>>(), all);
        assert_eq!(head.status(), b"200 OK");
    }

    #[test]
    fn nothing_can_be_injected() {
        for name in [&b""[..], b"a b", b"a:", b"a\r\nb", b"\xe9", b"a\0", b"(a)", b" a"] {
            assert!(matches!(head().push(name, b"v"), Err(HeadError::HeaderName(_))), "{name:?}");
        }
        for value in [&b"a\r\nb: c"[..], b"a\n", b"\r", b"\0", b"\x0b", b"\x7f"] {
            assert!(
                matches!(head().push(b"X", value), Err(HeadError::HeaderValue(_))),
                "{value:?}"
            );
        }
        assert!(head().push(b"X", &[b'v'; MAX_LEN]).is_ok());
        assert!(head().push(b"X", &[b'v'; MAX_LEN + 1]).is_err());
        let mut long = head();
        long.push(&[b'n'; MAX_LEN], b"v").unwrap();
        assert_eq!(long.fields().collect::<Vec<_>>(), [(&[b'n'; MAX_LEN][..], &b"v"[..])]);
        let error = head().push(&[b'n'; MAX_LEN + 1], b"v").unwrap_err();
        assert_eq!(error, HeadError::HeaderNameTooLong(MAX_LEN + 1));
        assert!(head().push(b"X", b"a\tb").is_ok());
    }

    #[test]
    fn hop_by_hop_headers_are_refused_in_any_case() {
        for name in ["Connection", "keep-alive", "TE", "Transfer-ENCODING", "Upgrade", "Trailer"] {
            assert!(
                matches!(head().push(name.as_bytes(), b"x"), Err(HeadError::HopByHop(_))),
                "{name}"
            );
        }
        assert!(head().push(b"Connection-Id", b"x").is_ok());
    }

    #[test]
    fn content_length_is_digits_once_and_fits() {
        for (value, want) in [
            (&b"0"[..], Some(0)),
            (b"007", Some(7)),
            (b"9223372036854775807", Some(i64::MAX as u64)),
            (b"9223372036854775808", None),
            (b"99999999999999999999999", None),
            (b"", None),
            (b"-1", None),
            (b"+5", None),
            (b" 5", None),
            (b"5 ", None),
            (b"1x", None),
            (b"0x10", None),
            (b"5, 5", None),
        ] {
            let mut head = head();
            let got = head.push(b"content-LENGTH", value).ok().and(head.content_length());
            assert_eq!(got, want, "{value:?}");
        }
        let mut head = head();
        head.push(b"Content-Length", b"5").unwrap();
        assert_eq!(head.push(b"Content-Length", b"5"), Err(HeadError::ContentLengthTwice));
    }

    #[test]
    fn buffering_is_the_last_valid_word() {
        for (values, want) in [
            (&[][..], None),
            (&["no"], Some(false)),
            (&["YES"], Some(true)),
            (&["1"], None),
            (&[""], None),
            (&["no", "yes", "maybe"], Some(true)),
        ] {
            let mut head = head();
            head.push(b"X-Other", b"no").unwrap();
            for value in values {
                head.push(b"x-accel-BUFFERING", value.as_bytes()).unwrap();
            }
            assert_eq!(head.buffering(), want, "{values:?}");
        }
    }
}
