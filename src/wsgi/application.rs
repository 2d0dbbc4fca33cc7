//! An application as the event loop and the runners see it, and the state of its import.
//!
//! `src/python/app/mod.rs` implements [`Application`]; [`AppSlot`] adds when it may be called. When
//! a failed import is tried again is said by `tries.rs`.
//! Runs on: main thread (load), pool thread (call), event loop (the rest).

use std::sync::atomic::{AtomicU8, Ordering};

use super::error::Failure;
use super::exchange::ResponseSender;
use super::request::Request;

/// A WSGI application. All functions are called attached to the interpreter.
pub trait Application: Send + Sync {
    /// Imports the code and finds the callable; false when that failed and has been logged.
    fn load(&self) -> bool;

    /// Why the last import has failed, in a line.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Serves one request, from the call to `close()`.
    fn call(&self, request: Request, response: ResponseSender);

    /// Ends a request for code that could not be imported.
    fn refuse(&self, _request: Request, mut response: ResponseSender) {
        response.finish(Err(Failure::Import));
    }
}

/// How far the import of an application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Import {
    /// It runs, or will: requests wait in the queue.
    Awaited,
    Done,
    /// It has failed, or is not to be tried now.
    Failed,
}

/// An application and the state of its import.
pub struct AppSlot {
    name: String,
    app: Box<dyn Application>,
    /// An [`Import`].
    import: AtomicU8,
}

impl AppSlot {
    /// `name`: the argument of `wsgi_app`, for messages. Whoever makes it orders the first import.
    pub fn new(name: String, app: Box<dyn Application>) -> Self {
        Self { name, app, import: AtomicU8::new(Import::Awaited as u8) }
    }

    /// The same for the life of the process.
    pub fn leak(name: String, app: Box<dyn Application>) -> &'static Self {
        Box::leak(Box::new(Self::new(name, app)))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn import(&self) -> Import {
        match self.import.load(Ordering::Acquire) {
            import if import == Import::Done as u8 => Import::Done,
            import if import == Import::Failed as u8 => Import::Failed,
            _ => Import::Awaited,
        }
    }

    /// Why the last import has failed, in a line; empty if nobody knows.
    pub fn failure(&self) -> String {
        self.app.failure().unwrap_or_default()
    }

    fn set(&self, import: Import) {
        self.import.store(import as u8, Ordering::Release);
    }

    /// False while an import is awaited: requests wait in the queue.
    pub fn is_settled(&self) -> bool {
        self.import() != Import::Awaited
    }

    /// Event loop: the import is not made now.
    pub fn put_off(&self) {
        self.set(Import::Failed);
    }

    /// Event loop: another try of the import is about to be ordered.
    pub fn await_again(&self) {
        self.set(Import::Awaited);
    }

    /// Main thread: one try of the import.
    pub fn load(&self) {
        /// Settles the state also when the import panics.
        struct Settle<'a>(&'a AppSlot, Import);
        impl Drop for Settle<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let mut settle = Settle(self, Import::Failed);
        if self.app.load() {
            settle.1 = Import::Done;
        }
    }

    /// Pool thread: serves one request, or ends it when the import has failed.
    pub fn call(&self, request: Request, response: ResponseSender) {
        if self.import() == Import::Done {
            self.app.call(request, response);
        } else {
            self.app.refuse(request, response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    struct Flaky(AtomicBool);

    impl Application for Flaky {
        fn load(&self) -> bool {
            assert!(self.0.swap(true, Ordering::SeqCst), "the first try panics");
            true
        }
        fn call(&self, _: Request, mut response: ResponseSender) {
            response.finish(Ok(()));
        }
    }

    #[test]
    fn an_import_is_settled_however_it_ends() {
        let app = AppSlot::new("x".to_owned(), Box::new(Flaky(AtomicBool::new(false))));
        assert_eq!((app.import(), app.is_settled()), (Import::Awaited, false));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| app.load()));
        assert!(panicked.is_err());
        assert_eq!((app.import(), app.is_settled()), (Import::Failed, true));
        app.await_again();
        assert_eq!((app.import(), app.is_settled()), (Import::Awaited, false));
        app.load();
        assert_eq!((app.import(), app.is_settled()), (Import::Done, true));
    }
}
