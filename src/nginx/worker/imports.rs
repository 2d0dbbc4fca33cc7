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

use ngx::ffi::{ngx_log_t, ngx_msec_t};

use super::display::display;
use super::pool::Pool;
use super::retry::Answer;
use super::watch::Watch;
use super::{accepting, retire, retry};
use crate::nginx::sys::eventfd::Eventfd;
use crate::nginx::sys::timer::Timer;
use crate::nginx::sys::{log, process};
use crate::wsgi::application::{AppSlot, Import};
use crate::wsgi::interpreter::{Settings, SharedInterpreter, StartInterpreter};
use crate::wsgi::mailbox::{Level, Mailbox};
use crate::wsgi::main_thread::{Exit, MainThread};

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

/// Starts Python on a thread of its own, which it takes for its main thread from then on, and waits
/// until it has started.
pub fn start_interpreter(
    settings: Settings,
    mailbox: Arc<Mailbox>,
    start_interpreter: StartInterpreter,
) -> Result<(MainThread, SharedInterpreter), String> {
    let (main, orders) = MainThread::new();
    let (tell, told) = mpsc::channel();
    let spawned = process::spawn("wsgi-main", move || {
        // Children that Python starts inherit the mask.
        process::unblock_signals();
        let start = AssertUnwindSafe(|| start_interpreter(&settings, Arc::clone(&mailbox)));
        let interpreter = catch_unwind(start).unwrap_or_else(|_| Err(String::from(PANIC)));
        let own = interpreter.as_ref().ok().cloned();
        let _ = tell.send(interpreter);
        if let Some(interpreter) = own {
            orders.follow(&*interpreter, &mailbox);
        }
    });
    spawned.map_err(|err| format!("cannot start a thread for Python: {err}"))?;
    let interpreter = told.recv().unwrap_or_else(|_| Err(String::from(PANIC)))?;
    Ok((main, interpreter))
}

/// The imports of one worker.
pub struct Imports {
    main: MainThread,
    apps: Vec<&'static AppSlot>,
    /// Where requests wait for imports.
    pools: Vec<&'static Pool>,
    watch: &'static Watch,
    eventfd: &'static Eventfd,
    /// Indexes of applications.
    pending: RefCell<VecDeque<usize>>,
    current: Cell<Option<Current>>,
    /// Where the import is has been asked of Python; true when it has answered.
    asked: RefCell<Option<Arc<AtomicBool>>>,
    timer: Timer,
}

impl Imports {
    pub fn leak(
        main: MainThread,
        apps: Vec<&'static AppSlot>,
        pools: Vec<&'static Pool>,
        watch: &'static Watch,
        eventfd: &'static Eventfd,
        log: *mut ngx_log_t,
    ) -> &'static Self {
        let this: &'static Self = Box::leak(Box::new(Self {
            main,
            apps,
            pools,
            watch,
            eventfd,
            pending: RefCell::default(),
            current: Cell::new(None),
            asked: RefCell::default(),
            timer: Timer::new(log),
        }));
        this.timer.calls(move || this.look());
        this
    }

    /// The application with this index.
    pub fn app(&self, index: usize) -> Option<&'static AppSlot> {
        self.apps.get(index).copied()
    }

    /// No application is being imported, or about to be.
    pub fn is_settled(&self) -> bool {
        self.apps.iter().all(|app| app.is_settled())
    }

    /// Tells Python's main thread to run the exit functions, which may wait until `grace` for the
    /// threads of the application.
    pub fn exit(&self, grace: Instant) {
        self.main.exit(grace);
    }

    pub fn exit_functions(&self) -> &Arc<Exit> {
        self.main.exit_functions()
    }

    /// The application whose import runs, or had not ended when the event loop did.
    pub fn current(&self) -> Option<&'static str> {
        self.current.get().map(|current| current.name)
    }

    /// Whether the import of this application runs, or has ended unheard.
    fn is_at(&self, app: usize) -> bool {
        self.current.get().is_some_and(|current| current.app == app)
    }

    /// All applications are imported, one after the other, but for the one with the index
    /// `put_off`.
    pub fn plan_all(&self, put_off: Option<usize>) {
        for (index, app) in self.apps.iter().enumerate() {
            if put_off == Some(index) {
                app.put_off();
                if let Some(display) = display() {
                    display.import_ends(index, Some(String::new()));
                }
            } else {
                self.pending.borrow_mut().push_back(index);
            }
        }
    }

    /// Somebody asks for an application whose import has failed or was put off.
    pub fn ask(&self, app: usize) -> Answer {
        if self.is_at(app) {
            // It has failed just now; what comes of that is said when the event loop hears of it.
            return Answer::Refuse(Duration::ZERO);
        }
        let Some(hosted) = self.app(app) else { return Answer::Refuse(Duration::ZERO) };
        let answer = retry::ask(app, hosted.name());
        if matches!(answer, Answer::Wait) {
            // One more try, behind the imports that wait already.
            hosted.await_again();
            self.pending.borrow_mut().push_back(app);
            self.begin();
        }
        answer
    }

    /// An import has ended, or the first one is due.
    pub fn ended(&self) {
        self.asked.replace(None);
        if let Some(Current { app, .. }) = self.current.take() {
            let import = self.app(app).map_or(Import::Failed, |app| app.import());
            retry::ended(app, import);
            if let Some(display) = display() {
                let failure = || self.app(app).map(AppSlot::failure).unwrap_or_default();
                display.import_ends(app, (import != Import::Done).then(failure));
            }
            self.timer.clear();
            // Its requests may wait in the queues of all pools.
            self.pools.iter().for_each(|pool| pool.look());
        }
        self.begin();
        if self.current.get().is_none() {
            retire::settled();
            accepting::settled();
        }
    }

    fn begin(&self) {
        if self.current.get().is_some() {
            return;
        }
        let Some(app) = self.pending.borrow_mut().pop_front() else { return };
        let Some(hosted) = self.app(app) else { return };
        let (since, name) = (Instant::now(), hosted.name());
        self.current.set(Some(Current { app, since, name, report: FIRST_REPORT }));
        self.timer.set(TICK);
        retry::begins(app);
        if let Some(display) = display() {
            display.import_begins(app);
        }
        self.main.import(hosted);
    }

    /// An import has been running for another second.
    fn look(&self) {
        let Some(mut current) = self.current.get() else { return };
        self.timer.set(TICK);
        self.eventfd.ensure_open();
        let answered = self.asked.borrow().as_ref().map(|asked| asked.load(Ordering::Acquire));
        if answered == Some(false) {
            self.watch.dump();
        } else if answered == Some(true) {
            self.asked.replace(None);
            self.watch.reached();
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
            log::write_here(Level::Error, format_args!("{text}"));
            // Once more: it may be elsewhere by now.
            self.watch.reached();
            return self.watch.dump();
        }
        self.asked.replace(Some(self.watch.locate_main(format!("{text}, it is at:"))));
    }
}

const PANIC: &str = "wsgi module panicked at the start of Python";
