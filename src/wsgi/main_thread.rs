//! What Python's main thread is told to do: imports, one after the other, and the exit functions.
//!
//! The thread starts Python, so that Python takes it for its main thread, and follows orders until
//! the process ends. Two imports at once would wait for each other's module locks for ever, and
//! code that asks for the main thread (signals, event loops, threads that are no daemons) finds
//! itself there at its import, as under any other server. `src/nginx/worker/imports.rs` makes the
//! thread.
//! Runs on: event loop ([`MainThread`]), main thread ([`Orders`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use super::application::AppSlot;
use super::interpreter::Interpreter;
use super::mailbox::{Level, LogRecord, Mail, Mailbox};

/// Which thread runs the exit functions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    Main,
    Another,
}

enum Order {
    Import(&'static AppSlot),
    Exit(Instant),
}

/// The exit functions of the application: whoever claims them runs them, once.
#[derive(Debug, Default)]
pub struct Exit {
    claimed: AtomicBool,
    /// Another thread than the main one has claimed them.
    is_elsewhere: AtomicBool,
    done: AtomicBool,
}

impl Exit {
    /// Runs them on a thread that is not the main one, attached, unless somebody has begun to.
    pub fn run_elsewhere(&self, interpreter: &dyn Interpreter, grace: Instant) {
        self.run(interpreter, grace, Runs::Another);
    }

    fn run(&self, interpreter: &dyn Interpreter, grace: Instant, thread: Runs) {
        if !self.claimed.swap(true, Ordering::AcqRel) {
            self.is_elsewhere.store(thread == Runs::Another, Ordering::Release);
            let run = AssertUnwindSafe(|| interpreter.attach(&mut || interpreter.exit(grace)));
            // A panic is no reason to wait for what does not come.
            let _ = catch_unwind(run);
            self.done.store(true, Ordering::Release);
        }
    }

    /// Whether somebody has begun to run them.
    pub fn is_begun(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }

    /// Whether another thread has run them because the main thread was at an import.
    pub fn was_elsewhere(&self) -> bool {
        self.is_done() && self.is_elsewhere.load(Ordering::Acquire)
    }

    /// Whether they have been run.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// The event loop's side of the thread.
pub struct MainThread {
    orders: mpsc::Sender<Order>,
    exit: Arc<Exit>,
}

/// The thread's side.
pub struct Orders {
    orders: mpsc::Receiver<Order>,
    exit: Arc<Exit>,
}

impl MainThread {
    pub fn new() -> (Self, Orders) {
        let (sender, receiver) = mpsc::channel();
        let exit = Arc::new(Exit::default());
        let orders = Orders { orders: receiver, exit: Arc::clone(&exit) };
        (Self { orders: sender, exit }, orders)
    }

    /// One try of an import. [`Mail::Imported`] tells of its end.
    pub fn import(&self, app: &'static AppSlot) {
        // The thread follows orders until the process ends.
        let _ = self.orders.send(Order::Import(app));
    }

    /// Runs the exit functions when the orders before have been followed. [`Mail::Left`] tells of
    /// their end.
    pub fn exit(&self, grace: Instant) {
        let _ = self.orders.send(Order::Exit(grace));
    }

    /// The exit functions, for a thread that runs them in place of this one.
    pub fn exit_functions(&self) -> &Arc<Exit> {
        &self.exit
    }
}

impl Orders {
    /// The life of the thread that has started Python.
    pub fn follow(&self, interpreter: &dyn Interpreter, mailbox: &Mailbox) {
        for order in &self.orders {
            match order {
                Order::Import(app) => {
                    let import = AssertUnwindSafe(|| interpreter.attach(&mut || app.load()));
                    if catch_unwind(import).is_err() {
                        let text = format!("the import of \"{}\" panicked", app.name());
                        mailbox.log(LogRecord { exchange: None, level: Level::Alert, text });
                    }
                    mailbox.post(Mail::Imported);
                }
                Order::Exit(grace) => {
                    self.exit.run(interpreter, grace, Runs::Main);
                    mailbox.post(Mail::Left);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsgi::application::{AppSlot, Application};
    use crate::wsgi::exchange::ResponseSender;
    use crate::wsgi::queue::runner::tests::FakeInterpreter;
    use crate::wsgi::request::Request;
    use std::sync::Mutex;
    use std::thread;

    /// Notes when its import begins and ends.
    struct Noted(&'static str, Arc<Mutex<Vec<String>>>);

    impl Application for Noted {
        fn load(&self) -> bool {
            self.1.lock().unwrap().push(format!("{} begins", self.0));
            thread::yield_now();
            assert!(self.0 != "panics");
            self.1.lock().unwrap().push(format!("{} ends", self.0));
            true
        }
        fn call(&self, _: Request, _: ResponseSender) {
            unreachable!("not called")
        }
    }

    #[test]
    fn imports_follow_one_another_and_the_exit_functions_run_once() {
        let (main, orders) = MainThread::new();
        let (interpreter, mailbox) =
            (Arc::new(FakeInterpreter::default()), Arc::new(Mailbox::new(|| ())));
        let noted = Arc::new(Mutex::new(Vec::new()));
        for name in ["one", "panics", "two"] {
            let app = Box::new(Noted(name, Arc::clone(&noted)));
            main.import(AppSlot::leak(name.to_owned(), app));
        }
        let exit = Arc::clone(main.exit_functions());
        main.exit(Instant::now());
        main.exit(Instant::now());
        drop(main);
        orders.follow(&*interpreter, &mailbox);
        assert!(exit.is_done());
        exit.run_elsewhere(&*interpreter, Instant::now());
        assert!(!exit.was_elsewhere());
        assert_eq!(interpreter.exits(), 1);
        let want = ["one begins", "one ends", "panics begins", "two begins", "two ends"];
        assert_eq!(*noted.lock().unwrap(), want);
        let mails = mailbox.collect(Vec::new());
        let count = |what: fn(&Mail) -> bool| mails.iter().filter(|mail| what(mail)).count();
        assert_eq!(count(|mail| matches!(mail, Mail::Imported)), 3);
        assert_eq!(count(|mail| matches!(mail, Mail::Log(r) if r.level == Level::Alert)), 1);
    }
}
