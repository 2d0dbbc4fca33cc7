//! The arguments of a factory in a `wsgi_app` target: `"prod", debug=False`.
//!
//! Literals of Python only, so that they mean the same here and there without an interpreter.
//! What this takes is a part of Python's own syntax; all else is refused, and so found by
//! `nginx -t`. `src/python/app/literals.rs` makes objects of them.
//! Runs on: event loop (configuration).

use std::fmt::{self, Write};

/// How deep literals may lie in each other.
const MAX_DEPTH: usize = 16;

/// Python's keywords, which cannot name an argument.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield",
];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Literal {
    None,
    Bool(bool),
    Int(i64),
    /// As it is written: `f64` and Python's `float` read it alike.
    Float(String),
    Str(String),
    Tuple(Vec<Literal>),
    List(Vec<Literal>),
    /// Keys are neither tuple, list nor dict.
    Dict(Vec<(Literal, Literal)>),
}

/// What stands between the parentheses of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Arguments {
    pub positional: Vec<Literal>,
    /// Each name once.
    pub named: Vec<(String, Literal)>,
}

impl Arguments {
    /// The error says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut left = Parser { rest: text.trim_ascii() };
        let mut found = Self::default();
        while !left.rest.is_empty() {
            match left.argument_name()? {
                Some(name) => {
                    if found.named.iter().any(|(known, _)| *known == name) {
                        return Err(format!("argument \"{name}\" is given twice"));
                    }
                    found.named.push((name, left.literal(0)?));
                }
                None if found.named.is_empty() => found.positional.push(left.literal(0)?),
                None => {
                    return Err(left.wrong("an argument without a name follows one with a name"));
                }
            }
            if !left.takes(",") && !left.rest.is_empty() {
                return Err(left.wrong("a comma is missing"));
            }
        }
        Ok(found)
    }
}

