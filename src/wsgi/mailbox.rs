//! What pool threads tell the event loop of their worker: one queue, one wake-up a batch.
//!
//! `src/nginx/sys/eventfd.rs` supplies the waking function (a write to an eventfd) and collects;
//! everything else posts. The wake-up is skipped while one is pending.
//! Runs on: pool thread (post), event loop (collect).

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::lock::lock;

/// Identifies one exchange in its worker; never used twice.
pub type ExchangeId = u64;

/// Severity of a log record, in the event loop's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A configuration cannot be used.
    Emerg,
    /// A defect of this module.
    Alert,
    /// The application's own word (`logging.CRITICAL`).
    Crit,
    /// The application's: tracebacks, `wsgi.errors`, stderr, stdout.
    Error,
    /// The application's doing, and harmless.
    Warn,
    /// What an operator may want to know of the life of a worker.
    Notice,
    Info,
    /// The application's own word (`logging.DEBUG`).
    Debug,
}

impl Level {
    /// What nginx calls its levels.
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"emerg" => Self::Emerg,
            b"alert" => Self::Alert,
            b"crit" => Self::Crit,
            b"error" => Self::Error,
            b"warn" => Self::Warn,
            b"notice" => Self::Notice,
            b"info" => Self::Info,
            b"debug" => Self::Debug,
            _ => return None,
        })
    }

    /// That of a record of Python's logging, whose levels are numbers.
    pub fn of_logging(number: i64) -> Self {
        match number {
            50.. => Self::Crit,
            40.. => Self::Error,
            30.. => Self::Warn,
            20.. => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// Lines for the error log, a record each, that nothing comes in between.
#[derive(Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The request whose context and log are used, if it is still there.
    pub exchange: Option<ExchangeId>,
    pub level: Level,
    /// Lines with a line feed between them; free of other control characters, and each short
    /// enough for one record. The first has the context of the request.
    pub text: String,
}

/// One message to the event loop.
#[derive(Debug, PartialEq, Eq)]
pub enum Mail {
    /// There is something to take from this exchange.
    Response(ExchangeId),
    /// The application has read on: more of this exchange's request body can be taken in.
    BodyRoom(ExchangeId),
    Log(LogRecord),
    /// The worker that runs the request of this exchange is to be told something.
    Relay(ExchangeId),
    /// Requests of the pool with this index may have become runnable.
    Look(usize),
    /// No thread of the pool with this index will take what waits for it.
    Refuse(usize),
    /// Objects of the interpreter wait for their release: some runner shall see to it.
    Tidy,
    /// The changed sources have been looked at; whether they can be compiled.
    Compiled(bool),
    /// What `wsgi_status` has asked the watchdog, or the system, for is there.
    Stacks,
    /// An import has ended, well or not.
    Imported,
    /// A runner has left for good, or the exit functions have been run.
    Left,
}

/// Bytes of log that may wait for the event loop before a writer has to wait too.
const LOG_WINDOW: usize = 1 << 20;

#[derive(Default)]
struct State {
    mails: Vec<Mail>,
    log_bytes: usize,
    closing: bool,
}

/// The queue of one worker.
pub struct Mailbox {
    state: Mutex<State>,
    collected: Condvar,
    pending: AtomicBool,
    /// A log record waits.
    logged: AtomicBool,
    /// The event loop will collect within a moment, without being woken.
    expected: AtomicBool,
    /// Something was posted for that moment.
    late: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    /// `wake` must make the event loop call [`Self::collect`] soon; it must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            collected: Condvar::new(),
            pending: AtomicBool::new(false),
            logged: AtomicBool::new(false),
            expected: AtomicBool::new(false),
            late: AtomicBool::new(false),
            wake: Box::new(wake),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn post(&self, mail: Mail) {
        self.lock().mails.push(mail);
        self.wake();
    }

    /// Posts; if the event loop will look within a moment it is not woken, unless
    /// [`Self::wake_if_late`] does that before.
    pub fn post_soon(&self, mail: Mail) {
        self.lock().mails.push(mail);
        // After the post: what is posted before `look_begins` is collected behind it.
        if self.expected.load(Ordering::SeqCst) {
            self.late.store(true, Ordering::Release);
        } else {
            self.wake();
        }
    }

    /// Wakes the event loop for what [`Self::post_soon`] has left to its next look.
    pub fn wake_if_late(&self) {
        if self.late.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Event loop: it has arranged to collect within a moment.
    pub fn expect_look(&self) {
        self.expected.store(true, Ordering::SeqCst);
    }

    /// Event loop: it is about to collect, and has arranged for no other look.
    pub fn look_begins(&self) {
        self.expected.store(false, Ordering::SeqCst);
    }

    /// Posts a log record; false when so much log waits that the writer should call
    /// [`Self::wait_for_log_room`], without the GIL.
    pub fn log(&self, record: LogRecord) -> bool {
        let room = {
            let mut state = self.lock();
            state.log_bytes += record.text.len();
            self.logged.store(true, Ordering::Relaxed);
            state.mails.push(Mail::Log(record));
            state.closing || state.log_bytes < LOG_WINDOW
        };
        self.wake();
        room
    }

    /// Blocks until the event loop has written the waiting log lines.
    pub fn wait_for_log_room(&self) {
        let mut state = self.lock();
        while !state.closing && state.log_bytes >= LOG_WINDOW {
            state = self.collected.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Event loop: it collects before it sleeps, so that nobody need wake it until then.
    pub fn will_collect(&self) {
        self.pending.store(true, Ordering::Release);
    }

    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// Everything posted so far, in order. `spare` is the empty vector of the batch before.
    pub fn collect(&self, spare: Vec<Mail>) -> Vec<Mail> {
        // Before the queue is emptied: a message posted in between costs one empty wake-up, the
        // other order would lose it.
        self.pending.store(false, Ordering::Release);
        self.late.store(false, Ordering::Release);
        let mut state = self.lock();
        if state.log_bytes > 0 {
            state.log_bytes = 0;
            self.logged.store(false, Ordering::Relaxed);
            self.collected.notify_all();
        }
        mem::replace(&mut state.mails, spare)
    }

    /// What has been said for this exchange since the last [`Self::collect`], in order. Whoever has
    /// taken its end, and ends its request, looks here first: all was posted before that end.
    pub fn take_logs(&self, id: ExchangeId) -> Vec<LogRecord> {
        // The lock of the exchange, under which its end was taken, has made this visible.
        if !self.logged.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let is_its = |mail: &mut Mail| matches!(mail, Mail::Log(log) if log.exchange == Some(id));
        let mut state = self.lock();
        let its = state.mails.extract_if(.., is_its);
        its.filter_map(|mail| if let Mail::Log(log) = mail { Some(log) } else { None }).collect()
    }

    /// The worker is leaving: nobody waits for room in the log any more.
    pub fn close(&self) {
        self.lock().closing = true;
        self.collected.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    fn counting() -> (Arc<Mailbox>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let mailbox = Mailbox::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        (Arc::new(mailbox), count)
    }

    fn line(text: &str) -> LogRecord {
        LogRecord { exchange: None, level: Level::Error, text: text.to_owned() }
    }

    #[test]
    fn a_batch_is_woken_for_once() {
        let (mailbox, wakes) = counting();
        mailbox.post(Mail::Response(1));
        mailbox.post(Mail::Response(2));
        assert!(mailbox.log(line("x")));
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        let batch = mailbox.collect(Vec::new());
        assert_eq!(batch, [Mail::Response(1), Mail::Response(2), Mail::Log(line("x"))]);
        mailbox.post(Mail::Left);
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_one_exchange_has_said_can_be_taken_before_the_rest() {
        let (mailbox, _) = counting();
        let say = |exchange, text: &str| LogRecord { exchange, ..line(text) };
        assert_eq!(mailbox.take_logs(1), []);
        mailbox.post(Mail::Response(1));
        for (id, text) in [(1, "a"), (2, "b"), (1, "c")] {
            mailbox.log(say(Some(id), text));
        }
        mailbox.log(line("d"));
        assert_eq!(mailbox.take_logs(1), [say(Some(1), "a"), say(Some(1), "c")]);
        assert_eq!(mailbox.take_logs(1), []);
        let left = [Mail::Response(1), Mail::Log(say(Some(2), "b")), Mail::Log(line("d"))];
        assert_eq!(mailbox.collect(Vec::new()), left);
        assert_eq!(mailbox.take_logs(2), []);
    }

    #[test]
    fn a_flood_of_log_lines_waits_for_the_event_loop() {
        let (mailbox, _) = counting();
        let big = "x".repeat(LOG_WINDOW);
        assert!(!mailbox.log(line(&big)));
        let writer = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.wait_for_log_room())
        };
        assert_eq!(mailbox.collect(Vec::new()).len(), 1);
        writer.join().unwrap();
        mailbox.close();
        assert!(mailbox.log(line(&big)));
        mailbox.wait_for_log_room();
    }
}
