//! The client's header fields as `HTTP_*`: repeated ones joined, ambiguous ones decided.
//!
//! Used by `src/nginx/request/vars.rs`. The cost grows with the number of fields only (times its
//! logarithm): a client decides how many there are. RFC 3875 section 4.1.18, RFC 9110 section 5.3.
//! Runs on: event loop.

use smallvec::SmallVec;

use super::vars::{VarsWriter, header_byte};
use crate::wsgi::error::VarsError;

/// Fields of which a second one would change the meaning of the first if they were joined.
const SINGLE: [&[u8]; 4] = [b"authorization", b"host", b"if-modified-since", b"range"];
/// Fields that reach the application under another name, or never.
const HIDDEN: [&[u8]; 4] = [b"content-length", b"content-type", b"transfer-encoding", b"proxy"];

#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    /// The first bytes of the name as it stands in `HTTP_*`: decides most comparisons.
    prefix: u64,
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Field<'a> {
    fn cgi(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.name.iter().map(|b| header_byte(*b))
    }

    fn is_like(&self, other: &Self) -> bool {
        self.prefix == other.prefix
            && self.name.len() == other.name.len()
            && self.cgi().eq(other.cgi())
    }

    fn is(&self, known: &[u8]) -> bool {
        known.len() == self.name.len() && known.iter().map(|b| header_byte(*b)).eq(self.cgi())
    }

    fn underscores(&self) -> usize {
        self.name.iter().filter(|b| **b == b'_').count()
    }
}

/// The fields of one request.
#[derive(Default)]
pub struct Fields<'a>(SmallVec<[Field<'a>; 24]>);

impl<'a> Fields<'a> {
    pub fn push(&mut self, name: &'a [u8], value: &'a [u8]) {
        let mut prefix = [0; 8];
        for (to, from) in prefix.iter_mut().zip(name) {
            *to = header_byte(*from);
        }
        self.0.push(Field { prefix: u64::from_be_bytes(prefix), name, value });
    }

    /// Bytes of names and of values that [`Self::write`] needs at most.
    pub fn size(&self) -> (usize, usize) {
        let sizes = self.0.iter().map(|field| (field.name.len() + 7, field.value.len() + 4));
        sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// Appends them in the order of their names. `is_replaced` tells of a name whether something
    /// else stands for it.
    pub fn write(
        &mut self,
        block: &mut VarsWriter,
        is_replaced: impl Fn(&[u8]) -> bool,
    ) -> Result<(), VarsError> {
        self.0.sort_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| a.cgi().cmp(b.cgi())));
        for group in self.0.chunk_by(Field::is_like) {
            let [first, rest @ ..] = group else { continue };
            if HIDDEN.iter().any(|known| first.is(known)) || is_replaced(first.name) {
                continue;
            }
            match rest {
                [] => block.push_header(first.name, first.value)?,
                _ => write_several(block, group)?,
            }
        }
        Ok(())
    }
}

/// Fields with one name, the oldest first.
fn write_several(block: &mut VarsWriter, group: &[Field<'_>]) -> Result<(), VarsError> {
    // X_User never overrides X-User (CVE-2015-7519, CVE-2024-45614); nginx passes the former only
    // with underscores_in_headers.
    let Some(chosen) = group.iter().min_by_key(|field| field.underscores()) else {
        return Ok(());
    };
    let mut same = group.iter().filter(|field| field.name.eq_ignore_ascii_case(chosen.name));
    if SINGLE.iter().any(|known| chosen.is(known)) {
        return block.push_header(chosen.name, chosen.value);
    }
    let separator: &[u8] = if chosen.is(b"cookie") { b"; " } else { b", " };
    let mut joined = same.next().map_or_else(Vec::new, |field| field.value.to_vec());
    for field in same {
        joined.extend_from_slice(separator);
        joined.extend_from_slice(field.value);
    }
    block.push_header(chosen.name, &joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NAME=value` of what is written.
    fn written(fields: &[(&str, &str)]) -> Vec<String> {
        let mut all = Fields::default();
        for (name, value) in fields {
            all.push(name.as_bytes(), value.as_bytes());
        }
        let mut block = VarsWriter::default();
        let size = all.size();
        all.write(&mut block, |name| name.eq_ignore_ascii_case(b"x-replaced")).unwrap();
        let vars = block.finish();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let lines: Vec<_> = vars.iter().map(|(n, v)| format!("{}={}", text(n), text(v))).collect();
        assert!(vars.names().len() <= size.0);
        assert!(vars.values().map(|value| value.len() + 4).sum::<usize>() <= size.1);
        lines
    }

    #[test]
    fn repeated_fields_are_joined_in_their_order() {
        let fields = [("x-b", "1"), ("Cookie", "a"), ("X-A", "2"), ("X-B", ""), ("cookie", "b")];
        assert_eq!(written(&fields), ["HTTP_COOKIE=a; b", "HTTP_X_A=2", "HTTP_X_B=1, "]);
    }

    #[test]
    fn of_some_fields_only_the_first_counts() {
        let fields = [("Range", "1"), ("range", "2"), ("If-Modified-Since", "3")];
        assert_eq!(written(&fields), ["HTTP_IF_MODIFIED_SINCE=3", "HTTP_RANGE=1"]);
    }

    #[test]
    fn some_fields_are_hidden_whatever_their_spelling() {
        let fields = [
            ("Content-Length", "1"),
            ("content_type", "2"),
            ("Proxy", "3"),
            ("Transfer_Encoding", "4"),
            ("X-Replaced", "5"),
            ("x-replaced", "6"),
            ("Content-Lengths", "7"),
        ];
        assert_eq!(written(&fields), ["HTTP_CONTENT_LENGTHS=7"]);
    }

    #[test]
    fn an_underscore_never_overrides_a_dash() {
        for fields in [
            [("X_User-Name", "a"), ("X-User-Name", "b"), ("X_User_Name", "c")],
            [("X-User-Name", "b"), ("X_User_Name", "c"), ("X-User_Name", "a")],
        ] {
            assert_eq!(written(&fields), ["HTTP_X_USER_NAME=b"]);
        }
        assert_eq!(written(&[("X_User", "a"), ("x_user", "b")]), ["HTTP_X_USER=a, b"]);
    }

    #[test]
    fn names_that_begin_alike_are_told_apart() {
        let fields =
            [("Accept-Language", "1"), ("Accept-Encoding", "2"), ("Accept", "3"), ("", "4")];
        let names =
            ["HTTP_=4", "HTTP_ACCEPT=3", "HTTP_ACCEPT_ENCODING=2", "HTTP_ACCEPT_LANGUAGE=1"];
        assert_eq!(written(&fields), names);
    }
}
