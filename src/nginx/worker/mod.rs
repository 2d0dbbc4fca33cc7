//! A worker process: its interpreter, its pools, and its life.
//!
//! [`start`] makes a [`Worker`] in init_process, which lives until the process ends. `pool.rs` and
//! `sockets.rs` call threads, `imports.rs` is Python's main thread as the event loop sees it,
//! `watch.rs` knows requests without a client and threads that are stuck, `retire.rs`, `retry.rs`
//! and `reload.rs` replace the worker, `zone.rs` is what it shares with the other ones.
//! `generation.rs` knows the workers before and behind, so that one always serves: `accepting.rs`
//! is a new worker's part in that, `hold.rs` an old one's. `counters.rs` and `display.rs` are for
//! `wsgi_status`. What the application sees around it is `surroundings.rs`'s, `clock.rs` keeps the
//! time zone of nginx's logs.
//! Runs on: event loop, unless a file says otherwise.

pub mod counters;
pub mod generation;
pub mod identity;
pub mod stacks;
pub mod surroundings;
pub mod zone;

pub mod display;

pub mod accepting;
pub mod hold;
pub mod pool;
pub mod retire;
pub mod sockets;

pub mod retry;
pub mod watch;

pub mod imports;
pub mod reload;

pub mod clock;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use ngx::ffi::{ngx_cycle_t, ngx_worker};

use self::imports::Imports;
use self::pool::Pool;
use self::reload::Reload;
use self::sockets::Sockets;
use self::stacks::StackDump;
use self::watch::Watch;
use super::config::{MainConf, PoolUse, core_of_cycle};
use super::sys::eventfd::Eventfd;
use super::sys::{children, log};
use crate::wsgi::application::AppSlot;
use crate::wsgi::interpreter::{SWITCH_INTERVAL, Settings, StartInterpreter};
use crate::wsgi::mailbox::{Mail, Mailbox};
use crate::wsgi::queue::runner::Runners;
use crate::wsgi::queue::{RequestQueue, Timers};
use crate::wsgi::request::recycling::FreeList;
use crate::wsgi::target::Target;

/// Everything of this worker process. Lives until the process ends.
pub struct Worker {
    pub runners: Arc<Runners>,
    pub mailbox: Arc<Mailbox>,
    pub eventfd: &'static Eventfd,
    pub shutdown_timeout: Duration,
    pub stack_dump: Option<Arc<StackDump>>,
    pub multiprocess: bool,
    pub stock: FreeList,
    pub watch: &'static Watch,
    /// `wsgi_reload`.
    pub reload: Option<&'static Reload>,
    pub imports: &'static Imports,
    pub sockets: &'static Sockets,
    /// The empty vector of the last batch of mail.
    pub mails: Cell<Vec<Mail>>,
    pools: Vec<&'static Pool>,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static WORKER: Cell<Option<&'static Worker>> = const { Cell::new(None) };
}

/// The worker of this process, if Python runs in it.
pub fn worker() -> Option<&'static Worker> {
    WORKER.get()
}

/// No application of this process is being imported, or about to be.
pub fn is_settled() -> bool {
    worker().is_none_or(|worker| worker.imports.is_settled())
}

/// The worker is leaving: takes it out, so that nothing is submitted any more.
pub fn take() -> Option<&'static Worker> {
    WORKER.take()
}

impl Worker {
    /// The application with this index.
    pub fn app(&self, index: usize) -> Option<&'static AppSlot> {
        self.imports.app(index)
    }

    pub fn pools(&self) -> &[&'static Pool] {
        &self.pools
    }

    /// The pool with this index.
    pub fn pool(&self, index: usize) -> Option<&'static Pool> {
        self.pools.get(index).copied()
    }
}

/// What [`start`] is given by `hooks.rs`.
pub struct Setup {
    pub start_interpreter: StartInterpreter,
    /// Reads what threads have posted, on the event loop.
    pub read_mail: fn(),
    /// The application with this index is not imported at the start.
    pub put_off: Option<usize>,
}

