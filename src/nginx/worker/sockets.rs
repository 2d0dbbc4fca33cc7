//! Threads of requests for a WebSocket, as the event loop calls them.
//!
//! A request waits here while its application is being imported, as others do in their queues.
//! Runs on: event loop, but for the body of a thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::nginx::sys::{log, process};
use crate::wsgi::application::AppSlot;
use crate::wsgi::interpreter::SharedInterpreter;
use crate::wsgi::mailbox::{Level, Mailbox};
use crate::wsgi::own_threads::{OwnThreads, Wants};
use crate::wsgi::queue::Job;

/// How long a thread waits for the next request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request for a WebSocket has no thread.
pub enum Refused {
    /// As many have theirs as may.
    Full,
    /// The system gives no more.
    NotStarted,
}

/// Those of one worker. Lives as long as the process.
pub struct Sockets {
    threads: Arc<OwnThreads>,
    /// Requests whose application is not imported yet.
    held: RefCell<Vec<Job>>,
}

impl Sockets {
    pub fn leak(interpreter: SharedInterpreter, mailbox: Arc<Mailbox>) -> &'static Self {
        let threads = OwnThreads::new(interpreter, mailbox, "websocket", PATIENCE);
        Box::leak(Box::new(Self { threads: Arc::new(threads), held: RefCell::default() }))
    }

    pub fn threads(&self) -> &Arc<OwnThreads> {
        &self.threads
    }

    /// Gives a request to a thread, now or when its application has been imported. The job is
    /// dropped if `limit` requests have or wait for one, or if there is no thread to be had.
    pub fn push(&self, job: Job, limit: usize) -> Result<(), Refused> {
        let mut held = self.held.borrow_mut();
        held.retain(is_wanted);
        if is_ready(&job) {
            let limit = limit.saturating_sub(held.len());
            return self.give(job, limit);
        }
        if self.threads.taken() + held.len() >= limit {
            return Err(Refused::Full);
        }
        held.push(job);
        Ok(())
    }

    fn give(&self, job: Job, limit: usize) -> Result<(), Refused> {
        let id = job.id().unwrap_or_default();
        if self.threads.push(job, limit).map_err(|_| Refused::Full)? == Wants::Nothing {
            return Ok(());
        }
        let (threads, number) = (Arc::clone(&self.threads), self.threads.starting());
        let spawned = process::spawn(&format!("websocket-{number}"), move || {
            // Children that Python starts inherit the mask.
            process::unblock_signals();
            threads.run(number);
        });
        match spawned {
            Ok(()) => Ok(()),
            Err(err) => match self.threads.not_started(number, id) {
                Some(_) => {
                    log::write_here(Level::Alert, format_args!("pthread_create() failed: {err}"));
                    Err(Refused::NotStarted)
                }
                // Another thread has come free, and has it.
                None => Ok(()),
            },
        }
    }

    /// An import has ended.
    pub fn look(&self) {
        for job in self.held.take() {
            if is_ready(&job) {
                // One that finds no thread is dropped, and answered as one that is lost.
                let _ = self.give(job, usize::MAX);
            } else if is_wanted(&job) {
                self.held.borrow_mut().push(job);
            }
        }
    }

    /// Threads that have not left.
    pub fn alive(&self) -> usize {
        self.threads.alive()
    }

    /// Threads that are at a request, or about to be.
    pub fn busy(&self) -> usize {
        self.threads.taken()
    }

    /// The worker leaves: no request is given to a thread any more.
    pub fn stop(&self) {
        self.held.take();
        self.threads.stop();
    }
}

fn is_ready(job: &Job) -> bool {
    matches!(job, Job::Call { app, .. } if AppSlot::is_settled(app))
}

fn is_wanted(job: &Job) -> bool {
    matches!(job, Job::Call { response, .. } if !response.is_cancelled())
}
