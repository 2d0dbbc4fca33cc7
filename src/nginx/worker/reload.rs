//! `wsgi_reload`: a worker whose code has changed on disk is replaced.
//!
//! The directories of all source files that Python loads are watched with inotify(7). Each watch is
//! there before its file is read, so that no change is missed. When nothing more has changed for a
//! moment, what has is compiled, on a thread of its own: a pool may be full of requests that hang.
//! Code that is no Python leaves the worker as it is; otherwise it is replaced. Nothing is done
//! while nothing changes.
//! Runs on: event loop, but for [`SourceWatch`] (any thread of Python) and the compiling.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{self, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ngx::ffi::{NGX_PROCESS_WORKER, ngx_cycle_t, ngx_msec_t, ngx_process, ngx_uint_t};

use super::retire;
use crate::nginx::sys::timer::Timer;
use crate::nginx::sys::{eventfd, process};
use crate::wsgi::fork;
use crate::wsgi::mailbox::{Level, LogRecord, Mail, Mailbox};
use crate::wsgi::queue::runner::Runners;
use crate::wsgi::sources::{Kind, SourceWatch, WatchId, Watched};

/// How long nothing more may change: saving a file is several events, a checkout very many.
const QUIET: ngx_msec_t = 100;

/// Files are written in place, or written elsewhere and renamed; touching one may only change its
/// times. Of what is created only directories are of interest, see [`Watched::changed`].
const EVENTS: u32 = libc::IN_CLOSE_WRITE
    | libc::IN_MOVED_TO
    | libc::IN_ATTRIB
    | libc::IN_CREATE
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR;

/// Watches the sources. Shared with the threads that load them.
pub struct Sources {
    inotify: OwnedFd,
    state: Mutex<State>,
    mailbox: Arc<Mailbox>,
}

#[derive(Default)]
struct State {
    watched: Watched,
    /// Directories that cannot be watched, which is said once of each.
    refused: HashSet<PathBuf>,
    is_full: bool,
}

impl Sources {
    /// `None`, and a line in the log, if the system has no inotify instance left.
    pub fn new(mailbox: Arc<Mailbox>) -> Option<Self> {
        // SAFETY: no arguments by reference; the result is checked before it is owned.
        let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if fd == -1 {
            let err = io::Error::last_os_error();
            let line = match err.raw_os_error() {
                Some(libc::EMFILE) => format!(
                    "wsgi_reload: changes are not noticed: {err} (fs.inotify.max_user_instances)"
                ),
                _ => format!("wsgi_reload: changes are not noticed: inotify_init1(): {err}"),
            };
            mailbox.log(LogRecord { exchange: None, level: Level::Error, text: line });
            return None;
        }
        // SAFETY: a new descriptor that nobody else has.
        let inotify = unsafe { OwnedFd::from_raw_fd(fd) };
        Some(Self { inotify, state: Mutex::default(), mailbox })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, state: &mut State, directory: &Path) -> Option<WatchId> {
        if let Some(id) = state.watched.id(directory) {
            return Some(id);
        }
        let name = CString::new(directory.as_os_str().as_bytes()).ok()?;
        // SAFETY: the descriptor is open as long as this value, the path is a C string.
        let id =
            unsafe { libc::inotify_add_watch(self.inotify.as_raw_fd(), name.as_ptr(), EVENTS) };
        if id == -1 {
            self.refused(state, directory, &io::Error::last_os_error());
            return None;
        }
        state.watched.add(id, directory);
        Some(id)
    }

    fn refused(&self, state: &mut State, directory: &Path, err: &io::Error) {
        let path = directory.display();
        let line = match err.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => return,
            Some(libc::ENOSPC) if state.is_full => return,
            Some(libc::ENOSPC) => {
                state.is_full = true;
                format!(
                    "wsgi_reload: no watch is left (fs.inotify.max_user_watches): changes in \
                     \"{path}\" and in more directories are not noticed"
                )
            }
            _ => format!("wsgi_reload: changes in \"{path}\" are not noticed: {err}"),
        };
        if state.refused.insert(directory.to_owned()) {
            self.mailbox.log(LogRecord { exchange: None, level: Level::Error, text: line });
        }
    }

    fn watch_file(&self, path: &Path) {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
        let state = &mut *self.lock();
        if let Some(id) = self.watch(state, directory) {
            state.watched.add_name(id, name);
        }
    }

    /// What has changed since the last call.
    fn read(&self) -> Vec<PathBuf> {
        const HEAD: usize = size_of::<libc::inotify_event>();
        let mut found = Vec::new();
        let mut buffer = [0u8; 16384];
        loop {
            // SAFETY: reads into a live buffer of that size.
            let len = unsafe {
                libc::read(self.inotify.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len())
            };
            // Nothing is left, or the call was interrupted: the next event tells.
            let Some(mut rest) = usize::try_from(len).ok().and_then(|len| buffer.get(..len)) else {
                return found;
            };
            let mut state = self.lock();
            while rest.len() >= HEAD {
                // SAFETY: as many bytes are there; the structure is integers only.
                let event: libc::inotify_event =
                    unsafe { std::ptr::read_unaligned(rest.as_ptr().cast()) };
                let end = (HEAD + event.len as usize).min(rest.len());
                let name = rest[HEAD..end].split(|byte| *byte == 0).next().unwrap_or_default();
                found.extend(state.event(event.wd, event.mask, OsStr::from_bytes(name)));
                rest = &rest[end..];
            }
        }
    }
}

