//! What one request keeps while its application runs.
//!
//! A context is made when the request is queued and lives as long as the request's pool, because
//! nginx's chains may point into its chunks until then. It leaves the worker's table as soon as
//! the request has an end, or dies: from then on a pool thread reaches nothing of it.
//! Runs on: event loop.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::fs::File;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ngx::ffi::{
    NGX_ALIGNMENT, ngx_chain_t, ngx_event_handler_pt, ngx_event_t, ngx_file_t,
    ngx_http_cleanup_add, ngx_http_request_t, ngx_http_run_posted_requests, ngx_int_t, ngx_msec_t,
    ngx_pool_cleanup_add,
};

use super::seen::Seen;
use super::timings::Timings;
use super::upgraded::{Upgraded, Way};
use crate::nginx::config::LocConf;
use crate::nginx::sys::event::{add_timer, del_timer};
use crate::nginx::sys::module::http_module;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{bits, log};
use crate::nginx::worker::display::display;
use crate::nginx::worker::worker;
use crate::wsgi::exchange::{Blocks, End, Exchange, HeldBack, Progress, Taken};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::ExchangeId;
use crate::wsgi::numbers::NumberMap;
use crate::wsgi::own_threads::Threads;
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::request::body_pipe::{BodyError, BodyPipe};
use crate::wsgi::request::vars::Vars;
use crate::wsgi::segment::{Segment, Segments};

/// The state of one request. Chunks are in the order of the buffers in `busy`.
///
/// It is reached by its pointer, and no reference to it lasts over a call into nginx that sends
/// something or ends the request: filters evaluate variables, and those look at all contexts of the
/// request (`variables.rs`).
pub struct Context {
    pub request: *mut ngx_http_request_t,
    pub exchange: Arc<Exchange>,
    /// Held so that this thread, not the pool's, frees it, see [`crate::wsgi::request::Request`].
    kept: (Vars, Option<Arc<RequestBody>>),
    /// Memory that the response has used.
    pub blocks: Blocks,
    /// What of the body comes while the application runs.
    pub pipe: Option<Arc<BodyPipe>>,
    /// The body, or a part of it, has come by the pipe: nginx has it no more.
    pub takes_body: bool,
    /// It asks for a WebSocket.
    pub upgraded: Option<Upgraded>,
    /// The request does not fit a message to another worker.
    pub stays: bool,
    /// Where others see the request, once it has been under way for a moment.
    pub row: Option<usize>,
    /// The application has ended, and nginx is still sending.
    pub is_lingering: bool,
    /// Of the location; it lives as long as the request.
    conf: *const LocConf,
    /// The client has gone while the application goes on: what nginx is told at its end.
    pub client_lost: Option<ngx_int_t>,
    /// Queue, request and read timeout. It is not cancelable, so a leaving worker waits for the
    /// request.
    pub timer: ngx_event_t,
    pub chunks: Segments,
    pub busy: *mut ngx_chain_t,
    pub free: *mut ngx_chain_t,
    /// The temporary file for nginx, null until there is one.
    pub spool: *mut ngx_file_t,
    /// The same, open until nginx is done with the request.
    pub spool_file: Option<Arc<File>>,
    /// The application has ended; what it sent before may still be on its way.
    pub end: Option<End>,
    /// What the application has answered, for `variables.rs`.
    pub head: Option<ResponseHead>,
    /// nginx has been given the head; its filters may still hold it back.
    pub head_taken: bool,
    /// Another request had the connection's events when this one last waited for them.
    pub is_passive: bool,
    /// What of `chunks` the application need not wait for.
    pub held_back: HeldBack,
    pub timings: Timings,
    /// `wsgi_slow_request`: how long the request runs until its stack is logged next.
    pub stack_due: Option<Duration>,
    table: &'static Table,
    /// Out of the table: nginx finishes the request alone.
    detached: bool,
}

/// The contexts of this worker that are not detached, by the numbers of their exchanges: what pool
/// threads post names a number, since the request may have gone meanwhile.
#[derive(Default)]
pub struct Table {
    contexts: RefCell<NumberMap<*mut Context>>,
    last: Cell<ExchangeId>,
    /// Those that are detached, whose responses are still being sent.
    lingering: RefCell<NumberMap<*mut Context>>,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static TABLE: Cell<Option<&'static Table>> = const { Cell::new(None) };
}

/// The table of this worker.
pub fn table() -> &'static Table {
    TABLE.get().unwrap_or_else(|| {
        let table: &'static Table = Box::leak(Box::default());
        TABLE.set(Some(table));
        table
    })
}

