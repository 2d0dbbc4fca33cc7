//! The arguments of `wsgi_status`, and what a request for it asks for.
//!
//! Runs on: event loop.

/// How the status is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Html,
    Json,
    Prometheus,
    Text,
    /// Whether every application can be served.
    Ready,
}

impl Format {
    /// The format of this name.
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"html" => Self::Html,
            b"json" => Self::Json,
            b"prometheus" => Self::Prometheus,
            b"text" => Self::Text,
            b"ready" => Self::Ready,
            _ => return None,
        })
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::Text | Self::Ready => "text/plain; charset=utf-8",
        }
    }
}

/// A `wsgi_status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `None`: the request says it.
    pub format: Option<Format>,
    /// Stacks may be asked for.
    pub stacks: bool,
    /// Query strings are shown.
    pub query: bool,
}

impl Wanted {
    /// One more argument of the directive; false if it has no place.
    pub fn take(&mut self, argument: &[u8]) -> bool {
        match argument {
            b"stacks" => !std::mem::replace(&mut self.stacks, true),
            b"query" => !std::mem::replace(&mut self.query, true),
            name => match Format::named(name) {
                Some(format) if self.format.is_none() => self.format.replace(format).is_none(),
                _ => false,
            },
        }
    }

    /// What a request with this query string gets, and whether with stacks; `None`: it asks for a
    /// format that is not there.
    pub fn asked(&self, query: &[u8]) -> Option<(Format, bool)> {
        let mut format = self.format;
        let mut stacks = false;
        for argument in query.split(|byte| *byte == b'&') {
            if let (None, Some(name)) = (self.format, argument.strip_prefix(b"format=")) {
                format = Some(Format::named(name)?);
            }
            stacks |= matches!(argument, b"stacks" | b"stacks=" | b"stacks=1");
        }
        Some((format.unwrap_or_default(), stacks && self.stacks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_once() {
        let mut wanted = Wanted::default();
        assert!(wanted.take(b"stacks") && wanted.take(b"json") && wanted.take(b"query"));
        assert!(!wanted.take(b"stacks") && !wanted.take(b"html") && !wanted.take(b"xml"));
        assert_eq!(wanted, Wanted { format: Some(Format::Json), stacks: true, query: true });
    }

    #[test]
    fn a_fixed_format_stays() {
        let any = Wanted { stacks: true, ..Wanted::default() };
        assert_eq!(any.asked(b""), Some((Format::Html, false)));
        assert_eq!(any.asked(b"a=b&format=json&stacks"), Some((Format::Json, true)));
        assert_eq!(any.asked(b"format=xml"), None);
        let fixed = Wanted { format: Some(Format::Text), ..Wanted::default() };
        assert_eq!(fixed.asked(b"format=xml&stacks"), Some((Format::Text, false)));
    }
}
