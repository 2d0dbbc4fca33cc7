//! What a worker says of itself, its pools, its applications and its requests: records as words.
//!
//! Times are in milliseconds of nginx's clock, which all processes of a machine read alike, unless
//! it is said otherwise.
//! Runs on: event loop.

use super::cell::{Packer, Unpacker};

/// How far a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Queued,
    /// A thread is at it, and has not answered.
    Running,
    /// The head of the response has been sent.
    Sending,
    /// What is sent waits for the client.
    Waiting,
    /// The thread goes on, and there is no client any more.
    Left,
    /// The same, and the thread has not come back when it was to.
    Stuck,
    /// Its connection is the application's.
    Websocket,
}

impl Phase {
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Sending,
        Self::Waiting,
        Self::Left,
        Self::Stuck,
        Self::Websocket,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Sending => "sending",
            Self::Waiting => "waiting for the client",
            Self::Left => "left by the client",
            Self::Stuck => "stuck",
            Self::Websocket => "websocket",
        }
    }

    /// As a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Left => "left",
            other => other.name(),
        }
    }

    /// A thread is at it.
    pub fn has_thread(self) -> bool {
        !matches!(self, Self::Queued)
    }

    fn of(number: u64) -> Self {
        let at = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number));
        at.copied().unwrap_or_default()
    }
}

/// In place of the pool of a request that has a thread of its own.
pub const OWN_THREAD: u64 = u64::MAX;

const METHOD: usize = 2;
const HOST: usize = 8;
/// 128 bytes.
const PATH: usize = 16;
const CLIENT: usize = 6;

/// Words of a row.
pub const ROW: usize = 9 + (1 + METHOD) + (1 + HOST) + 2 * (1 + PATH) + (1 + CLIENT);
/// Those that change while the request goes on.
pub const FRONT: usize = 9;

/// A request in flight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Its number in the worker that has the client; 0: nothing is there.
    pub id: u64,
    pub phase: Phase,
    pub since: u64,
    /// When a thread took it; 0: none has.
    pub taken: u64,
    pub app: u64,
    pub pool: u64,
    /// The thread's number in its pool.
    pub thread: u64,
    /// The process that the thread belongs to, if it is another one; else 0.
    pub there: u64,
    /// Bytes that the client has been sent.
    pub sent: u64,
    pub method: String,
    pub host: String,
    pub path: String,
    pub query: String,
    pub client: String,
}

impl Row {
    pub fn pack(&self) -> [u64; ROW] {
        let words = self.front().into_iter().fold(Packer::default(), Packer::number);
        let words = words.text(self.method.as_bytes(), METHOD).text(self.host.as_bytes(), HOST);
        let words = words.text(self.path.as_bytes(), PATH).text(self.query.as_bytes(), PATH);
        words.text(self.client.as_bytes(), CLIENT).words()
    }

    /// The words that change while the request goes on.
    pub fn front(&self) -> [u64; FRONT] {
        [
            self.id,
            self.phase as u64,
            self.since,
            self.taken,
            self.app,
            self.pool,
            self.thread,
            self.there,
            self.sent,
        ]
    }

    pub fn unpack(words: &[u64; ROW]) -> Self {
        let mut from = Unpacker::new(words);
        Self {
            id: from.number(),
            phase: Phase::of(from.number()),
            since: from.number(),
            taken: from.number(),
            app: from.number(),
            pool: from.number(),
            thread: from.number(),
            there: from.number(),
            sent: from.number(),
            method: from.text(METHOD),
            host: from.text(HOST),
            path: from.text(PATH),
            query: from.text(PATH),
            client: from.text(CLIENT),
        }
    }
}

/// Words of a [`Worker`].
pub const WORKER: usize = 11;

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// Pid and start, see `src/nginx/worker/identity.rs`; 0: nobody has been here.
    pub holder: u64,
    pub generation: u64,
    pub started: u64,
    /// When it last wrote this.
    pub beat: u64,
    /// It writes again within a moment.
    pub is_ticking: bool,
    /// Rows that have ever been used; those behind them are not looked at.
    pub rows: u64,
    /// Requests that no row was left for.
    pub hidden: u64,
    /// Requests that were begun here, other workers' too, and those of other workers among them.
    pub requests: u64,
    pub guests: u64,
    /// Threads of requests for a WebSocket, and those among them that are at one.
    pub own_threads: u64,
    pub own_busy: u64,
}

impl Worker {
    pub fn pack(&self) -> [u64; WORKER] {
        let words =
            Packer::default().number(self.holder).number(self.generation).number(self.started);
        let words = words.number(self.beat).number(u64::from(self.is_ticking)).number(self.rows);
        let words = words.number(self.hidden).number(self.requests).number(self.guests);
        words.number(self.own_threads).number(self.own_busy).words()
    }

