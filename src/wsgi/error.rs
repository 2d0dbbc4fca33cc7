//! What can go wrong with a request or a response, named once for all rooms.
//!
//! `src/nginx/response/end.rs` maps each [`Failure`] to one HTTP status and one log level;
//! `src/python` maps [`HeadError`] to the exception that start_response raises (PEP 3333, "The
//! start_response() Callable").
//! Runs on: either.

use std::fmt;

/// Why a response does not come to a regular end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The application raised; its traceback has been logged.
    Application,
    /// The application broke PEP 3333 (no start_response, wrong types); it has been logged.
    Protocol,
    /// Fewer bytes than the application's Content-Length.
    Underrun,
    /// The application could not be imported; the traceback has been logged.
    Import,
    /// The response could not be written to its temporary file; it has been logged.
    Spool,
    /// The runner went away without an answer: a panic in this module, or the worker is leaving.
    Lost,
    /// The worker that ran the request has died, or left without waiting for it.
    Died,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "application raised an exception",
            Self::Protocol => "application violated PEP 3333",
            Self::Underrun => "application returned less than Content-Length",
            Self::Import => "application could not be imported",
            Self::Spool => "response could not be buffered",
            Self::Lost => "application thread gave no answer",
            Self::Died => "the worker that ran the request has gone",
        })
    }
}

/// Why an application cannot be imported; fit for the error log.
#[derive(Debug)]
pub struct LoadError {
    /// The exception on one line.
    pub cause: String,
    /// What Python would print.
    pub traceback: Vec<String>,
    /// It could be imported, but not beside another application.
    pub is_conflict: bool,
}

/// The client is gone or the request timed out: nobody reads what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client is gone")
    }
}

/// What is wrong with a status or header of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadError {
    /// Not three digits, optionally followed by a space and a reason.
    StatusSyntax(String),
    /// 1xx, or 600 and above (RFC 9110 section 15).
    StatusRange(u16),
    /// Empty, or a byte that is no tchar (RFC 9110 section 5.6.2).
    HeaderName(String),
    /// A control character other than a tab (RFC 9110 section 5.5).
    HeaderValue(String),
    /// A name longer than [`crate::wsgi::head::MAX_LEN`] bytes.
    HeaderNameTooLong(usize),
    /// A value longer than [`crate::wsgi::head::MAX_LEN`] bytes.
    HeaderTooLong(String),
    /// Connection and friends belong to the server (PEP 3333, "Other HTTP Features").
    HopByHop(String),
    /// Not only digits, or above 2^63-1.
    ContentLength(String),
    /// Content-Length given twice.
    ContentLengthTwice,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StatusSyntax(s) => {
                write!(f, "status must be three digits, a space and a reason, not {s:?}")
            }
            Self::StatusRange(n) => write!(f, "status code {n} is outside of 200-599"),
            Self::HeaderName(s) => write!(f, "invalid header name {s:?}"),
            Self::HeaderValue(s) => write!(f, "control character in the value of header {s:?}"),
            Self::HeaderNameTooLong(n) => write!(f, "header name of {n} bytes is too long"),
            Self::HeaderTooLong(s) => write!(f, "value of header {s:?} is too long"),
            Self::HopByHop(s) => write!(f, "hop-by-hop header {s:?} is not the application's"),
            Self::ContentLength(s) => write!(f, "invalid Content-Length {s:?}"),
            Self::ContentLengthTwice => f.write_str("Content-Length given more than once"),
        }
    }
}

impl std::error::Error for HeadError {}

/// Why uwsgi vars cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarsError {
    /// A name over 65535 bytes does not fit its length prefix.
    NameTooLong(usize),
    /// A value over 4 GiB does not fit its length prefix.
    ValueTooLong(usize),
}

impl fmt::Display for VarsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTooLong(n) => write!(f, "name of {n} bytes is too long"),
            Self::ValueTooLong(n) => write!(f, "value of {n} bytes is too long"),
        }
    }
}

/// What is wrong with the argument of `wsgi_app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetError {
    Empty,
    Variable,
    Module(String),
    Callable(String),
    /// What is wrong with the arguments of a factory.
    Arguments(String),
    /// What follows `paste:`.
    Paste(String),
    /// The name of a file without a slash, which would be taken for a module.
    File(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty application name"),
            Self::Variable => f.write_str("variables are not supported"),
            Self::Module(s) => write!(f, "\"{s}\" is not a module name"),
            Self::Callable(s) => write!(f, "\"{s}\" is not a callable name"),
            Self::Arguments(what) => f.write_str(what),
            Self::Paste(s) if s.is_empty() => f.write_str(
                "a target of PasteDeploy is paste:/path/file.ini or paste:/path/file.ini#name",
            ),
            Self::Paste(s) => write!(f, "\"{s}\" is not /path/file.ini or /path/file.ini#name"),
            Self::File(s) => write!(f, "\"{s}\" is a module name; the path of a file has a slash"),
        }
    }
}
