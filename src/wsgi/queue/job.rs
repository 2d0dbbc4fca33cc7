//! What waits in the queue.
//!
//! Runs on: either.

use crate::wsgi::application::AppSlot;
use crate::wsgi::exchange::ResponseSender;
use crate::wsgi::mailbox::ExchangeId;
use crate::wsgi::request::Request;

/// Something for a runner to do.
pub enum Job {
    /// [`crate::wsgi::interpreter::Interpreter::tidy`], which a runner calls after each job.
    Tidy,
    Call {
        /// Without a count of references: every thread would write to it for every request.
        app: &'static AppSlot,
        request: Request,
        response: ResponseSender,
    },
}

impl Job {
    pub fn id(&self) -> Option<ExchangeId> {
        match self {
            Self::Tidy => None,
            Self::Call { response, .. } => Some(response.id()),
        }
    }
}