impl Table {
    /// A number for one more exchange.
    pub fn next_id(&self) -> ExchangeId {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    /// Mail for the exchange of `context` comes to it from now on, until it is detached.
    ///
    /// # Safety
    ///
    /// The context is live, and not detached.
    pub unsafe fn insert(&self, context: *mut Context) {
        // SAFETY: a live context, as the caller says.
        let id = unsafe { (*context).exchange.id() };
        self.contexts.borrow_mut().insert(id, context);
    }

    /// The context of this exchange; its request is live.
    pub fn find(&self, id: ExchangeId) -> Option<*mut Context> {
        self.contexts.borrow().get(&id).copied()
    }

    /// The response of this context is complete, and nginx goes on to send it.
    ///
    /// # Safety
    ///
    /// The context is live.
    pub unsafe fn linger(&self, context: *mut Context) {
        // SAFETY: a live context, as the caller says, which `free` takes out again.
        unsafe {
            (*context).is_lingering = true;
            self.lingering.borrow_mut().insert((*context).exchange.id(), context);
        }
    }

    /// All contexts whose clients wait for something.
    pub fn all(&self) -> Vec<*mut Context> {
        let (contexts, lingering) = (self.contexts.borrow(), self.lingering.borrow());
        contexts.values().chain(lingering.values()).copied().collect()
    }

    /// The numbers of all exchanges in the table.
    pub fn ids(&self) -> Vec<ExchangeId> {
        self.contexts.borrow().keys().copied().collect()
    }
}

/// What a request is queued with.
pub struct Waiting<'a> {
    pub exchange: Arc<Exchange>,
    pub kept: (Vars, Option<Arc<RequestBody>>),
    pub pipe: Option<Arc<BodyPipe>>,
    pub takes_body: bool,
    pub conf: &'a LocConf,
    /// Where the times begin.
    pub queued: Instant,
}

impl Context {
    /// Makes the context of `r`; null when nginx is out of memory.
    ///
    /// # Safety
    ///
    /// `r` is a live request of this module without a context.
    pub unsafe fn create(
        r: *mut ngx_http_request_t,
        waiting: Waiting<'_>,
        table: &'static Table,
        timeout_handler: ngx_event_handler_pt,
    ) -> *mut Self {
        // SAFETY: the request's pool and connection are live; both cleanups run before the pool's
        // memory is given back, the request's before the pool's.
        unsafe {
            let detach = ngx_http_cleanup_add(r, 0);
            let free = ngx_pool_cleanup_add((*r).pool, size_of::<Self>());
            if detach.is_null() || free.is_null() {
                return ptr::null_mut();
            }
            const { assert!(align_of::<Self>() <= NGX_ALIGNMENT) };
            let context: *mut Self = (*free).data.cast();
            context.write(Self {
                request: r,
                exchange: waiting.exchange,
                kept: waiting.kept,
                blocks: Blocks::default(),
                pipe: waiting.pipe,
                takes_body: waiting.takes_body,
                upgraded: None,
                stays: false,
                row: None,
                is_lingering: false,
                conf: waiting.conf,
                client_lost: None,
                timer: std::mem::zeroed(),
                chunks: Segments::new(),
                busy: ptr::null_mut(),
                free: ptr::null_mut(),
                spool: ptr::null_mut(),
                spool_file: None,
                end: None,
                head: None,
                head_taken: false,
                is_passive: false,
                held_back: HeldBack::default(),
                timings: Timings::open(r, waiting.queued),
                stack_due: waiting.conf.slow_request().map(|slow| slow.time),
                table,
                detached: false,
            });
            (*context).timer.data = context.cast();
            (*context).timer.log = (*(*r).connection).log;
            (*context).timer.handler = timeout_handler;
            (*detach).data = context.cast();
            (*detach).handler = Some(ngx_http_wsgi_detach);
            (*free).handler = Some(ngx_http_wsgi_free);
            *(*r).ctx.add(http_module().ctx_index) = context.cast();
            context
        }
    }

    /// The context of `r`, or null.
    ///
    /// # Safety
    ///
    /// `r` is a live request.
    pub unsafe fn of(r: *mut ngx_http_request_t) -> *mut Self {
        // SAFETY: a live request has an array with a pointer for each HTTP module.
        unsafe { (*(*r).ctx.add(http_module().ctx_index)).cast() }
    }

