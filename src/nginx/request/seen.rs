//! What others see of a request, and what is counted of it, for `wsgi_status`.
//!
//! Runs on: event loop.

use std::sync::Arc;

use ngx::ffi::ngx_http_request_t;

use super::timings::Timings;
use crate::nginx::config::Endpoint;
use crate::nginx::sys::bits;
use crate::nginx::worker::display::{Display, Left};
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::{Account, End, Exchange, Progress, Taken};
use crate::wsgi::own_threads::Threads;
use crate::wsgi::status::counters::{Done, Rejected};
use crate::wsgi::status::records::{OWN_THREAD, Phase, Row};

/// What is to be known of a request, which is live.
pub struct Seen<'a> {
    pub request: *mut ngx_http_request_t,
    pub exchange: &'a Arc<Exchange>,
    pub timings: &'a Timings,
    pub endpoint: Option<Endpoint>,
    /// That it is given one of.
    pub threads: Option<Threads>,
    pub head_taken: bool,
    /// It asks for a WebSocket; true if its connection is the application's.
    pub websocket: Option<bool>,
}

impl Seen<'_> {
    /// What changes while the request goes on.
    pub fn shown(&self) -> Row {
        let (taken, there) = (self.exchange.taken(), self.exchange.handed_over());
        // SAFETY: the request is live, and has a connection.
        let (sent, is_buffered) = unsafe {
            let c = (*(*self.request).main).connection;
            let is_buffered =
                bits::request::buffered(self.request) != 0 || bits::connection::buffered(c) != 0;
            ((*c).sent, is_buffered)
        };
        let phase = match self.exchange.progress() {
            _ if taken.is_none() => Phase::Queued,
            _ if self.websocket == Some(true) => Phase::Websocket,
            Progress::Blocked => Phase::Waiting,
            _ if self.head_taken && is_buffered => Phase::Waiting,
            _ if self.head_taken => Phase::Sending,
            _ => Phase::Running,
        };
        let (app, pool) = self.endpoint.map_or((0, 0), |at| (at.app as u64, at.pool as u64));
        let pool = self.websocket.map_or(pool, |_| OWN_THREAD);
        let since = self.timings.start();
        let waited = self.timings.queue_time(taken);
        Row {
            id: self.exchange.id(),
            phase,
            since,
            taken: waited.map_or(0, |waited| since + waited as u64),
            app,
            pool,
            thread: taken.map_or(0, |taken| taken.runner as u64),
            there: there.unwrap_or(0).into(),
            sent: u64::try_from(sent).unwrap_or(0),
            ..Row::default()
        }
    }

    /// The same with who asks for what.
    pub fn described(&self, display: &Display) -> Row {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // SAFETY: the request is live, and so are its strings and those of its connection.
        unsafe {
            let r = self.request;
            let query = if display.shows_query() { (*r).args.as_bytes() } else { b"" };
            Row {
                method: text((*r).method_name.as_bytes()),
                host: text((*r).headers_in.server.as_bytes()),
                path: text((*r).uri.as_bytes()),
                query: text(query),
                client: text((*(*r).connection).addr_text.as_bytes()),
                ..self.shown()
            }
        }
    }

    /// Nobody waits for the request any more. Its row goes, unless the thread that has `taken` it is
    /// still at it.
    pub fn leave_row(&self, display: &Display, row: Option<usize>, taken: Option<Taken>) {
        let goes_on = taken.is_some()
            && self.exchange.progress() != Progress::Ended
            && self.exchange.handed_over().is_none();
        let Some(threads) = self.threads.filter(|_| goes_on) else {
            if let Some(row) = row {
                display.free_row(row);
            }
            return;
        };
        let row = row.or_else(|| {
            let row = display.take_row()?;
            display.write_row(row, &self.described(display));
            Some(row)
        });
        let Some(row) = row else { return };
        let front = Row { phase: Phase::Left, ..self.shown() }.front();
        display.update_row(row, &front);
        let exchange = Arc::clone(self.exchange);
        display.left.borrow_mut().push(Left { exchange, threads, row, front });
        display.is_under_way();
    }

    /// Counts the request, which has ended.
    pub fn count(&self, display: &Display, end: Option<End>) {
        let Some(endpoint) = self.endpoint else { return };
        let Account { taken, is_handed_over, cpu } = self.exchange.account();
        let is_websocket = self.websocket == Some(true);
        display.count(endpoint.series, |cells| {
            cells.done(Done {
                status: self.timings.status(),
                // How long it lasts says nothing about the application.
                duration: if is_websocket {
                    self.timings.until_head()
                } else {
                    self.timings.duration()
                },
                queued: taken.map(|taken| self.timings.waited(taken)),
                is_handed_over: is_handed_over && taken.is_some(),
                has_raised: end == Some(Err(Failure::Application)),
                cpu: cpu.and_then(|cpu| u64::try_from(cpu.as_micros()).ok()),
            });
            if end == Some(Err(Failure::Import)) {
                cells.rejected(Rejected::NotLoaded);
            }
        });
    }
}
