//! What a runner needs from an interpreter.
//!
//! `src/python/cpython.rs` implements it with the GIL; tests use one that does nothing.
//! Runs on: pool thread.

use std::os::unix::io::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::application::Application;
use super::error::LoadError;
use super::exchange::Exchange;
use super::mailbox::{ExchangeId, Level, Mailbox};
use super::sources::SourceWatch;
use super::target::Target;

/// After so long a thread that waits for the GIL makes its holder let go of it
/// (`sys.getswitchinterval`).
pub const SWITCH_INTERVAL: Duration = Duration::from_millis(5);

/// How to start the interpreter of a worker. The environment and the working directory of the
/// process are set before.
#[derive(Clone, Default)]
pub struct Settings {
    /// `wsgi_python_home`: a virtualenv or a Python prefix.
    pub home: Option<PathBuf>,
    /// `wsgi_python_path`: put in front of sys.path, in this order.
    pub path: Vec<PathBuf>,
    /// `wsgi_chdir`: the first entry of sys.path.
    pub chdir: Option<PathBuf>,
    /// `wsgi_switch_interval`; Python's own is [`SWITCH_INTERVAL`].
    pub switch_interval: Option<Duration>,
    /// `wsgi_tzset off`: the time zone of the process stays what it is.
    pub keeps_zone: bool,
    /// `wsgi_reload`: who is told of the sources that are loaded.
    pub sources: Option<Arc<dyn SourceWatch>>,
    /// `wsgi_stdio_level`; [`Level::Error`] is the usual one.
    pub stdio_level: Option<Level>,
    /// Somebody wants to know the processor time of requests.
    pub measures_cpu: bool,
    /// A location has `wsgi_debug`.
    pub debug: bool,
    /// `wsgi_uwsgi_api on`.
    pub uwsgi: Option<UwsgiApi>,
    /// When this signal is raised, the stacks of all threads are written to the descriptor.
    pub stack_dump: Option<(i32, RawFd)>,
}

/// What the module `uwsgi` says of the server.
#[derive(Debug, Clone)]
pub struct UwsgiApi {
    /// The number of this worker, from 1.
    pub worker: usize,
    /// How many there are.
    pub processes: usize,
    /// Threads that run requests.
    pub threads: usize,
    /// There is a master process, whose child this one is.
    pub has_master: bool,
    /// A file that all workers have, for the locks of the application; without it they are those of
    /// each worker.
    pub lock_file: Option<RawFd>,
}

/// An interpreter that runners attach to.
pub trait Interpreter: Send + Sync {
    /// Calls `run` attached: one thread state for the life of the runner.
    fn attach(&self, run: &mut dyn FnMut());

    /// Called attached: the name of the calling thread, at most 15 bytes.
    fn name_thread(&self, name: &str);

    /// Calls `wait` detached; only from within [`Self::attach`].
    fn detach(&self, wait: &mut (dyn FnMut() + Send));

    /// How often the calling thread has slept so far: waited for something, not for a processor.
    fn sleeps(&self) -> u64;

    /// Called attached after each job: drops the objects that the event loop is done with.
    fn tidy(&self);

    /// Called attached, once, when no runner is left but stuck ones: does what the end of an
    /// interpreter does for the application. Python's main thread is marked as ended, threads that
    /// are no daemons are waited for until `grace` is over, then the atexit functions run.
    fn exit(&self, grace: Instant);

    /// Logs below `title` where Python's main thread is. Blocks until the interpreter can be
    /// attached to: for a thread of its own.
    fn locate_main(&self, title: &str);

    /// Ends the interpreter as a script ends: also takes down what its modules hold. Called
    /// detached on the thread that has started the interpreter, which uses nothing of Python
    /// afterwards; threads of the application may make the call hang or crash, so only a process
    /// calls it of which nobody expects anything more.
    fn finalize(&self);

    /// Raises an exception in the thread that is in the application for `exchange`, and logs its
    /// stack below `title`; nothing if no thread is there any more. Blocks until the interpreter
    /// can be attached to: for a thread of its own.
    fn interrupt(&self, exchange: &Exchange, title: &str);

    /// Logs the stack of the thread that is in the application for `exchange`, the innermost `depth`
    /// frames, in the context of the request; nothing if no thread is there any more. Blocks until
    /// the interpreter can be attached to: for a thread of its own.
    fn show(&self, exchange: &Exchange, depth: u32);

    /// Where the threads are that are in the application for these exchanges, as `traceback` writes
    /// it. Blocks until the interpreter can be attached to: for a thread of its own.
    fn stacks(&self, exchanges: &[Arc<Exchange>]) -> Vec<(ExchangeId, String)>;

    /// Called attached on Python's main thread: imports what `target` names as
    /// [`Application::load`] does; what is wrong is returned, and not logged.
    fn try_import(&self, target: &Target) -> Result<(), LoadError>;

    /// Whether all of these files that are still there are correct Python; logs what is not, and
    /// shows it with `wsgi_debug`. Attaches by itself: for a thread of its own.
    fn compiles(&self, files: &[PathBuf]) -> bool;

    /// The application named by `target`; nothing is imported yet.
    fn application(&self, target: &Target) -> Box<dyn Application>;
}

/// An interpreter shared by all runners of a worker.
pub type SharedInterpreter = Arc<dyn Interpreter>;

/// What starts an interpreter.
pub type StartInterpreter = fn(&Settings, Arc<Mailbox>) -> Result<SharedInterpreter, String>;