impl State {
    fn event(&mut self, id: WatchId, mask: u32, name: &OsStr) -> Option<PathBuf> {
        if mask & libc::IN_Q_OVERFLOW != 0 {
            return Some(PathBuf::from("more than could be noticed"));
        }
        if mask & (libc::IN_IGNORED | libc::IN_MOVE_SELF) != 0 {
            return self.watched.remove(id);
        }
        let is_directory = mask & libc::IN_ISDIR != 0;
        // A new file is written to before it matters; a directory's times change all the time.
        let matters = if is_directory {
            mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0
        } else {
            mask & libc::IN_CREATE == 0
        };
        let kind = if is_directory { Kind::Directory } else { Kind::File };
        if matters { self.watched.changed(id, name, kind) } else { None }
    }
}

impl SourceWatch for Sources {
    fn loads(&self, path: &Path) {
        // A forked child has no descriptor, and perhaps nobody who gives the lock back.
        if fork::is_child() {
            return;
        }
        let Ok(path) = path::absolute(path) else { return };
        self.watch_file(&path);
        // A link may be replaced as well as what it leads to.
        if let Ok(real) = path.canonicalize()
            && real != path
        {
            self.watch_file(&real);
        }
    }

    fn failed(&self, directories: &[PathBuf]) {
        if fork::is_child() {
            return;
        }
        let state = &mut *self.lock();
        state.watched.set_any();
        for directory in directories {
            self.watch(state, directory);
        }
    }
}

/// What one worker knows of changes of its code.
pub struct Reload {
    sources: Arc<Sources>,
    /// Has the interpreter that compiles; there is none before Python has started.
    runners: OnceCell<Arc<Runners>>,
    mailbox: Arc<Mailbox>,
    timer: Timer,
    /// All that has changed since the worker was started.
    changed: RefCell<BTreeSet<PathBuf>>,
    is_compiling: Cell<bool>,
}

impl Reload {
    /// Starts to watch; `None` if that makes no sense or is not possible, which the log says.
    ///
    /// # Safety
    ///
    /// Called in init_process, with the cycle of this process.
    pub unsafe fn start(cycle: *mut ngx_cycle_t, mailbox: Arc<Mailbox>) -> Option<&'static Self> {
        // SAFETY: a plain variable of nginx. Without a master `validate` has logged why.
        if unsafe { ngx_process } != NGX_PROCESS_WORKER as ngx_uint_t {
            return None;
        }
        let sources = Arc::new(Sources::new(Arc::clone(&mailbox))?);
        let fd = sources.inotify.as_raw_fd();
        // SAFETY: the cycle is that of this process.
        let timer = Timer::new(unsafe { (*cycle).log });
        let (changed, is_compiling) = (RefCell::default(), Cell::new(false));
        let runners = OnceCell::new();
        let this: &'static Self =
            Box::leak(Box::new(Self { sources, runners, mailbox, timer, changed, is_compiling }));
        this.timer.calls(move || this.compile());
        // SAFETY: init_process; the descriptor is never closed, since `this` is never freed.
        unsafe { eventfd::listen(fd, cycle, move || this.look()) }.then_some(this)
    }

    /// Python has started.
    pub fn compiles_with(&self, runners: Arc<Runners>) {
        let _ = self.runners.set(runners);
    }

    pub fn sources(&self) -> Arc<dyn SourceWatch> {
        Arc::clone(&self.sources) as _
    }

    /// inotify has something to tell.
    fn look(&self) {
        let found = self.sources.read();
        if !found.is_empty() {
            self.changed.borrow_mut().extend(found);
            self.timer.set(QUIET);
        }
    }

    /// Nothing more has changed for a moment.
    fn compile(&self) {
        if self.is_compiling.get() {
            return self.timer.set(QUIET);
        }
        let Some(runners) = self.runners.get().map(Arc::clone) else { return };
        let files: Vec<_> = self.changed.borrow().iter().cloned().collect();
        let mailbox = Arc::clone(&self.mailbox);
        let spawned = process::spawn("wsgi-compile", move || {
            let compiles =
                catch_unwind(AssertUnwindSafe(|| runners.interpreter().compiles(&files)));
            if compiles.is_err() {
                runners.alert("compiling panicked");
            }
            mailbox.post(Mail::Compiled(compiles.unwrap_or(false)));
        });
        // Without a thread the next change tries again.
        self.is_compiling.set(spawned.is_ok());
    }

    /// What has changed has been compiled, or could not be.
    pub fn compiled(&self, good: bool) {
        self.is_compiling.set(false);
        if !good || self.timer.is_set() {
            return;
        }
        let changed = self.changed.take();
        let Some(first) = changed.first() else { return };
        let reason = match changed.len() {
            1 => format!("\"{}\" has changed", first.display()),
            len => format!("\"{}\" has changed, and {} more", first.display(), len - 1),
        };
        retire::reload(&reason);
    }
}
