//! A worker's side of the pools: starts Python, queues requests, posts runners, reads the mail.
//!
//! `module.rs` starts a [`Worker`] in init_process; `handler.rs` submits requests to it. All of it
//! is the event loop's but for `ngx_http_wsgi_runner`, which a pool thread runs for its life.
//! Runs on: event loop, unless said otherwise.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use ngx::ffi::{
    NGX_OK, ngx_cycle_t, ngx_event_t, ngx_int_t, ngx_log_t, ngx_thread_pool_t,
    ngx_thread_task_post, ngx_thread_task_t,
};

use super::conf::{Endpoint, MainConf, SHUTDOWN_TIMEOUT, core_of_cycle};
use super::context::Context;
use super::guard::protect;
use super::imports::Imports;
use super::reload::Reload;
use super::summons::PoolEvents;
use super::wakeup::Wakeup;
use super::watch::Watch;
use super::{children, log, process, refuse, response, unbuffered};
use crate::wsgi::application::Hosted;
use crate::wsgi::host::{SWITCH_INTERVAL, Settings, SharedHost};
use crate::wsgi::mailbox::{ExchangeId, Level, LogRecord, Mail, Mailbox};
use crate::wsgi::numbers::NumberMap;
use crate::wsgi::queue::runner::Runners;
use crate::wsgi::queue::{Full, Job, RequestQueue, Summons};
use crate::wsgi::request::recycling::Stock;

/// Everything of this worker process. Lives until the process ends.
pub struct Worker {
    pub runners: Arc<Runners>,
    pub mailbox: Arc<Mailbox>,
    pub wakeup: Wakeup,
    pub shutdown_timeout: Duration,
    /// The signal that writes all stacks into the file.
    pub stack_dump: Option<(i32, OwnedFd)>,
    pub multiprocess: bool,
    pub stock: Stock,
    pub watch: Watch,
    /// `wsgi_reload`.
    pub reload: Option<Reload>,
    pub imports: Imports,
    /// Timers of a millisecond come in time.
    is_patient: bool,
    apps: Vec<&'static Hosted>,
    pools: Vec<(*mut ngx_thread_pool_t, &'static PoolEvents)>,
    exchanges: RefCell<NumberMap<*mut Context>>,
    next_id: Cell<ExchangeId>,
    spare: Cell<Vec<Mail>>,
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
    worker().is_none_or(|worker| worker.apps.iter().all(|app| app.is_settled()))
}

pub fn is_running() -> bool {
    worker().is_some()
}

/// The worker is leaving: takes it out, so that nothing is submitted any more.
pub fn take() -> Option<&'static Worker> {
    WORKER.take()
}

/// What starts an interpreter; `module.rs` supplies Python's.
pub type StartHost = fn(&Settings, Arc<Mailbox>) -> Result<SharedHost, String>;

/// How Python is started, in a worker and where its applications are checked.
pub fn settings(main: &MainConf, stack_dump: Option<(i32, RawFd)>) -> Settings {
    Settings {
        home: main.python_home.clone(),
        path: main.python_path.clone(),
        chdir: main.chdir.clone(),
        switch_interval: main.switch_interval,
        keeps_zone: !main.tzset.unwrap_or(true),
        stack_dump,
        ..Settings::default()
    }
}

