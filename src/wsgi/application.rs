//! An application as the event loop and the runners see it, and the state of its import.
//!
//! `src/python/app.rs` implements [`Application`]; [`Hosted`] adds when it may be called. The
//! import runs on a pool thread; a failed one is tried again by a later request, with back-off.
//! Runs on: pool thread (load, call), event loop (admit).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::Failure;
use super::exchange::ResponseSender;
use super::request::Request;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A WSGI application. Both functions are called by runners only, attached to the interpreter.
pub trait Application: Send + Sync {
    /// Imports the code and finds the callable; false when that failed and has been logged.
    fn load(&self) -> bool;

    /// Serves one request, from the call to `close()`.
    fn call(&self, request: Request, response: ResponseSender);

    /// Ends a request for code that could not be imported.
    fn refuse(&self, _request: Request, mut response: ResponseSender) {
        response.finish(Err(Failure::Import));
    }
}

/// What to do with a request for an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Queue it; if the import is still running, it waits there.
    Queue,
    /// Queue an import, then the request.
    LoadFirst,
    /// The import has failed; the next try is due after this time.
    Refuse(Duration),
}

enum Import {
    Running { backoff: Duration },
    Done,
    Failed { retry_at: Instant, backoff: Duration },
}

/// An application and the state of its import.
pub struct Hosted {
    name: String,
    app: Box<dyn Application>,
    import: Mutex<Import>,
    settled: AtomicBool,
    /// The import is done, for good.
    loaded: AtomicBool,
}

impl Hosted {
    /// `name`: the argument of `wsgi_app`, for messages. Whoever makes it queues the first import.
    pub fn new(name: String, app: Box<dyn Application>) -> Self {
        let import = Mutex::new(Import::Running { backoff: FIRST_RETRY });
        let [settled, loaded] = [const { AtomicBool::new(false) }; 2];
        Self { name, app, import, settled, loaded }
    }

    /// The same for the life of the process.
    pub fn leak(name: String, app: Box<dyn Application>) -> &'static Self {
        Box::leak(Box::new(Self::new(name, app)))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, Import> {
        self.import.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False while an import runs: requests wait in the queue.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Event loop, for each request. After [`Admission::LoadFirst`] the caller must queue the
    /// import.
    pub fn admit(&self, now: Instant) -> Admission {
        if self.loaded.load(Ordering::Acquire) {
            return Admission::Queue;
        }
        let mut import = self.lock();
        let Import::Failed { retry_at, backoff } = *import else {
            return Admission::Queue;
        };
        if now < retry_at {
            return Admission::Refuse(retry_at - now);
        }
        *import = Import::Running { backoff: (backoff * 2).min(LAST_RETRY) };
        self.settled.store(false, Ordering::Release);
        Admission::LoadFirst
    }

    /// Pool thread: one try of the import.
    pub fn load(&self) {
        /// Settles the state also when the import panics.
        struct Settle<'a>(&'a Hosted, bool);
        impl Drop for Settle<'_> {
            fn drop(&mut self) {
                let mut import = self.0.lock();
                let backoff = match *import {
                    Import::Running { backoff } => backoff,
                    _ => FIRST_RETRY,
                };
                *import = if self.1 {
                    Import::Done
                } else {
                    Import::Failed { retry_at: Instant::now() + backoff, backoff }
                };
                self.0.loaded.store(self.1, Ordering::Release);
                self.0.settled.store(true, Ordering::Release);
            }
        }
        let mut settle = Settle(self, false);
        settle.1 = self.app.load();
    }

    /// Pool thread: serves one request, or ends it when the import has failed.
    pub fn call(&self, request: Request, response: ResponseSender) {
        if self.loaded.load(Ordering::Acquire) {
            self.app.call(request, response);
        } else {
            self.app.refuse(request, response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Flaky(AtomicBool);

    impl Application for Flaky {
        fn load(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
        fn call(&self, _: Request, mut response: ResponseSender) {
            response.finish(Ok(()));
        }
    }

    #[test]
    fn a_failed_import_is_retried_later_and_later_and_heals() {
        let app = Hosted::new("x".to_owned(), Box::new(Flaky(AtomicBool::new(false))));
        assert!(!app.is_settled());
        assert_eq!(app.admit(Instant::now()), Admission::Queue);
        app.load();
        assert!(app.is_settled());
        let mut wait = FIRST_RETRY;
        for _ in 0..8 {
            let now = Instant::now();
            let Admission::Refuse(left) = app.admit(now) else { panic!("not refused") };
            assert!(left <= wait && left > wait / 2, "{left:?} of {wait:?}");
            assert_eq!(app.admit(now + wait), Admission::LoadFirst);
            assert!(!app.is_settled());
            assert_eq!(app.admit(now + wait), Admission::Queue);
            app.load();
            wait = (wait * 2).min(LAST_RETRY);
        }
        assert_eq!(wait, LAST_RETRY);
    }
}