    /// All contexts that `r` has had, the newest first. nginx forgets a request's context when it
    /// redirects it, but the pool keeps it.
    ///
    /// # Safety
    ///
    /// `r` is a live request.
    pub unsafe fn all_of(r: *mut ngx_http_request_t) -> Vec<*mut Self> {
        let mut all = Vec::new();
        // SAFETY: the cleanups of a live pool are a list; those with our handler have a context,
        // which is freed with the pool. Subrequests use the pool of their main request.
        unsafe {
            let mut cleanup = (*(*r).pool).cleanup;
            while let Some(cln) = cleanup.as_ref() {
                let ours = cln.handler.is_some_and(|handler| {
                    ptr::fn_addr_eq(handler, ngx_http_wsgi_free as unsafe extern "C" fn(_))
                });
                let context: *mut Self = cln.data.cast();
                if ours && (*context).request == r {
                    all.push(context);
                }
                cleanup = cln.next;
            }
        }
        all
    }

    /// Does what a request's own events have not asked for: the log names the request, and what
    /// nginx has posted for it is run afterwards.
    ///
    /// # Safety
    ///
    /// The request of `context` is live. It may be freed by this.
    pub unsafe fn act(context: *mut Self, act: impl FnOnce(*mut Self)) {
        // SAFETY: the request is live, as the caller says. The connection's memory outlives it:
        // nginx marks a closed one as destroyed.
        unsafe {
            let c = (*(*context).request).connection;
            log::set_log_request((*c).log, (*context).request);
            act(context);
            ngx_http_run_posted_requests(c);
        }
    }

    pub fn conf(&self) -> &LocConf {
        // SAFETY: nginx keeps a configuration until the last request that it was found for ends.
        unsafe { &*self.conf }
    }

    /// The pool that the request waits for, unless it has a thread of its own.
    pub fn pool(&self) -> Option<usize> {
        self.conf().endpoint.filter(|_| self.upgraded.is_none()).map(|endpoint| endpoint.pool)
    }

    /// The threads that the request is given one of.
    fn threads(&self) -> Option<Threads> {
        if self.upgraded.is_some() {
            return Some(Threads::Own(self.conf().websocket.threads()));
        }
        self.pool().map(Threads::Pool)
    }

    /// `wsgi_request_timeout`, if it counts: it does until the request has become a WebSocket.
    fn request_timeout(&self) -> Option<Duration> {
        self.conf().request_timeout().filter(|_| !self.is_websocket())
    }

    /// The connection is the application's: no time counts any more. The timer only keeps a leaving
    /// worker from leaving.
    pub fn disarm(&mut self) {
        const FAR: Duration = Duration::from_secs(24 * 3600);
        self.stack_due = None;
        self.arm(FAR);
    }

    /// When it is given up unless a thread has taken it.
    pub fn queue_deadline(&self) -> Instant {
        self.timings.queued + self.conf().queue_timeout()
    }

    /// Arms the timer for nothing but this time, in milliseconds.
    pub fn arm_for(&mut self, msec: ngx_msec_t) {
        // SAFETY: the event lives as long as the context, which deletes it when it is detached.
        unsafe { add_timer(&mut self.timer, msec) };
    }

    /// Arms the timer, at the latest for when `wsgi_request_timeout` may be over or a stack due.
    pub fn arm(&mut self, time: Duration) {
        let time = self.request_timeout().map_or(time, |timeout| timeout.min(time));
        let time = self.stack_due.map_or(time, |due| {
            let ran = self.exchange.taken().map_or(Duration::ZERO, |taken| taken.at.elapsed());
            due.saturating_sub(ran).min(time)
        });
        let msec = ngx_msec_t::try_from(time.as_millis()).unwrap_or(ngx_msec_t::MAX / 2);
        // SAFETY: the event lives as long as the context, which deletes it when it is detached.
        unsafe { add_timer(&mut self.timer, msec.max(1)) };
    }

    /// How long until the request has been in the application for `wsgi_request_timeout`; `None`
    /// if there is no such time, or it is not there.
    pub fn request_time_left(&self, progress: Progress, now: Instant) -> Option<Duration> {
        let timeout = self.request_timeout().filter(|_| progress != Progress::Ended)?;
        let begun = self.exchange.taken()?.at;
        Some(timeout.saturating_sub(now.saturating_duration_since(begun)))
    }