/// Starts Python in this process; its applications are imported when the event loop runs.
///
/// # Safety
///
/// Called in init_process of a worker or single process, once, after nginx has made its pool
/// threads.
pub unsafe fn start(cycle: *mut ngx_cycle_t, main: &MainConf, setup: Setup) -> Result<(), String> {
    // Never freed: a late thread may still write to it.
    let eventfd = Eventfd::new().map_err(|err| format!("eventfd() failed: {err}"))?;
    let eventfd: &'static Eventfd = Box::leak(Box::new(eventfd));
    // SAFETY: init_process, and the descriptor is never closed.
    if !unsafe { eventfd.listen(cycle, setup.read_mail) } {
        return Err(String::from("the eventfd cannot be watched"));
    }
    let mailbox = Arc::new(Mailbox::new(eventfd.waker()));
    // SAFETY: init_process, and the cycle of this process.
    let reload = unsafe {
        let reload = main.reload.unwrap_or(false).then(|| Reload::start(cycle, mailbox.clone()));
        children::keep_descriptors(cycle);
        reload.flatten()
    };
    let stack_dump = StackDump::new().map(Arc::new);
    // SAFETY: the cycle of this process is live, and the core module's configuration is complete.
    let (log, ccf) = unsafe { ((*cycle).log, core_of_cycle(cycle)) };
    let mut settings = Settings {
        sources: reload.map(Reload::sources),
        debug: main.debug,
        ..main.settings(stack_dump.as_ref().map(|dump| dump.target()))
    };
    if let Some(uwsgi) = &mut settings.uwsgi {
        // SAFETY: nginx has set the number before this process has begun.
        uwsgi.worker = unsafe { ngx_worker } + 1;
        uwsgi.has_master = ccf.master != 0;
        if uwsgi.has_master {
            uwsgi.processes = usize::try_from(ccf.worker_processes).unwrap_or(1);
        }
    }
    let started =
        imports::start_interpreter(settings, Arc::clone(&mailbox), setup.start_interpreter);
    let (main_thread, interpreter) = started.inspect_err(|_| {
        for mail in mailbox.collect(Vec::new()) {
            if let Mail::Log(record) = mail {
                // SAFETY: the log of the cycle.
                unsafe { log::write_lines(log, record.level, &record.text) };
            }
        }
    })?;
    let app = |target: &Target| AppSlot::leak(target.to_string(), interpreter.application(target));
    let apps = main.apps.iter().map(|(target, ..)| app(target)).collect();
    // With `timer_resolution` nginx looks at its timers that seldom.
    let timers = if ccf.timer_resolution == 0 { Timers::Fine } else { Timers::Coarse };
    let interval = main.switch_interval.unwrap_or(SWITCH_INTERVAL);
    let threads = main.pools.iter().map(PoolUse::threads);
    let queue = |threads| Arc::new(RequestQueue::new(threads, timers, interval));
    let names: Vec<String> = main.pools.iter().map(|pool| pool.name.clone()).collect();
    let sockets = Sockets::leak(interpreter.clone(), Arc::clone(&mailbox));
    let runners = Runners::new(interpreter, threads.map(queue).collect(), Arc::clone(&mailbox));
    let runners = Arc::new(runners.named(names.clone()));
    if let Some(reload) = reload {
        reload.compiles_with(Arc::clone(&runners));
    }
    let pools = main.pools.iter().enumerate();
    let pools: Vec<&'static Pool> = pools
        .map(|(index, pool)| {
            let nginx = pool.pool;
            let read_mail = setup.read_mail;
            Pool::leak(index, nginx, &runners, &mailbox, timers, read_mail, log)
        })
        .collect();
    let watch = Watch::leak(
        Arc::clone(&runners),
        Arc::clone(sockets.threads()),
        Arc::clone(&mailbox),
        eventfd,
        stack_dump.clone(),
        names,
        log,
    );
    let imports = Imports::leak(main_thread, apps, pools.clone(), watch, eventfd, log);
    WORKER.set(Some(Box::leak(Box::new(Worker {
        runners,
        mailbox: Arc::clone(&mailbox),
        eventfd,
        shutdown_timeout: main.shutdown_timeout(),
        stack_dump,
        multiprocess: ccf.master != 0 && ccf.worker_processes > 1,
        stock: FreeList::default(),
        watch,
        reload,
        imports,
        sockets,
        mails: Cell::default(),
        pools,
    }))));
    imports.plan_all(setup.put_off);
    // Read in the first turn of the event loop.
    mailbox.post(Mail::Imported);
    Ok(())
}
