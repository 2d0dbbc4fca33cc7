//! What passes: of a response to the client, and of a request to the application.
//!
//! The directives are those of nginx's upstream modules, and so is the way they are inherited. Part
//! of a location's configuration; `headers.rs`, `redirect.rs` and `intercept.rs` of `src/nginx` ask
//! it.
//! Runs on: event loop.

use std::rc::Rc;

/// Names of header fields.
pub type Names = Vec<Vec<u8>>;

/// What `wsgi_ignore_headers` takes; the first are those of [`Accel`], in its order. The others
/// matter to caches only.
pub const IGNORABLE: [&str; 9] = [
    "X-Accel-Redirect",
    "X-Accel-Expires",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
    "Expires",
    "Cache-Control",
    "Set-Cookie",
    "Vary",
];

/// The headers that are for nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    Redirect,
    Expires,
    LimitRate,
    Buffering,
    Charset,
}

impl Accel {
    const ALL: [Self; 5] =
        [Self::Redirect, Self::Expires, Self::LimitRate, Self::Buffering, Self::Charset];

    /// Their names, in the order of the variants.
    fn names() -> impl Iterator<Item = &'static [u8]> {
        IGNORABLE[..Self::ALL.len()].iter().map(|name| name.as_bytes())
    }

    /// The one of this name.
    pub fn of(name: &[u8]) -> Option<Self> {
        let at = Self::names().position(|known| name.eq_ignore_ascii_case(known))?;
        Self::ALL.get(at).copied()
    }
}

/// `None`: not set here.
#[derive(Default)]
pub struct HeaderPolicy {
    pub hide: Option<Rc<Names>>,
    pub pass: Option<Rc<Names>>,
    /// One bit for each of [`IGNORABLE`]; zero: not set here.
    pub ignored: u16,
    pub intercept_errors: Option<bool>,
    pub force_ranges: Option<bool>,
    pub pass_request_headers: Option<bool>,
    pub pass_request_body: Option<bool>,
    /// What `hide` and `pass` make of the fields that are hidden by default; `None`: nothing.
    hidden: Option<Rc<Names>>,
}

impl HeaderPolicy {
    /// Takes over what is not set here.
    pub fn inherit(&mut self, prev: &Self) {
        let own = self.hide.is_some() || self.pass.is_some();
        self.hide = self.hide.take().or_else(|| prev.hide.clone());
        self.pass = self.pass.take().or_else(|| prev.pass.clone());
        self.hidden = match (own, &prev.hidden) {
            (false, Some(hidden)) => Some(Rc::clone(hidden)),
            // The level of http is inherited from, but is never merged itself.
            _ => self.hidden(),
        };
        if self.ignored == 0 {
            self.ignored = prev.ignored;
        }
        self.intercept_errors = self.intercept_errors.or(prev.intercept_errors);
        self.force_ranges = self.force_ranges.or(prev.force_ranges);
        self.pass_request_headers = self.pass_request_headers.or(prev.pass_request_headers);
        self.pass_request_body = self.pass_request_body.or(prev.pass_request_body);
    }

    fn hidden(&self) -> Option<Rc<Names>> {
        if self.hide.is_none() && self.pass.is_none() {
            return None;
        }
        let list = |names: &Option<Rc<Names>>| names.as_deref().cloned().unwrap_or_default();
        let mut all: Names = Accel::names().map(<[u8]>::to_vec).collect();
        all.append(&mut list(&self.hide));
        let pass = list(&self.pass);
        all.retain(|name| !pass.iter().any(|passed| passed.eq_ignore_ascii_case(name)));
        Some(Rc::new(all))
    }

    /// Whether the application's field of this name is kept from the client.
    pub fn hides(&self, name: &[u8]) -> bool {
        match &self.hidden {
            None => Accel::of(name).is_some(),
            Some(hidden) => hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(name)),
        }
    }

    /// Whether nginx does not do what this header asks for.
    pub fn ignores(&self, accel: Accel) -> bool {
        self.ignored & 1 << accel as u16 != 0
    }

    pub fn intercepts_errors(&self) -> bool {
        self.intercept_errors.unwrap_or(false)
    }

    pub fn forces_ranges(&self) -> bool {
        self.force_ranges.unwrap_or(false)
    }

    pub fn passes_request_headers(&self) -> bool {
        self.pass_request_headers.unwrap_or(true)
    }

    pub fn passes_request_body(&self) -> bool {
        self.pass_request_body.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Option<Rc<Names>> {
        Some(Rc::new(names.iter().map(|name| name.as_bytes().to_vec()).collect()))
    }

    #[test]
    fn each_header_for_nginx_has_a_name_and_a_bit() {
        for (accel, name) in Accel::ALL.into_iter().zip(IGNORABLE) {
            assert_eq!(Accel::of(name.to_lowercase().as_bytes()), Some(accel));
            let bit = IGNORABLE.iter().position(|known| *known == name).unwrap();
            assert!(HeaderPolicy { ignored: 1 << bit, ..HeaderPolicy::default() }.ignores(accel));
            assert!(
                !HeaderPolicy { ignored: !(1 << bit), ..HeaderPolicy::default() }.ignores(accel)
            );
        }
        assert_eq!(Accel::of(b"Expires"), None);
    }

    #[test]
    fn hide_and_pass_are_inherited_each_for_itself() {
        let http = HeaderPolicy { hide: names(&["X-A", "X-B"]), ..HeaderPolicy::default() };
        let mut server = HeaderPolicy::default();
        server.inherit(&http);
        assert!(server.hides(b"x-a") && server.hides(b"X-Accel-Charset") && !server.hides(b"X-C"));
        let mut passes =
            HeaderPolicy { pass: names(&["x-b", "X-ACCEL-Charset"]), ..HeaderPolicy::default() };
        passes.inherit(&server);
        assert!(passes.hides(b"X-A") && !passes.hides(b"X-B"));
        assert!(passes.hides(b"X-Accel-Redirect") && !passes.hides(b"X-Accel-Charset"));
        let mut hides = HeaderPolicy { hide: names(&["X-C"]), ..HeaderPolicy::default() };
        hides.inherit(&passes);
        assert!(hides.hides(b"X-C") && !hides.hides(b"X-A") && !hides.hides(b"X-Accel-Charset"));
    }
}