    /// Takes the context out of the worker's table: the application is told that nobody reads any
    /// more, a request that still waits never reaches it. Calling it again does nothing.
    pub fn detach(&mut self) {
        if std::mem::replace(&mut self.detached, true) {
            return;
        }
        self.timings.close();
        let taken = self.cancel();
        if let Some(upgraded) = &mut self.upgraded {
            upgraded.close();
        }
        if let Some(display) = display()
            && let Some(endpoint) = self.conf().endpoint.filter(|_| self.is_websocket())
        {
            display.websocket(endpoint.app, false);
        }
        self.table.contexts.borrow_mut().remove(&self.exchange.id());
        if let Some(display) = display().filter(|_| !self.is_lingering) {
            let row = self.row.take();
            self.seen().leave_row(display, row, taken);
        }
        if let Some(worker) = worker() {
            if taken.is_none()
                && let Some(pool) = self.pool().and_then(|index| worker.pool(index))
            {
                pool.remove(self.exchange.id());
            }
            // Another worker that runs the request follows it.
            let is_here = self.exchange.handed_over().is_none();
            if let Some(timeout) = self.request_timeout().filter(|_| is_here)
                && let Some(threads) = self.threads()
            {
                worker.watch.follow(&self.exchange, threads, timeout, || self.title());
            }
        }
        // SAFETY: a timer that is set is in nginx's tree.
        unsafe {
            if bits::event::timer_set(&self.timer) {
                del_timer(&mut self.timer);
            }
        }
    }

    /// The request as others see it.
    pub fn seen(&self) -> Seen<'_> {
        Seen {
            request: self.request,
            exchange: &self.exchange,
            timings: &self.timings,
            endpoint: self.conf().endpoint,
            threads: self.threads(),
            head_taken: self.head_taken,
            websocket: self.upgraded.as_ref().map(|_| self.is_websocket()),
        }
    }

    /// The connection is the application's, by a 101.
    pub fn is_websocket(&self) -> bool {
        self.upgraded
            .as_ref()
            .is_some_and(|upgraded| matches!(upgraded.way, Way::Switched | Way::Frames))
    }

    /// What the log calls a request that is gone, in nginx's words. Until the context is detached.
    pub fn title(&self) -> String {
        // SAFETY: the request is live until the first call of `detach` has returned; the strings
        // are its own and its connection's.
        unsafe {
            let r = self.request;
            let client = (*(*r).connection).addr_text.to_string();
            let request = (*r).request_line.to_string();
            format!(
                "stack of the thread at an overdue request, client: {client}, request: \"{request}\""
            )
        }
    }

    /// Tells the application that nobody reads any more, nor brings the rest of its body. Returns
    /// which thread had taken the request, if any.
    pub fn cancel(&mut self) -> Option<Taken> {
        let taken = self.exchange.cancel();
        if let Some(pipe) = &self.pipe {
            pipe.fail(BodyError::Gone);
        }
        if let Some(upgraded) = &mut self.upgraded {
            upgraded.hang_up();
            // SAFETY: the request is live, and its connection open, until this is done.
            unsafe { upgraded.part((*self.request).connection) };
        }
        taken
    }

    /// nginx has a buffer on the temporary file.
    pub fn is_spooled(&self) -> bool {
        self.chunks.iter().any(|chunk| matches!(chunk, Segment::Spooled { .. }))
    }

    pub fn is_detached(&self) -> bool {
        self.detached
    }
}

/// The request ends, or is terminated.
unsafe extern "C" fn ngx_http_wsgi_detach(data: *mut c_void) {
    protect((), || {
        // SAFETY: nginx runs this before the pool's cleanup that frees the context.
        unsafe { (*data.cast::<Context>()).detach() }
    });
}

/// The pool is destroyed: no chain points into the chunks any more.
unsafe extern "C" fn ngx_http_wsgi_free(data: *mut c_void) {
    protect((), || {
        // SAFETY: written by `create`, and taken out only here: the memory is the pool's. It is
        // detached where it is, since nginx may have its timer.
        let context = unsafe {
            let context = &mut *data.cast::<Context>();
            context.detach();
            if context.is_lingering {
                context.table.lingering.borrow_mut().remove(&context.exchange.id());
                if let (Some(display), Some(row)) = (display(), context.row.take()) {
                    display.free_row(row);
                }
            }
            if let Some(display) = display() {
                context.seen().count(display, context.end);
            }
            data.cast::<Context>().read()
        };
        if let Some(worker) = worker() {
            let Context { kept: (vars, _), exchange, mut blocks, head, .. } = context;
            blocks.head = head.map(ResponseHead::into_block).unwrap_or_default();
            worker.stock.leave(vars, exchange, blocks);
        }
    });
}