struct Parser<'a> {
    /// Begins with no white space.
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn wrong(&self, what: &str) -> String {
        match self.rest {
            "" => format!("{what} at the end of the arguments"),
            rest => format!("{what} at \"{rest}\""),
        }
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest[len..].trim_ascii_start();
    }

    fn takes(&mut self, token: &str) -> bool {
        let is_next = self.rest.starts_with(token);
        if is_next {
            self.skip(token.len());
        }
        is_next
    }

    /// The letters, digits and underscores that come next.
    fn word(&self) -> &'a str {
        let end = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric());
        &self.rest[..end.unwrap_or(self.rest.len())]
    }

    /// A name with an equals sign behind it, which is not one of `==`.
    fn argument_name(&mut self) -> Result<Option<String>, String> {
        let word = self.word();
        let behind = self.rest[word.len()..].trim_ascii_start();
        if !behind.starts_with('=') {
            return Ok(None);
        }
        let is_name = word.starts_with(|c: char| c == '_' || c.is_alphabetic());
        if !is_name || KEYWORDS.contains(&word) {
            return Err(self.wrong("no name of an argument"));
        }
        self.skip(word.len());
        self.takes("=");
        Ok(Some(word.to_owned()))
    }

    fn literal(&mut self, depth: usize) -> Result<Literal, String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("too many literals in each other"));
        }
        if self.takes("(") {
            let (mut items, is_tuple) = self.items(")", depth)?;
            return Ok(match items.pop() {
                Some(only) if items.is_empty() && !is_tuple => only,
                last => Literal::Tuple(items.into_iter().chain(last).collect()),
            });
        }
        if self.takes("[") {
            return Ok(Literal::List(self.items("]", depth)?.0));
        }
        if self.takes("{") {
            return self.dict(depth);
        }
        if let Some(quote @ ('"' | '\'')) = self.rest.chars().next() {
            return self.text(quote);
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            return self.number();
        }
        let word = self.word();
        let found = match word {
            "None" => Literal::None,
            "True" => Literal::Bool(true),
            "False" => Literal::Bool(false),
            _ => return Err(self.wrong("no literal of Python")),
        };
        self.skip(word.len());
        Ok(found)
    }

    /// As far as the bracket, and whether a comma is among them.
    fn items(&mut self, end: &str, depth: usize) -> Result<(Vec<Literal>, bool), String> {
        let (mut items, mut has_comma) = (Vec::new(), false);
        while !self.takes(end) {
            items.push(self.literal(depth + 1)?);
            if self.takes(",") {
                has_comma = true;
            } else if !self.rest.starts_with(end) {
                return Err(self.wrong(&format!("\",\" or \"{end}\" is missing")));
            }
        }
        Ok((items, has_comma))
    }

    fn dict(&mut self, depth: usize) -> Result<Literal, String> {
        let mut items = Vec::new();
        while !self.takes("}") {
            let key = self.literal(depth + 1)?;
            if matches!(key, Literal::Tuple(_) | Literal::List(_) | Literal::Dict(_)) {
                return Err(self.wrong("a key that is no text, number, True, False or None"));
            }
            if !self.takes(":") {
                return Err(self.wrong("\":\" is missing"));
            }
            items.push((key, self.literal(depth + 1)?));
            if !self.takes(",") && !self.rest.starts_with('}') {
                return Err(self.wrong("\",\" or \"}\" is missing"));
            }
        }
        Ok(Literal::Dict(items))
    }

    fn text(&mut self, quote: char) -> Result<Literal, String> {
        let mut text = String::new();
        let mut chars = self.rest[1..].chars();
        loop {
            match chars.next() {
                None => return Err(self.wrong("a text without an end")),
                Some('\\') => text.push(escape(&mut chars).ok_or_else(|| {
                    self.wrong("an escape other than \\\\ \\' \\\" \\n \\r \\t \\x41 \\u20ac")
                })?),
                Some(c) if c == quote => break,
                Some(c) if c.is_control() => {
                    return Err(self.wrong("a control character that is not escaped"));
                }
                Some(c) => text.push(c),
            }
        }
        self.skip(self.rest.len() - chars.as_str().len());
        Ok(Literal::Str(text))
    }

    fn number(&mut self) -> Result<Literal, String> {
        let sign = usize::from(self.rest.starts_with(['+', '-']));
        let digits = |at: usize| {
            let rest = self.rest.get(at..).unwrap_or_default();
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len()
        };
        let whole = digits(sign);
        let mut end = sign + whole;
        let mut part = 0;
        let mut is_float = self.rest[end..].starts_with('.');
        if is_float {
            part = digits(end + 1);
            end += 1 + part;
        }
        if self.rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(self.rest[end + 1..].starts_with(['+', '-']));
            let power = digits(end + 1 + sign);
            // Without one it is a letter behind the number.
            if power > 0 {
                is_float = true;
                end += 1 + sign + power;
            }
        }
        let number = &self.rest[..end];
        let is_over =
            !self.rest[end..].starts_with(|c: char| c == '_' || c == '.' || c.is_alphanumeric());
        let found = if is_float {
            Some(Literal::Float(number.to_owned()))
        } else if whole > 1 && self.rest[sign..].starts_with('0') {
            // Python takes no number that begins with 0, lest it be taken for an octal one.
            None
        } else {
            number.parse().ok().map(Literal::Int)
        };
        let found = found.filter(|_| is_over && whole + part > 0);
        let found = found.ok_or_else(|| self.wrong("no decimal number, or one beyond 64 bits,"))?;
        self.skip(end);
        Ok(found)
    }
}

