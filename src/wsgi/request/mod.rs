//! One request as it crosses from the event loop to a pool thread: owned, and pointing nowhere.
//!
//! Runs on: either.

pub mod body;
pub mod body_pipe;
pub mod fields;
pub mod recycling;
pub mod vars;

use std::sync::Arc;

use super::upgrade::Upgrade;
use body::RequestBody;
use body_pipe::BodyPipe;
use vars::Vars;

/// What is known of a request beside its vars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// The method is HEAD: the client must not get a body (RFC 9110 section 9.3.2).
    pub head: bool,
    /// X-Accel-Redirect is not obeyed, so that its response has a body of its own.
    pub ignores_redirect: bool,
    /// The application may be called by several threads at once: `wsgi.multithread`.
    pub multithread: bool,
    /// Other worker processes run the same application: `wsgi.multiprocess`.
    pub multiprocess: bool,
    /// `wsgi_debug`: the client sees why there is no response.
    pub debug: bool,
}

/// A request with its body, or with the pipe it comes through. The event loop keeps a clone of vars
/// and body, so that it gives back the memory that it has taken: a pool thread that did so would
/// fight with the event loop for the allocator's lock.
#[derive(Default)]
pub struct Request {
    pub vars: Vars,
    /// `None`: it is empty.
    pub body: Option<Arc<RequestBody>>,
    /// Instead of the body, with `wsgi_request_buffering off`.
    pub pipe: Option<Arc<BodyPipe>>,
    /// It asks for a WebSocket.
    pub upgrade: Option<Arc<Upgrade>>,
    pub flags: Flags,
}
