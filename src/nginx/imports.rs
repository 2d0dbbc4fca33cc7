//! Python's main thread, as the event loop sees it: starts it, and has it import the applications.
//!
//! The imports come one after the other, in the order of the configuration, from the first turn of
//! the event loop on: until then nginx has not finished the start of the worker, and would end it
//! for good if an import closed descriptors meanwhile. An import that takes long is logged with its
//! stack, again and again, since the requests of all applications behind it wait.
//! Runs on: event loop, but for the body of the thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ngx::ffi::{ngx_event_t, ngx_log_t, ngx_msec_t};

use super::dispatch::{self, StartHost, Worker};
use super::guard::protect;
use super::timer::Timer;
use super::{process, retire, retry};
use crate::wsgi::application::Import;
use crate::wsgi::host::{Settings, SharedHost};
use crate::wsgi::mailbox::{Level, LogRecord, Mailbox};
use crate::wsgi::main_thread::MainThread;

/// How often a running import is looked at.
const TICK: ngx_msec_t = 1000;
/// After so long an import is logged with its stack; after that whenever it has taken twice as
/// long, and at least every [`LAST_REPORT`].
const FIRST_REPORT: Duration = Duration::from_secs(10);
const LAST_REPORT: Duration = Duration::from_secs(600);

#[derive(Clone, Copy)]
struct Current {
    /// Its index.
    app: usize,
    since: Instant,
    name: &'static str,
    /// How long it may take before it is logged.
    report: Duration,
}

/// The imports of one worker.
pub struct Imports {
    main: MainThread,
    /// Indexes of applications.
    pending: RefCell<VecDeque<usize>>,
    current: Cell<Option<Current>>,
    /// Where the import is has been asked of Python; true when it has answered.
    asked: RefCell<Option<Arc<AtomicBool>>>,
    timer: Timer,
}

impl Imports {
    /// Starts Python on a thread of its own, which it takes for its main thread from then on, and
    /// waits until it has started.
    pub fn start(
        settings: Settings,
        mailbox: Arc<Mailbox>,
        start_host: StartHost,
        log: *mut ngx_log_t,
    ) -> Result<(Self, SharedHost), String> {
        let (main, orders) = MainThread::new();
        let (tell, told) = mpsc::channel();
        let spawned = process::spawn("wsgi-main", move || {
            // Children that Python starts inherit the mask.
            process::unblock_signals();
            let start = AssertUnwindSafe(|| start_host(&settings, Arc::clone(&mailbox)));
            let host = catch_unwind(start).unwrap_or_else(|_| Err(String::from(PANIC)));
            let own = host.as_ref().ok().cloned();
            let _ = tell.send(host);
            if let Some(host) = own {
                orders.follow(&*host, &mailbox);
            }
        });
        spawned.map_err(|err| format!("cannot start a thread for Python: {err}"))?;
        let host = told.recv().unwrap_or_else(|_| Err(String::from(PANIC)))?;
        let imports = Self {
            main,
            pending: RefCell::default(),
            current: Cell::new(None),
            asked: RefCell::default(),
            timer: Timer::new(Some(ngx_http_wsgi_import_tick), log),
        };
        Ok((imports, host))
    }

    pub fn main(&self) -> &MainThread {
        &self.main
    }

    /// The application whose import runs, or had not ended when the event loop did.
    pub fn current(&self) -> Option<&'static str> {
        self.current.get().map(|current| current.name)
    }

    /// Whether the import of this application runs, or has ended unheard.
    pub fn is_at(&self, app: usize) -> bool {
        self.current.get().is_some_and(|current| current.app == app)
    }

    /// The application with this index is imported when all before it have been.
    pub fn plan(&self, app: usize) {
        self.pending.borrow_mut().push_back(app);
    }

    /// One more try, behind the imports that wait already.
    pub fn queue(&self, worker: &Worker, app: usize) {
        if let Some(app) = worker.app(app) {
            app.await_again();
        }
        self.plan(app);
        self.begin(worker);
    }

    /// An import has ended, or the first one is due.
    pub fn ended(&self, worker: &Worker) {
        self.asked.replace(None);
        if let Some(Current { app, .. }) = self.current.take() {
            let loaded = worker.app(app).is_some_and(|app| app.import() == Import::Done);
            retry::ended(app, loaded);
            self.timer.clear();
            // Its requests may wait in the queues of all pools.
            (0..worker.runners.queues().len()).for_each(|pool| worker.check(pool));
        }
        self.begin(worker);
        if self.current.get().is_none() {
            retire::settled();
        }
    }

    fn begin(&self, worker: &Worker) {
        if self.current.get().is_some() {
            return;
        }
        let Some(app) = self.pending.borrow_mut().pop_front() else { return };
        let Some(hosted) = worker.app(app) else { return };
        let (since, name) = (Instant::now(), hosted.name());
        self.current.set(Some(Current { app, since, name, report: FIRST_REPORT }));
        self.timer.set(TICK);
        retry::begins(app);
        self.main.import(hosted);
    }

    /// An import has been running for another second.
    fn look(&self, worker: &Worker) {
        let Some(mut current) = self.current.get() else { return };
        self.timer.set(TICK);
        worker.wakeup.ensure_open();
        let answered = self.asked.borrow().as_ref().map(|asked| asked.load(Ordering::Acquire));
        if answered == Some(false) {
            worker.watch.dump(worker);
        } else if answered == Some(true) {
            self.asked.replace(None);
            worker.watch.reached();
        }
        let time = current.since.elapsed();
        if time < current.report {
            return;
        }
        current.report = time + time.min(LAST_REPORT);
        self.current.set(Some(current));
        let text =
            format!("the import of \"{}\" has taken {} s so far", current.name, time.as_secs());
        if answered == Some(false) {
            let record = LogRecord { exchange: None, level: Level::Error, text };
            worker.mailbox.log(record);
            // Once more: it may be elsewhere by now.
            worker.watch.reached();
            return worker.watch.dump(worker);
        }
        self.asked.replace(Some(worker.watch.locate_main(worker, format!("{text}, it is at:"))));
    }
}

const PANIC: &str = "wsgi module panicked at the start of Python";

unsafe extern "C" fn ngx_http_wsgi_import_tick(_ev: *mut ngx_event_t) {
    protect((), || {
        if let Some(worker) = dispatch::worker() {
            worker.imports.look(worker);
        }
    });
}