    pub fn unpack(words: &[u64; WORKER]) -> Self {
        let mut from = Unpacker::new(words);
        Self {
            holder: from.number(),
            generation: from.number(),
            started: from.number(),
            beat: from.number(),
            is_ticking: from.number() != 0,
            rows: from.number(),
            hidden: from.number(),
            requests: from.number(),
            guests: from.number(),
            own_threads: from.number(),
            own_busy: from.number(),
        }
    }
}

/// Words of a [`Pool`].
pub const POOL: usize = 5;

/// A pool of one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pool {
    pub threads: u64,
    /// Threads that are at a request, stuck ones too.
    pub busy: u64,
    pub stuck: u64,
    /// Requests that no thread has taken.
    pub waiting: u64,
    /// Requests that could be taken at once.
    pub room: u64,
}

impl Pool {
    pub fn pack(&self) -> [u64; POOL] {
        [self.threads, self.busy, self.stuck, self.waiting, self.room]
    }

    pub fn unpack(words: &[u64; POOL]) -> Self {
        let [threads, busy, stuck, waiting, room] = *words;
        Self { threads, busy, stuck, waiting, room }
    }
}

/// How far the import of an application is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// It has not begun.
    #[default]
    Awaited,
    Importing,
    Loaded,
    Failed,
}

impl State {
    const ALL: [Self; 4] = [Self::Awaited, Self::Importing, Self::Loaded, Self::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Awaited => "awaited",
            Self::Importing => "importing",
            Self::Loaded => "loaded",
            Self::Failed => "failed",
        }
    }
}

const ERROR: usize = 48;
/// Words of an [`App`].
pub const APP: usize = 5 + 1 + ERROR;

/// An application in one worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct App {
    pub state: State,
    /// When its last import began; 0: none has.
    pub begun: u64,
    /// How long the last import took that has ended.
    pub took: u64,
    /// Bytes of the worker that were resident when the import had ended.
    pub resident: u64,
    /// Connections that are its own now.
    pub websockets: u64,
    /// Why the last import failed; empty: it has not.
    pub error: String,
}

impl App {
    pub fn pack(&self) -> [u64; APP] {
        let words =
            Packer::default().number(self.state as u64).number(self.begun).number(self.took);
        let words = words.number(self.resident).number(self.websockets);
        words.text(self.error.as_bytes(), ERROR).words()
    }

    pub fn unpack(words: &[u64; APP]) -> Self {
        let mut from = Unpacker::new(words);
        let state = usize::try_from(from.number()).ok().and_then(|n| State::ALL.get(n));
        Self {
            state: state.copied().unwrap_or_default(),
            begun: from.number(),
            took: from.number(),
            resident: from.number(),
            websockets: from.number(),
            error: from.text(ERROR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row() -> impl Strategy<Value = Row> {
        let numbers = (1u64.., 0..Phase::ALL.len(), any::<[u64; 7]>());
        let texts = ("[A-Z]{1,16}", ".{0,16}", ".{0,32}", ".{0,32}", "[0-9.]{0,46}");
        (numbers, texts).prop_map(|((id, phase, numbers), (method, host, path, query, client))| {
            let [since, taken, app, pool, thread, there, sent] = numbers;
            let phase = Phase::ALL[phase];
            Row {
                id,
                phase,
                since,
                taken,
                app,
                pool,
                thread,
                there,
                sent,
                method,
                host,
                path,
                query,
                client,
            }
        })
    }

    proptest! {
        #[test]
        fn a_row_is_read_as_it_was_written(row in row()) {
            prop_assert_eq!(Row::unpack(&row.pack()), row);
        }

        #[test]
        fn words_of_anybody_are_some_row(words in proptest::collection::vec(any::<u64>(), ROW)) {
            let words: [u64; ROW] = words.try_into().unwrap();
            let row = Row::unpack(&words);
            prop_assert!(row.path.chars().count() <= 8 * PATH);
        }
    }

    #[test]
    fn workers_pools_and_applications_are_read_as_they_were_written() {
        let worker = Worker {
            holder: 1,
            generation: 2,
            started: 3,
            beat: 4,
            is_ticking: true,
            rows: 5,
            hidden: 6,
            requests: 7,
            guests: 8,
            own_threads: 9,
            own_busy: 10,
        };
        assert_eq!(Worker::unpack(&worker.pack()), worker);
        let pool = Pool { threads: 1, busy: 2, stuck: 3, waiting: 4, room: 5 };
        assert_eq!(Pool::unpack(&pool.pack()), pool);
        let error = String::from("ImportError: no");
        let app =
            App { state: State::Failed, begun: 1, took: 2, resident: 3, websockets: 4, error };
        assert_eq!(App::unpack(&app.pack()), app);
    }
}
