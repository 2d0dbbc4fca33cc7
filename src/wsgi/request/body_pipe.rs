//! A request body that the application reads while the client still sends it.
//!
//! `src/nginx/handler/stream.rs` appends what nginx has read, `src/python/request/stream.rs` takes
//! it out. The event loop stops reading when the pipe is full, and is told by [`Mail::BodyRoom`]
//! when half of it is free again. Nothing is ever lost in between: a body that does not come to its
//! end is an error for the reader, not an early end.
//! Runs on: either; each function says which.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use memchr::memchr;

use crate::wsgi::exchange::{Progress, Room};
use crate::wsgi::fork;
use crate::wsgi::lock::lock;
use crate::wsgi::mailbox::{ExchangeId, Mail, Mailbox};

/// Why a body does not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// The client is gone, or nginx has given up the request for another reason.
    Gone,
    /// Nothing came for client_body_timeout.
    TimedOut,
    /// More than client_max_body_size.
    TooLarge,
    /// Not as its framing says.
    Malformed,
    /// The application has ended its request.
    Over,
    /// A forked child has no event loop that would bring the body.
    Forked,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the client is gone",
            Self::TimedOut => "the client timed out",
            Self::TooLarge => "the request body is too large",
            Self::Malformed => "the request body is malformed",
            Self::Over => "wsgi.input cannot be used after the end of its request",
            Self::Forked => "wsgi.input cannot be read in a forked child",
        })
    }
}

/// Where a read ends, if not at the end of the body or at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Only there.
    Limit,
    /// Behind the next line end.
    Line,
    /// With what is there, one byte at least.
    Some,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    end: Option<Result<(), BodyError>>,
    /// The event loop has stopped reading.
    paused: bool,
    /// The reader sleeps until so many bytes are there; 0: nobody does.
    wanted: usize,
    /// When it was last woken, or last read.
    active_at: Option<Instant>,
}

impl State {
    /// How many bytes of what is there belong to a read that may still take `room`, and whether it
    /// is complete with them.
    fn part(&self, until: Until, room: usize) -> (usize, bool) {
        let there = self.bytes.len().min(room);
        let (front, back) = self.bytes.as_slices();
        let line = (until == Until::Line).then(|| {
            let in_back = || memchr(b'\n', back).map(|at| front.len() + at);
            memchr(b'\n', front).or_else(in_back).filter(|at| *at < room)
        });
        if let Some(at) = line.flatten() {
            return (at + 1, true);
        }
        let all = self.end.is_some() && there == self.bytes.len();
        (there, there == room || all || (until == Until::Some && there > 0))
    }

    fn take(&mut self, len: usize, out: &mut Vec<u8>) {
        let (front, back) = self.bytes.as_slices();
        let cut = len.min(front.len());
        out.extend_from_slice(&front[..cut]);
        out.extend_from_slice(&back[..len - cut]);
        self.bytes.drain(..len);
    }
}

/// The body of one request.
pub struct BodyPipe {
    id: ExchangeId,
    window: usize,
    mailbox: Arc<Mailbox>,
    /// Held for a whole read, so that each gets one piece of the body. Never waited for with the
    /// GIL.
    turn: Mutex<()>,
    state: Mutex<State>,
    more: Condvar,
}

