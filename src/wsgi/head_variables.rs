//! What `$upstream_http_NAME` and `$upstream_cookie_NAME` of nginx say of an application's head.
//!
//! As nginx reads the head of an upstream: ngx_http_variable_unknown_header(),
//! ngx_http_parse_set_cookie_lines().
//! Runs on: event loop.

use super::head::ResponseHead;

/// The values of a header field, in their order. `name` has `_` for `-`.
pub fn field(head: &ResponseHead, name: &[u8]) -> Option<Vec<u8>> {
    if is_named(b"content-length", name) {
        return Some(head.content_length()?.to_string().into_bytes());
    }
    let mut values = head.fields().filter(|(known, _)| is_named(known, name));
    let mut all = values.next()?.1.to_vec();
    for (_, value) in values {
        all.extend_from_slice(b", ");
        all.extend_from_slice(value);
    }
    Some(all)
}

/// What the first Set-Cookie for a cookie of this name sets it to.
pub fn cookie(head: &ResponseHead, name: &[u8]) -> Option<Vec<u8>> {
    let cookies = head.fields().filter(|(known, _)| known.eq_ignore_ascii_case(b"set-cookie"));
    cookies.map(|(_, value)| value).find_map(|value| {
        let (start, rest) = value.split_at_checked(name.len())?;
        let rest = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b';').unwrap_or(rest.len());
        start.eq_ignore_ascii_case(name).then(|| rest[..end].to_vec())
    })
}

/// Whether a field with this name is meant by a part of the name of a variable.
fn is_named(known: &[u8], name: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    known.len() == name.len() && known.iter().map(plain).eq(name.iter().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead::new(b"200 OK").unwrap();
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        head
    }

    fn text(found: Option<Vec<u8>>) -> Option<String> {
        found.map(|found| String::from_utf8(found).unwrap())
    }

    #[test]
    fn fields_are_found_by_the_names_of_variables() {
        let head = head(&[
            ("X-User", "anna"),
            ("X_Plain", "1"),
            ("Content-Length", "007"),
            ("X-Empty", ""),
            ("VARY", "a"),
            ("Vary", "b, c"),
        ]);
        for (name, want) in [
            ("x_user", Some("anna")),
            ("X_User", Some("anna")),
            ("x_plain", Some("1")),
            ("content_length", Some("7")),
            ("x_empty", Some("")),
            ("vary", Some("a, b, c")),
            ("x_use", None),
            ("x_users", None),
            ("", None),
        ] {
            assert_eq!(text(field(&head, name.as_bytes())).as_deref(), want, "{name}");
        }
        assert_eq!(field(&super::tests::head(&[]), b"content_length"), None);
    }

    #[test]
    fn cookies_are_found_by_their_names() {
        let head = head(&[
            ("Set-Cookie", "ab=1; Path=/"),
            ("set-cookie", "a = 2 ;x"),
            ("Set-Cookie", "a=3"),
            ("Set-Cookie", "c"),
            ("Set-Cookie", "d="),
        ]);
        for (name, want) in [
            ("ab", Some("1")),
            ("a", Some("2 ")),
            ("A", Some("2 ")),
            ("c", None),
            ("d", Some("")),
            ("e", None),
        ] {
            assert_eq!(text(cookie(&head, name.as_bytes())).as_deref(), want, "{name}");
        }
    }
}