/// Starts Python in this process; its applications are imported when the event loop runs, but for
/// `put_off`.
///
/// # Safety
///
/// Called in init_process of a worker or single process, once, after nginx has made its pool threads.
pub unsafe fn start(
    cycle: *mut ngx_cycle_t,
    main: &MainConf,
    multiprocess: bool,
    start_host: StartHost,
    put_off: Option<usize>,
) -> Result<(), String> {
    let wakeup = Wakeup::new().map_err(|err| format!("eventfd() failed: {err}"))?;
    // SAFETY: init_process, and the handler is a function of this image, which is pinned.
    if !unsafe { wakeup.listen(cycle, Some(ngx_http_wsgi_mail)) } {
        return Err(String::from("the eventfd cannot be watched"));
    }
    let mailbox = Arc::new(Mailbox::new(wakeup.waker()));
    // SAFETY: init_process, and the cycle of this process.
    let reload = unsafe {
        let reload = main.reload.unwrap_or(false).then(|| Reload::start(cycle, mailbox.clone()));
        children::keep_descriptors(cycle);
        reload.flatten()
    };
    let stack_dump = process::memory_file().ok().map(|file| (process::stack_signal(), file));
    let dump = stack_dump.as_ref().map(|(signal, file)| (*signal, file.as_raw_fd()));
    let settings = Settings {
        sources: reload.as_ref().map(Reload::sources),
        debug: main.debug,
        ..settings(main, dump)
    };
    // SAFETY: the cycle of this process.
    let log = unsafe { (*cycle).log };
    let started = Imports::start(settings, Arc::clone(&mailbox), start_host, log);
    let (imports, host) = match started {
        Ok(started) => started,
        Err(text) => {
            for mail in mailbox.collect(Vec::new()) {
                if let Mail::Log(record) = mail {
                    // SAFETY: the log of the cycle.
                    unsafe { log::write_lines(log, record.level, &record.text) };
                }
            }
            // A thread that was started meanwhile may still write to it.
            std::mem::forget(wakeup);
            return Err(text);
        }
    };
    let apps = main
        .apps
        .iter()
        .map(|(target, ..)| Hosted::leak(target.to_string(), host.application(target)));
    let apps: Vec<_> = apps.collect();
    // SAFETY: nginx has resolved its pools.
    let threads = main.pools.iter().map(|pool| unsafe { refuse::threads(pool) });
    // SAFETY: the cycle of this process.
    let is_patient = unsafe { has_fine_timers(cycle) };
    let interval = main.switch_interval.unwrap_or(SWITCH_INTERVAL);
    let queue = |threads| Arc::new(RequestQueue::new(threads, is_patient, interval));
    let queues = threads.map(queue).collect();
    let pools = main.pools.iter().enumerate();
    let pools = pools.map(|(index, pool)| (pool.pool, PoolEvents::leak(index, log))).collect();
    let names: Vec<String> = main.pools.iter().map(|pool| pool.name.clone()).collect();
    let runners = Runners::new(host, queues, Arc::clone(&mailbox)).named(names.clone());
    let worker = Box::leak(Box::new(Worker {
        runners: Arc::new(runners),
        mailbox,
        wakeup,
        shutdown_timeout: main.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT),
        stack_dump,
        multiprocess,
        stock: Stock::default(),
        watch: Watch::new(names, log),
        reload,
        imports,
        is_patient,
        apps,
        pools,
        exchanges: RefCell::default(),
        next_id: Cell::new(1),
        spare: Cell::default(),
    }));
    WORKER.set(Some(worker));
    for (index, app) in worker.apps.iter().enumerate() {
        match put_off {
            Some(put_off) if put_off == index => app.put_off(),
            _ => worker.imports.plan(index),
        }
    }
    // Read in the first turn of the event loop.
    worker.mailbox.post(Mail::Imported);
    Ok(())
}

/// With `timer_resolution` nginx looks at its timers that seldom.
///
/// # Safety
///
/// `cycle` is live and configured.
unsafe fn has_fine_timers(cycle: *mut ngx_cycle_t) -> bool {
    // SAFETY: the core module's configuration is there in every cycle.
    unsafe { core_of_cycle(cycle).timer_resolution == 0 }
}