impl BodyPipe {
    /// `window`: bytes from which on the event loop stops reading.
    pub fn new(id: ExchangeId, window: usize, mailbox: Arc<Mailbox>) -> Self {
        Self {
            id,
            window: window.max(1),
            mailbox,
            turn: Mutex::default(),
            state: Mutex::default(),
            more: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Puts in what has come; [`Self::hand_over`] follows. Event loop.
    pub fn append(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.bytes.extend(bytes);
        }
    }

    /// Wakes the reader if what it waits for is there. When the pipe is full the event loop has to
    /// stop until [`Mail::BodyRoom`] comes. Event loop.
    pub fn hand_over(&self) -> Room {
        self.hand_over_now(&mut self.lock())
    }

    /// As [`Self::hand_over`], and the body is complete. Event loop.
    pub fn complete(&self) -> Room {
        let mut state = self.lock();
        state.end.get_or_insert(Ok(()));
        self.hand_over_now(&mut state)
    }

    fn hand_over_now(&self, state: &mut State) -> Room {
        if state.end.is_some() || state.bytes.len() >= state.wanted {
            self.wake(state);
        }
        state.paused = state.end.is_none() && state.bytes.len() >= self.window;
        if state.paused { Room::Full } else { Room::Free }
    }

    fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.wanted) > 0 {
            // From here on it is the application that is waited for.
            state.active_at = Some(Instant::now());
            self.more.notify_one();
        }
    }

    /// The rest of the body will never come. A body that is already complete stays readable.
    pub fn fail(&self, error: BodyError) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(Err(error));
            state.bytes = VecDeque::new();
            self.wake(&mut state);
        }
    }

    /// The application has ended: every read fails from now on. Pool thread.
    pub fn close(&self) {
        let mut state = self.lock();
        state.end = Some(Err(BodyError::Over));
        state.bytes = VecDeque::new();
        self.wake(&mut state);
    }

    /// Whether the body has failed, or will be read no more.
    pub fn is_broken(&self) -> bool {
        matches!(self.lock().end, Some(Err(_)))
    }

    /// What `progress` is when waiting for the client's body does not count, and each read of it
    /// is a sign of life. Event loop.
    pub fn progress(&self, progress: Progress) -> Progress {
        let state = self.lock();
        match progress {
            Progress::Silent(_) if state.wanted > 0 => Progress::Blocked,
            Progress::Silent(since) => {
                Progress::Silent(state.active_at.map_or(since, |at| at.max(since)))
            }
            other => other,
        }
    }

    /// A read that need not wait, or `None`. Pool thread.
    pub fn read_now(&self, limit: usize, until: Until) -> Option<Result<Vec<u8>, BodyError>> {
        if fork::is_child() {
            return Some(Err(BodyError::Forked));
        }
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let mut state = self.lock();
        let (len, complete) = state.part(until, limit);
        if !complete {
            return None;
        }
        let mut out = Vec::with_capacity(len);
        Some(self.finish(&mut state, len, &mut out).map(|()| out))
    }

    /// Up to `limit` bytes; fewer only at the end of the body, or where `until` says. Waits for
    /// the client: never call it with the GIL. Pool thread.
    pub fn read(&self, limit: usize, until: Until) -> Result<Vec<u8>, BodyError> {
        if fork::is_child() {
            return Err(BodyError::Forked);
        }
        let _turn = lock(&self.turn);
        let mut out = Vec::new();
        let mut state = self.lock();
        loop {
            let (len, complete) = state.part(until, limit - out.len());
            self.finish(&mut state, len, &mut out)?;
            if complete {
                return Ok(out);
            }
            // Nobody wakes up for each of many small pieces.
            state.wanted = match until {
                Until::Limit => (limit - out.len()).min(self.window.div_ceil(2)),
                Until::Line | Until::Some => 1,
            };
            while state.wanted > 0 {
                state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes `len` bytes out; makes the event loop read on if it has stopped and half is free.
    fn finish(&self, state: &mut State, len: usize, out: &mut Vec<u8>) -> Result<(), BodyError> {
        state.active_at = Some(Instant::now());
        if let Some(Err(error)) = state.end {
            return Err(error);
        }
        state.take(len, out);
        if state.paused && state.bytes.len() <= self.window / 2 {
            state.paused = false;
            self.mailbox.post(Mail::BodyRoom(self.id));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, proptest};
    use proptest::sample::select;
    use std::thread;

    use crate::wsgi::tests::cases;

    fn pipe(window: usize) -> (Arc<Mailbox>, Arc<BodyPipe>) {
        let mailbox = Arc::new(Mailbox::new(|| ()));
        (Arc::clone(&mailbox), Arc::new(BodyPipe::new(7, window, mailbox)))
    }

    fn put(pipe: &BodyPipe, bytes: &[u8]) -> Room {
        pipe.append(bytes);
        pipe.hand_over()
    }

    fn put_last(pipe: &BodyPipe, bytes: &[u8]) -> Room {
        pipe.append(bytes);
        pipe.complete()
    }

    /// A read in a thread of its own, which has come to wait.
    fn waiting(
        pipe: &Arc<BodyPipe>,
        limit: usize,
        until: Until,
    ) -> thread::JoinHandle<Result<Vec<u8>, BodyError>> {
        let reader = Arc::clone(pipe);
        let handle = thread::spawn(move || reader.read(limit, until));
        while pipe.lock().wanted == 0 {
            thread::yield_now();
        }
        handle
    }

    #[test]
    fn reads_take_what_they_ask_for_and_the_rest_at_the_end() {
        let (_, pipe) = pipe(100);
        assert_eq!(pipe.read_now(0, Until::Limit), Some(Ok(vec![])));
        assert_eq!(pipe.read_now(1, Until::Limit), None);
        assert_eq!(pipe.read_now(1, Until::Some), None);
        put(&pipe, b"ab\ncd");
        assert_eq!(pipe.read_now(6, Until::Limit), None);
        assert_eq!(pipe.read_now(1, Until::Limit).unwrap().unwrap(), b"a");
        assert_eq!(pipe.read_now(1, Until::Line).unwrap().unwrap(), b"b");
        assert_eq!(pipe.read_now(9, Until::Line).unwrap().unwrap(), b"\n");
        assert_eq!(pipe.read_now(9, Until::Line), None);
        assert_eq!(pipe.read_now(9, Until::Some).unwrap().unwrap(), b"cd");
        put_last(&pipe, b"ef");
        assert_eq!(pipe.read_now(9, Until::Limit).unwrap().unwrap(), b"ef");
        for until in [Until::Limit, Until::Line, Until::Some] {
            assert_eq!(pipe.read_now(9, until), Some(Ok(vec![])));
            assert_eq!(pipe.read(9, until), Ok(vec![]));
        }
    }

    #[test]
    fn a_read_waits_until_it_is_complete() {
        let (_, pipe) = pipe(100);
        for (until, limit, first, second) in [
            (Until::Limit, 4, &b"ab"[..], &b"cd"[..]),
            (Until::Line, 9, b"ab", b"c\n"),
            (Until::Some, 9, b"", b"x"),
        ] {
            let reader = waiting(&pipe, limit, until);
            put(&pipe, first);
            assert_eq!(pipe.read_now(1, Until::Limit), None, "another one reads");
            put(&pipe, second);
            assert_eq!(reader.join().unwrap().unwrap(), [first, second].concat());
        }
    }

    #[test]
    fn a_full_pipe_stops_the_event_loop_until_half_of_it_is_free() {
        let (mailbox, pipe) = pipe(4);
        assert_eq!(put(&pipe, b"abc"), Room::Free);
        assert_eq!(put(&pipe, b"def"), Room::Full);
        assert_eq!(pipe.hand_over(), Room::Full);
        pipe.read(3, Until::Limit).unwrap();
        assert!(mailbox.collect(Vec::new()).is_empty());
        pipe.read(1, Until::Limit).unwrap();
        assert_eq!(mailbox.collect(Vec::new()), [Mail::BodyRoom(7)]);
        pipe.read(2, Until::Limit).unwrap();
        assert!(mailbox.collect(Vec::new()).is_empty());
        assert_eq!(pipe.hand_over(), Room::Free);
        // The end leaves nothing to read.
        assert_eq!(put_last(&pipe, b"ghijkl"), Room::Free);
        assert_eq!(pipe.read(9, Until::Limit).unwrap(), b"ghijkl");
        assert!(mailbox.collect(Vec::new()).is_empty());
    }

    #[test]
    fn a_failure_wakes_the_reader_and_drops_what_is_there() {
        let (_, pipe) = pipe(100);
        let reader = waiting(&pipe, 9, Until::Limit);
        pipe.append(b"abc");
        pipe.fail(BodyError::TimedOut);
        pipe.fail(BodyError::Gone);
        assert_eq!(reader.join().unwrap(), Err(BodyError::TimedOut));
        put_last(&pipe, b"late");
        assert_eq!(pipe.read_now(1, Until::Some), Some(Err(BodyError::TimedOut)));
        assert!(pipe.is_broken());
        pipe.close();
        assert_eq!(pipe.read(1, Until::Line), Err(BodyError::Over));
    }

    #[test]
    fn a_complete_body_outlives_its_client_but_not_its_request() {
        let (_, pipe) = pipe(100);
        put_last(&pipe, b"abc");
        pipe.fail(BodyError::Gone);
        assert!(!pipe.is_broken());
        assert_eq!(pipe.read(1, Until::Limit).unwrap(), b"a");
        pipe.close();
        assert_eq!(pipe.read(1, Until::Limit), Err(BodyError::Over));
    }

    #[test]
    fn the_end_of_the_request_wakes_the_reader() {
        let (_, pipe) = pipe(100);
        let reader = waiting(&pipe, 1, Until::Some);
        pipe.close();
        assert_eq!(reader.join().unwrap(), Err(BodyError::Over));
    }

    #[test]
    fn waiting_for_the_client_is_no_silence_of_the_application() {
        let (_, pipe) = pipe(100);
        let before = Instant::now();
        assert_eq!(pipe.progress(Progress::Silent(before)), Progress::Silent(before));
        let reader = waiting(&pipe, 1, Until::Some);
        assert_eq!(pipe.progress(Progress::Silent(before)), Progress::Blocked);
        assert_eq!(pipe.progress(Progress::Ended), Progress::Ended);
        put(&pipe, b"a");
        reader.join().unwrap().unwrap();
        let Progress::Silent(since) = pipe.progress(Progress::Silent(before)) else { panic!() };
        assert!(since > before);
        let later = Instant::now();
        assert_eq!(pipe.progress(Progress::Silent(later)), Progress::Silent(later));
    }

    fn read() -> impl Strategy<Value = (usize, Until)> {
        (0..50usize, select(vec![Until::Limit, Until::Line, Until::Some]))
    }

    proptest! {
        #![proptest_config(cases(200))]

        /// Whatever the pieces, the windows and the reads: the reader gets what a file would give,
        /// and the event loop never runs far ahead.
        #[test]
        fn a_body_arrives_as_it_was_sent(
            parts in vec(vec(select(b"ab\n".to_vec()), 0..40), 0..20),
            reads in vec(read(), 1..20),
            window in 1..100usize,
            together in any::<bool>(),
        ) {
            let (mailbox, pipe) = pipe(window);
            let body = parts.concat();
            let reader = Arc::clone(&pipe);
            let handle = thread::spawn(move || {
                let mut got: Vec<(usize, Until, Vec<u8>)> = Vec::new();
                for (limit, until) in reads.into_iter().cycle() {
                    let limit = limit + usize::from(got.len() > 100);
                    let bytes = reader.read(limit, until).unwrap();
                    let ended = limit > 0 && bytes.is_empty();
                    got.push((limit, until, bytes));
                    if ended {
                        return got;
                    }
                }
                unreachable!("cycle");
            });
            let last = parts.len().saturating_sub(1);
            for (n, part) in parts.iter().enumerate() {
                let put = if together && n == last { put_last } else { put };
                if put(&pipe, part) == Room::Full {
                    while !mailbox.collect(Vec::new()).contains(&Mail::BodyRoom(7)) {
                        thread::yield_now();
                    }
                }
                assert!(pipe.lock().bytes.len() < window + 40);
            }
            pipe.complete();
            let mut rest = &body[..];
            for (limit, until, bytes) in handle.join().unwrap() {
                let most = rest.len().min(limit);
                let line = rest[..most].iter().position(|b| *b == b'\n').map(|at| at + 1);
                match until {
                    Until::Limit => assert_eq!(bytes, &rest[..most]),
                    Until::Line => assert_eq!(bytes, &rest[..line.unwrap_or(most)]),
                    Until::Some => {
                        assert!(rest.starts_with(&bytes) && bytes.len() <= most);
                        assert!(most == 0 || !bytes.is_empty());
                    }
                }
                rest = &rest[bytes.len()..];
            }
            assert!(rest.is_empty());
        }
    }
}