/// What stands behind a backslash.
fn escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match chars.next()? {
        c @ ('\\' | '\'' | '"') => return Some(c),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'x' => 2,
        'u' => 4,
        _ => return None,
    };
    let code = chars
        .by_ref()
        .take(digits)
        .try_fold((0, 0), |(code, count), c| Some((code * 16 + c.to_digit(16)?, count + 1)))?;
    // No half of a surrogate pair is a character.
    char::from_u32(code.0).filter(|_| code.1 == digits)
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(text) => f.write_str(text),
            Self::Str(text) => {
                f.write_char('\'')?;
                for c in text.chars() {
                    match c {
                        '\\' | '\'' => write!(f, "\\{c}")?,
                        // A target has no variables.
                        '$' => f.write_str("\\x24")?,
                        c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                        c => f.write_char(c)?,
                    }
                }
                f.write_char('\'')
            }
            Self::Tuple(items) => {
                write!(f, "({}{})", list(items), if items.len() == 1 { "," } else { "" })
            }
            Self::List(items) => write!(f, "[{}]", list(items)),
            Self::Dict(items) => {
                let items: Vec<_> =
                    items.iter().map(|(key, item)| format!("{key}: {item}")).collect();
                write!(f, "{{{}}}", items.join(", "))
            }
        }
    }
}

fn list(items: &[Literal]) -> String {
    let items: Vec<_> = items.iter().map(Literal::to_string).collect();
    items.join(", ")
}

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.named.iter().map(|(name, value)| format!("{name}={value}"));
        let all: Vec<_> = self.positional.iter().map(Literal::to_string).chain(named).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_and_written_as_python_does() {
        for (text, shown) in [
            ("", ""),
            ("  ", ""),
            (r#""prod", debug=False"#, "'prod', debug=False"),
            ("'a',", "'a'"),
            ("None,True , False", "None, True, False"),
            ("1, -2, +3, 0", "1, -2, 3, 0"),
            ("1.5, .5, 5., 1e3, -2.5E-7, 01.5", "1.5, .5, 5., 1e3, -2.5E-7, 01.5"),
            ("(), (1), (1,), (1, 2), ((1),)", "(), 1, (1,), (1, 2), (1,)"),
            ("[], [1, ], [[1], 'x']", "[], [1], [[1], 'x']"),
            ("{}, {'a': 1, 2: [3], None: (),}", "{}, {'a': 1, 2: [3], None: ()}"),
            (r#"'\\ \' \" \n \x24 \x41 \u20ac'"#, r#"'\\ \' " \x0a \x24 A €'"#),
            ("\"it's\", '\"'", r#"'it\'s', '"'"#),
            ("a = 1, _b2=2, ä='ö'", "a=1, _b2=2, ä='ö'"),
            ("9223372036854775807", "9223372036854775807"),
            ("'x(y:z', k=')'", "'x(y:z', k=')'"),
        ] {
            let found = Arguments::parse(text).unwrap();
            assert_eq!(found.to_string(), shown);
            assert_eq!(Arguments::parse(shown).as_ref(), Ok(&found));
        }
    }

    #[test]
    fn all_else_is_refused() {
        for text in [
            "x",
            "1 2",
            ",",
            "1,,2",
            "'a' 'b'",
            "'a",
            "'\\z'",
            "'\\x4'",
            "'\\ud800'",
            "'\t'",
            "f()",
            "1+1",
            "1_000",
            "0x10",
            "007",
            "1.2.3",
            "1e",
            "-",
            ".",
            "1j",
            "--1",
            "- 1",
            "9223372036854775808",
            "b'x'",
            "f'x'",
            "r'x'",
            "{1}",
            "{1:}",
            "{[]: 1}",
            "{(): 1}",
            "[1",
            "(1",
            "(,)",
            "[,]",
            "a=1, 2",
            "a=1, a=2",
            "if=1",
            "None=1",
            "1=2",
            "=1",
            "a==1",
            "*x",
            "**x",
            "a=",
            "a=b",
            "true",
            "...",
            "Nonex",
        ] {
            assert!(Arguments::parse(text).is_err(), "{text}");
        }
        assert!(Arguments::parse(&"[".repeat(10_000)).is_err());
    }
}
