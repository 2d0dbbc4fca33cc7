//! Applications in Python, run without a server: the harness, and what all tests use.
//!
//! One interpreter serves all tests of the process, which run in parallel; its log records are
//! told apart by the exchange. An application is a file of its own in a temporary directory.
//! Runs on: test threads.

mod any_environ;
mod any_input;
mod environ;
mod exchange;
mod input;
mod load;
mod log;
mod objects;
mod response;
mod socket;
mod stream;
mod uwsgi;
mod websocket;

use std::os::fd::IntoRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::app::PythonApplication;
use super::interpreter::ffi;
use super::start;
use crate::wsgi::application::Application;
use crate::wsgi::exchange::spool::Buffering;
use crate::wsgi::exchange::{Batch, End, Exchange, ResponseSender, Taken};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::interpreter::{Interpreter, Settings, UwsgiApi};
use crate::wsgi::mailbox::{ExchangeId, Level, LogRecord, Mail, Mailbox};
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::request::vars::VarsWriter;
use crate::wsgi::request::{Flags, Request};
use crate::wsgi::segment::Segment;
use crate::wsgi::target::Target;

struct Worker {
    interpreter: Arc<dyn Interpreter>,
    mailbox: Arc<Mailbox>,
    records: Mutex<Vec<LogRecord>>,
    dir: PathBuf,
    stacks: PathBuf,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

fn next() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A directory for this process; those of processes that are gone are removed.
fn own_dir() -> PathBuf {
    const PREFIX: &str = "wsgi-python-";
    let temp = std::env::temp_dir();
    for entry in temp.read_dir().unwrap().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if pid.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    temp.join(format!("{PREFIX}{}", std::process::id()))
}

fn worker() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| {
        let dir = own_dir();
        std::fs::create_dir_all(dir.join("extra")).unwrap();
        std::fs::write(dir.join("extra/more.pth"), "../from_pth\n").unwrap();
        std::fs::create_dir_all(dir.join("from_pth")).unwrap();
        let stacks = dir.join("stacks");
        let fd = std::fs::File::create(&stacks).unwrap().into_raw_fd();
        ffi::mark_forked_children();
        let settings = Settings {
            chdir: Some(dir.clone()),
            path: vec![dir.join("extra")],
            switch_interval: Some(Duration::from_millis(7)),
            stack_dump: Some((libc::SIGUSR2, fd)),
            uwsgi: Some(UwsgiApi {
                worker: 2,
                processes: 3,
                threads: 4,
                has_master: true,
                lock_file: None,
            }),
            ..Settings::default()
        };
        let mailbox = Arc::new(Mailbox::new(|| ()));
        let (tell, told) = mpsc::channel();
        let started = Arc::clone(&mailbox);
        // Python's main thread never ends in a worker either.
        thread::spawn(move || {
            tell.send(start(&settings, started)).unwrap();
            loop {
                thread::park();
            }
        });
        let interpreter = told.recv().unwrap().unwrap();
        Worker { interpreter, mailbox, records: Mutex::default(), dir, stacks }
    })
}

impl Worker {
    /// Log lines of an exchange, or of none, so far.
    fn log(&self, exchange: Option<ExchangeId>) -> Vec<(Level, String)> {
        let mut records = self.records.lock().unwrap();
        records.extend(self.mailbox.collect(Vec::new()).into_iter().filter_map(
            |mail| match mail {
                Mail::Log(record) => Some(record),
                _ => None,
            },
        ));
        let of_it = records.iter().filter(|record| record.exchange == exchange);
        let lines = |record: &LogRecord| {
            let lines = record.text.split('\n').map(|line| (record.level, line.to_owned()));
            lines.collect::<Vec<_>>()
        };
        of_it.flat_map(lines).collect()
    }

    fn attached<R>(&self, act: impl FnOnce() -> R) -> R {
        let mut act = Some(act);
        let mut result = None;
        self.interpreter.attach(&mut || result = act.take().map(|act| act()));
        result.unwrap()
    }
}

/// A new file with this code; its path.
fn file(code: &str) -> PathBuf {
    let path = worker().dir.join(format!("app{}.py", next()));
    std::fs::write(&path, code).unwrap();
    path
}

/// The application of a target; `None` if it cannot be loaded.
fn load(target: &str) -> Option<PythonApplication> {
    let app = PythonApplication::new(Target::parse(target).unwrap());
    worker().attached(|| app.load()).then_some(app)
}

/// The `application` in this code, with a good start_response call at hand as `ok()`.
fn app(code: &str) -> PythonApplication {
    let prelude = "def ok(start, *headers, status='200 OK'):\n    \
                   return start(status, [('Content-Type', 'text/plain'), *headers])\n";
    let path = file(&format!("{prelude}{code}"));
    load(path.to_str().unwrap()).unwrap()
}

/// The bytes of a chunk.
fn content(chunk: Segment) -> Vec<u8> {
    let body = RequestBody::new(vec![chunk]);
    let mut bytes = vec![0; body.len() as usize];
    assert_eq!(body.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// What became of a request.
struct Outcome {
    head: Option<ResponseHead>,
    chunks: Vec<Vec<u8>>,
    end: Option<End>,
    log: Vec<(Level, String)>,
}

impl Outcome {
    fn new(id: ExchangeId, batch: Batch) -> Self {
        let chunks = batch.chunks.into_iter().map(content).collect();
        let log = worker().log(Some(id));
        Self { head: batch.head, chunks, end: batch.end, log }
    }

    fn body(&self) -> String {
        String::from_utf8_lossy(&self.chunks.concat()).into_owned()
    }

    fn length(&self) -> Option<u64> {
        self.head.as_ref().unwrap().content_length()
    }

    fn lines(&self) -> Vec<&str> {
        self.log.iter().map(|(_, line)| line.as_str()).collect()
    }

    fn logged(&self, part: &str) -> bool {
        self.log.iter().any(|(_, line)| line.contains(part))
    }

    /// The response is whole and nothing was logged.
    fn is_clean(&self) {
        assert_eq!(self.end, Some(Ok(())), "{:?}", self.log);
        assert!(self.log.is_empty(), "{:?}", self.log);
    }
}

const WINDOW: usize = 1 << 20;

fn open(window: usize) -> (Arc<Exchange>, ResponseSender) {
    let (exchange, sender) =
        Exchange::open(next(), Buffering::in_memory(window), Arc::clone(&worker().mailbox));
    sender.begin(Taken { at: Instant::now(), runner: 1 }).unwrap();
    (exchange, sender)
}

fn request(app: &PythonApplication, request: Request) -> Outcome {
    let (exchange, sender) = open(WINDOW);
    worker().attached(|| app.call(request, sender));
    Outcome::new(exchange.id(), exchange.take())
}

fn get(code: &str) -> Outcome {
    request(&app(code), Request::default())
}

fn head(code: &str) -> Outcome {
    let flags = Flags { head: true, ..Flags::default() };
    request(&app(code), Request { flags, ..Request::default() })
}

fn with_vars(vars: &[(&[u8], &[u8])]) -> Request {
    let mut writer = VarsWriter::default();
    for (name, value) in vars {
        writer.push(name, value).unwrap();
    }
    Request { vars: writer.finish(), ..Request::default() }
}

fn with_body(segments: Vec<Segment>) -> Request {
    Request { body: Some(Arc::new(RequestBody::new(segments))), ..Request::default() }
}

/// A segment in an unlinked file.
fn in_file(content: &[u8]) -> Segment {
    let path = worker().dir.join(format!("body{}", next()));
    std::fs::write(&path, content).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    Segment::File { file, offset: 0, len: content.len() as u64 }
}
