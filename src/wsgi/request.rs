//! One request as it crosses from the event loop to a pool thread: owned, and pointing nowhere.
//!
//! Runs on: either.

use super::body::RequestBody;
use super::vars::Vars;

/// What is known of a request beside its vars.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flags {
    /// The method is HEAD: the client must not get a body (RFC 9110 section 9.3.2).
    pub head: bool,
    /// The application may be called by several threads at once: `wsgi.multithread`.
    pub multithread: bool,
    /// Other worker processes run the same application: `wsgi.multiprocess`.
    pub multiprocess: bool,
}

/// A request, complete with its body.
#[derive(Debug, Default)]
pub struct Request {
    pub vars: Vars,
    pub body: RequestBody,
    pub flags: Flags,
}
