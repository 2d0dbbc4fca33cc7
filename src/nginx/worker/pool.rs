//! The threads of one pool, as the event loop calls them.
//!
//! A sleeping runner is woken when all events of this turn of the loop have been handled, so that
//! it finds all their requests at once; at each of them it would be up and asleep again before the
//! next. A timer looks whether waiting requests need another thread: it is armed when the queue
//! expects a runner to come back soon ([`Wakeup::LookLater`]) or nginx has refused to take one,
//! and there is none while nothing waits. It does not hold up a leaving worker: the requests' own
//! timers do.
//! Runs on: event loop, but for `ngx_http_wsgi_runner`, which a pool thread runs for its life.

use std::cell::OnceCell;
use std::ffi::c_void;
use std::sync::Arc;

use ngx::ffi::{
    ngx_event_t, ngx_log_t, ngx_msec_t, ngx_thread_pool_t, ngx_thread_task_post, ngx_thread_task_t,
};

use crate::nginx::sys::timer::{Posted, Timer};
use crate::nginx::sys::{code, process};
use crate::wsgi::mailbox::{ExchangeId, Mailbox};
use crate::wsgi::queue::runner::Runners;
use crate::wsgi::queue::{Full, Job, Overflow, Place, RequestQueue, Timers, Wakeup};

/// nginx counts in milliseconds: no timer is shorter.
const MOMENT: ngx_msec_t = 1;

/// How long until nginx is asked once more for a thread that it has refused; it logs each refusal.
const RETRY: ngx_msec_t = 1000;

/// One pool. Lives as long as the process: nginx keeps pointers to its events.
pub struct Pool {
    index: usize,
    nginx: *mut ngx_thread_pool_t,
    queue: Arc<RequestQueue>,
    runners: Arc<Runners>,
    mailbox: Arc<Mailbox>,
    timers: Timers,
    look: Timer,
    wake: Posted,
    /// What is done when requests wait that may claim another worker.
    overflow: OnceCell<Box<dyn Fn(Overflow)>>,
}

impl Pool {
    /// `read_mail` reads what has been posted so far.
    pub fn leak(
        index: usize,
        nginx: *mut ngx_thread_pool_t,
        runners: &Arc<Runners>,
        mailbox: &Arc<Mailbox>,
        timers: Timers,
        read_mail: fn(),
        log: *mut ngx_log_t,
    ) -> &'static Self {
        let this: &'static Self = Box::leak(Box::new(Self {
            index,
            nginx,
            queue: Arc::clone(&runners.queues()[index]),
            runners: Arc::clone(runners),
            mailbox: Arc::clone(mailbox),
            timers,
            look: Timer::new(log),
            wake: Posted::new(log),
            overflow: OnceCell::new(),
        }));
        this.look.calls(move || {
            // What pool threads post from now on is not for this look any more.
            this.mailbox.look_begins();
            this.look();
            this.overflows(Overflow::Now);
            read_mail();
        });
        this.wake.calls(move || this.queue.wake());
        this
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.queue.threads()
    }

    /// Threads that are not expected back.
    pub fn stuck(&self) -> usize {
        self.runners.stuck(self.index)
    }

    /// Queues a job and posts a runner if one is wanted. The queue is full if `limit` jobs wait.
    pub fn push(&self, job: Job, limit: usize) -> Result<(), Full> {
        let wakeup = self.queue.push(job, limit)?;
        let overflow = match wakeup {
            // It is said below.
            Wakeup::Nobody => Overflow::Nothing,
            _ => self.queue.overflow(),
        };
        self.summon(wakeup);
        self.overflows(overflow);
        Ok(())
    }

    /// What is done when requests wait that may claim another worker. Only the first call counts.
    pub fn overflows_into(&self, act: impl Fn(Overflow) + 'static) {
        let _ = self.overflow.set(Box::new(act));
    }

    fn overflows(&self, overflow: Overflow) {
        if overflow != Overflow::Nothing
            && let Some(act) = self.overflow.get()
        {
            act(overflow);
        }
    }

    pub fn queue(&self) -> &RequestQueue {
        &self.queue
    }

    /// A request that waits need not be served any more.
    pub fn remove(&self, id: ExchangeId) {
        self.queue.remove(id);
    }

    /// A request that was taken out waits here again.
    pub fn put_back(&self, job: Job, place: Place) {
        self.summon(self.queue.put_back(job, place));
    }

    /// Looks whether what waits needs another thread.
    pub fn look(&self) {
        self.summon(self.queue.look());
    }

    fn summon(&self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Done => (),
            Wakeup::Wake => self.wake.post(),
            Wakeup::WakeAndLook => {
                self.wake.post();
                self.look_later();
            }
            Wakeup::StartRunner => {
                if self.post_runner() {
                    self.look_later();
                } else {
                    // nginx has logged why it could not. No request may come that would look.
                    self.look.set_by(RETRY);
                }
            }
            Wakeup::LookLater => self.look_later(),
            Wakeup::Nobody => self.overflows(Overflow::Now),
        }
    }

    fn look_later(&self) {
        self.look.set_by(MOMENT);
        if self.timers == Timers::Fine {
            self.mailbox.expect_look();
        }
    }

    /// Posts one more runner; false if nginx does not take it. The task is not in any pool of
    /// nginx's memory: it outlives all requests.
    fn post_runner(&self) -> bool {
        let runner = Box::new(Runner { runners: Arc::clone(&self.runners), pool: self.index });
        // SAFETY: all-zero bytes are a valid task. nginx wants a handler on its event, which it
        // calls when the runner has left, as the last user of the task.
        let rc = unsafe {
            let task = Box::into_raw(Box::new(std::mem::zeroed::<ngx_thread_task_t>()));
            (*task).ctx = Box::into_raw(runner).cast();
            (*task).handler = Some(ngx_http_wsgi_runner);
            (*task).event.data = task.cast();
            (*task).event.handler = Some(ngx_http_wsgi_runner_left);
            self.runners.starting();
            let rc = ngx_thread_task_post(self.nginx, task);
            if rc != code::OK {
                drop(Box::from_raw((*task).ctx.cast::<Runner>()));
                drop(Box::from_raw(task));
            }
            rc
        };
        if rc != code::OK {
            self.runners.not_started();
            self.queue.not_started();
        }
        rc == code::OK
    }
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
