//! What the queue counts on a runner, and how it is given back when the runner leaves.
//!
//! Runs on: pool thread.

use std::time::Instant;

use super::{Next, RequestQueue};

/// What a runner is at, as far as the queue counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// It is at no request, or goes to sleep or away.
    Nothing,
    /// It is on its way to `pop`, from `begin`, `wait` or [`Next::Yield`].
    Way,
    /// The request that was taken then.
    Request(Instant),
    /// It has been told [`Next::Surplus`] and has not come to `wait`.
    Surplus,
}

impl At {
    /// After `pop`.
    pub fn after(next: &Next) -> Self {
        match next {
            Next::Work { job, at, .. } if job.id().is_some() => Self::Request(*at),
            Next::Work { .. } | Next::Nothing => Self::Nothing,
            Next::Surplus => Self::Surplus,
            Next::Yield => Self::Way,
        }
    }
}

impl RequestQueue {
    /// A runner leaves, or is lost to a panic in the midst of what it is at: what the queue has
    /// counted on it for is open again. The caller has the event loop check.
    pub fn leave(&self, at: At) {
        let mut state = self.lock();
        state.runners -= 1;
        match at {
            At::Nothing => (),
            At::Way => {
                state.standby = false;
                state.attaching = None;
            }
            At::Request(since) => {
                let taken = state.begun.iter().position(|begun| *begun == since);
                taken.map(|taken| state.begun.swap_remove(taken));
            }
            At::Surplus => {
                state.idle -= 1;
                // It may be the one that has been called, or woken.
                if state.called && state.idle == 0 {
                    (state.called, state.standby) = (false, false);
                } else if state.called {
                    self.work.notify_one();
                }
            }
        }
    }
}
