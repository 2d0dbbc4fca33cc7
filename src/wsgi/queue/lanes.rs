//! The jobs that wait, in the order they came, and cheap to take out anywhere.
//!
//! Each application has a lane of its own: whether an application is being
//! imported is asked once for all that wait for it, and those behind them are not searched through.
//! A request that is taken out leaves a gap, which goes when it comes to the front, or when there
//! are more gaps than jobs: nothing is moved for one request alone. The number of live jobs is
//! exact all the time.
//! Runs on: either, under the queue's lock.

use std::collections::VecDeque;

use super::job::Job;
use crate::wsgi::application::AppSlot;
use crate::wsgi::mailbox::ExchangeId;

/// Gaps that a lane may have in any case.
const FEW: usize = 32;

struct Entry {
    /// Counts all jobs of the queue.
    order: u64,
    /// 0 for what is no request.
    id: ExchangeId,
    /// `None`: a gap. There is none at the front of a lane.
    job: Option<Job>,
}

struct Lane {
    /// `None`: what is no request, and can always run.
    app: Option<&'static AppSlot>,
    entries: VecDeque<Entry>,
    gaps: usize,
}

impl Lane {
    fn is_runnable(&self) -> bool {
        self.app.is_none_or(AppSlot::is_settled)
    }

    fn is_of(&self, app: Option<&'static AppSlot>) -> bool {
        self.app.map(std::ptr::from_ref) == app.map(std::ptr::from_ref)
    }
}

#[derive(Default)]
pub struct Lanes {
    /// One for each application that a request has come for: they are few, and stay.
    lanes: Vec<Lane>,
    /// The next job's number.
    order: u64,
    requests: usize,
    /// [`Job::Tidy`] waits too; never two.
    tidy: bool,
    /// Entries that have been looked at, moved or dropped.
    #[cfg(test)]
    pub work: usize,
}

impl Lanes {
    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.requests + usize::from(self.tidy)
    }

    /// Requests that wait.
    pub fn requests(&self) -> usize {
        self.requests
    }

    pub fn has_tidy(&self) -> bool {
        self.tidy
    }

    /// The numbers of requests grow: [`Self::remove`] finds them by that.
    pub fn push(&mut self, job: Job) {
        let app = match &job {
            Job::Call { app, .. } => Some(*app),
            Job::Tidy => None,
        };
        let id = job.id();
        match id {
            Some(_) => self.requests += 1,
            None => self.tidy = true,
        }
        let at = self.lanes.iter().position(|lane| lane.is_of(app)).unwrap_or_else(|| {
            self.lanes.push(Lane { app, entries: VecDeque::new(), gaps: 0 });
            self.lanes.len() - 1
        });
        let entry = Entry { order: self.order, id: id.unwrap_or(0), job: Some(job) };
        self.lanes[at].entries.push_back(entry);
        self.order += 1;
    }

    /// Whether there is a job that can be run.
    pub fn has_next(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.entries.is_empty() && lane.is_runnable())
    }

    /// The first job that can be run.
    pub fn pop(&mut self) -> Option<Job> {
        let front = |lane: &Lane| lane.entries.front().map(|entry| entry.order);
        let fronts = self.lanes.iter_mut().filter(|lane| lane.is_runnable());
        let lane = fronts.filter_map(|lane| Some((front(lane)?, lane))).min_by_key(|lane| lane.0);
        let lane = lane?.1;
        let job = lane.entries.pop_front()?.job?;
        let dropped = drop_gaps(lane);
        self.count(dropped);
        self.forget(&job);
        Some(job)
    }

    /// Takes out the request of this number.
    pub fn remove(&mut self, id: ExchangeId) -> Option<Job> {
        let mut work = 0;
        let job = self.lanes.iter_mut().filter(|lane| lane.app.is_some()).find_map(|lane| {
            let at = lane.entries.binary_search_by(|entry| {
                work += 1;
                entry.id.cmp(&id)
            });
            let job = lane.entries[at.ok()?].job.take()?;
            lane.gaps += 1;
            work += drop_gaps(lane);
            if lane.gaps > FEW.max(lane.entries.len() / 2) {
                work += lane.entries.len();
                lane.entries.retain(|entry| entry.job.is_some());
                lane.gaps = 0;
            }
            Some(job)
        });
        self.count(work);
        self.forget(job.as_ref()?);
        job
    }

    fn forget(&mut self, job: &Job) {
        match job {
            Job::Call { .. } => self.requests -= 1,
            Job::Tidy => self.tidy = false,
        }
    }

    #[cfg(test)]
    fn count(&mut self, work: usize) {
        self.work += work;
    }

    #[cfg(not(test))]
    fn count(&mut self, _work: usize) {}
}

/// Drops the gaps at the front; returns how many there were.
fn drop_gaps(lane: &mut Lane) -> usize {
    let mut dropped = 0;
    while lane.entries.front().is_some_and(|entry| entry.job.is_none()) {
        lane.entries.pop_front();
        lane.gaps -= 1;
        dropped += 1;
    }
    dropped
}