impl Worker {
    /// The application with this index.
    pub fn app(&self, index: usize) -> Option<&'static Hosted> {
        self.apps.get(index).copied()
    }

    pub fn queue(&self, endpoint: Endpoint) -> Option<&Arc<RequestQueue>> {
        self.runners.queues().get(endpoint.pool)
    }

    pub fn next_id(&self) -> ExchangeId {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    /// Mail for `id` goes to `context` from now on.
    pub fn remember(&self, id: ExchangeId, context: *mut Context) {
        self.exchanges.borrow_mut().insert(id, context);
    }

    /// The exchange has ended for nginx.
    pub fn forget(&self, id: ExchangeId) {
        self.exchanges.borrow_mut().remove(&id);
    }

    /// The numbers of all exchanges there are.
    pub fn exchanges(&self) -> Vec<ExchangeId> {
        self.exchanges.borrow().keys().copied().collect()
    }

    pub fn context(&self, id: ExchangeId) -> Option<*mut Context> {
        self.exchanges.borrow().get(&id).copied()
    }

    /// Queues a job for a pool and posts a runner if one is wanted; false when the queue is full.
    pub fn push(&self, pool: usize, job: Job, limit: usize) -> bool {
        let Some(queue) = self.runners.queues().get(pool) else {
            return false;
        };
        match queue.push(job, limit) {
            Ok(summons) => self.summon(pool, summons),
            Err(Full) => return false,
        }
        true
    }

    /// Looks whether what waits for this pool needs another thread.
    pub fn check(&self, pool: usize) {
        if let Some(queue) = self.runners.queues().get(pool) {
            self.summon(pool, queue.check());
        }
    }

    fn summon(&self, pool: usize, summons: Summons) {
        let Some((tp, events)) = self.pools.get(pool) else {
            return;
        };
        match summons {
            Summons::Done => (),
            Summons::Wake => events.wake_soon(),
            Summons::WakeAndCheck => {
                events.wake_soon();
                self.check_later(events);
            }
            // nginx has logged why it could not.
            Summons::PostRunner => match self.post_runner(pool, *tp) {
                true => self.check_later(events),
                false => events.retry(),
            },
            Summons::CheckLater => self.check_later(events),
        }
    }

    fn check_later(&self, events: &PoolEvents) {
        events.check_later();
        self.mailbox.expect(self.is_patient);
    }

    /// Wakes the runner that the queue of this pool has called.
    pub fn wake(&self, pool: usize) {
        if let Some(queue) = self.runners.queues().get(pool) {
            queue.wake();
        }
    }

    /// Posts one more runner; false if nginx does not take it. The task is not in any pool of
    /// nginx's: it outlives all requests.
    fn post_runner(&self, pool: usize, tp: *mut ngx_thread_pool_t) -> bool {
        let runner = Box::new(Runner { runners: Arc::clone(&self.runners), pool });
        // SAFETY: all-zero bytes are a valid task. nginx wants a handler on its event, which it
        // calls when the runner has left, as the last user of the task.
        let rc = unsafe {
            let task = Box::into_raw(Box::new(std::mem::zeroed::<ngx_thread_task_t>()));
            (*task).ctx = Box::into_raw(runner).cast();
            (*task).handler = Some(ngx_http_wsgi_runner);
            (*task).event.data = task.cast();
            (*task).event.handler = Some(ngx_http_wsgi_runner_left);
            self.runners.posted();
            let rc = ngx_thread_task_post(tp, task);
            if rc != NGX_OK as ngx_int_t {
                drop(Box::from_raw((*task).ctx.cast::<Runner>()));
                drop(Box::from_raw(task));
            }
            rc
        };
        if rc != NGX_OK as ngx_int_t {
            self.runners.not_posted();
            self.runners.queues()[pool].not_posted();
        }
        rc == NGX_OK as ngx_int_t
    }

    /// Does what pool threads ask for.
    ///
    /// # Safety
    ///
    /// Only on the event loop of this worker; `cycle` is live.
    pub unsafe fn read_mail(&self, cycle: *mut ngx_cycle_t) {
        let mut mails = self.mailbox.collect(self.spare.take());
        for mail in mails.drain(..) {
            match mail {
                Mail::Response(id) => self.act(id, response::advance),
                Mail::BodyRoom(id) => self.act(id, unbuffered::resume),
                // SAFETY: as the caller says.
                Mail::Log(record) => unsafe { self.write_log(cycle, &record) },
                Mail::Check(pool) => self.check(pool),
                Mail::Imported => self.imports.ended(self),
                Mail::Tidy => drop(self.push(0, Job::Tidy, usize::MAX)),
                Mail::Compiled(good) => {
                    if let Some(reload) = &self.reload {
                        reload.compiled(good);
                    }
                }
                Mail::Left => (),
            }
        }
        self.spare.set(mails);
    }

    /// Does something for a request that may have gone.
    fn act(&self, id: ExchangeId, act: unsafe fn(*mut Context)) {
        if let Some(context) = self.context(id) {
            // SAFETY: contexts in the table belong to live requests.
            unsafe { Context::act(context, |context| act(context)) };
        }
    }

    unsafe fn write_log(&self, cycle: *mut ngx_cycle_t, record: &LogRecord) {
        // SAFETY: contexts in the table belong to live requests; the cycle is live.
        unsafe {
            match record.exchange.and_then(|id| self.context(id)) {
                Some(context) => {
                    log::write_request_lines((*context).request, record.level, &record.text);
                }
                None => log::write_lines((*cycle).log, record.level, &record.text),
            }
        }
    }

    /// Writes what the leaving runners have logged. Everything else is too late.
    ///
    /// # Safety
    ///
    /// On the event loop's thread when the loop has ended; `cycle` is live.
    pub unsafe fn drain_log(&self, cycle: *mut ngx_cycle_t) {
        for mail in self.mailbox.collect(Vec::new()) {
            if let Mail::Log(record) = mail {
                // SAFETY: the caller's.
                unsafe { self.write_log(cycle, &record) };
            }
        }
    }

    /// The worker leaves with requests that it will not finish: their applications stop at the
    /// next chunk.
    pub fn cancel_all(&self) {
        for context in self.exchanges.borrow().values() {
            // SAFETY: contexts in the table are live.
            unsafe { (**context).cancel() };
        }
    }
}

/// The eventfd has been written to.
unsafe extern "C" fn ngx_http_wsgi_mail(_ev: *mut ngx_event_t) {
    protect((), || {
        if let Some(worker) = worker() {
            // SAFETY: nginx's event loop calls this; its cycle is the current one.
            unsafe { worker.read_mail(ngx::ffi::ngx_cycle) };
        }
    });
}

/// What a runner's task carries.
struct Runner {
    runners: Arc<Runners>,
    pool: usize,
}

/// A runner's life. Runs on: pool thread.
unsafe extern "C" fn ngx_http_wsgi_runner(data: *mut c_void, _log: *mut ngx_log_t) {
    // SAFETY: made by `post_runner`, and run once.
    let runner = unsafe { Box::from_raw(data.cast::<Runner>()) };
    process::unblock_signals();
    // It catches panics itself.
    runner.runners.run(runner.pool);
}

/// The event loop hears that a runner has left.
unsafe extern "C" fn ngx_http_wsgi_runner_left(ev: *mut ngx_event_t) {
    // SAFETY: the event is part of the task it names, made by `post_runner`; nginx is done with it.
    unsafe { drop(Box::from_raw((*ev).data.cast::<ngx_thread_task_t>())) };
}

/// Logs outside of a request.
///
/// # Safety
///
/// On the event loop; `cycle` is live.
pub unsafe fn log_start_failure(cycle: *mut ngx_cycle_t, text: &str) {
    // SAFETY: the caller's.
    unsafe { log::write((*cycle).log, Level::Error, format_args!("{text}")) };
}
