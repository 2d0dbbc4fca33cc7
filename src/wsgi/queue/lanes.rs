//! The jobs that wait, in the order they came, and cheap to take out anywhere.
//!
//! Each application has a lane of its own: whether an application is being
//! imported is asked once for all that wait for it, and those behind them are not searched through.
//! A request that is taken out leaves a gap, which goes when it comes to the front, or when there
//! are more gaps than jobs: nothing is moved for one request alone. The number of live jobs is
//! exact all the time.
//! Runs on: either, under the queue's lock.

use std::collections::VecDeque;
use std::time::Instant;

use super::job::Job;
use crate::wsgi::application::AppSlot;
use crate::wsgi::mailbox::ExchangeId;

/// Gaps that a lane may have in any case.
const FEW: usize = 32;

struct Entry {
    place: Place,
    /// 0 for what is no request.
    id: ExchangeId,
    /// `None`: a gap. There is none at the front of a lane.
    job: Option<Job>,
}

/// Where a job waits, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Counts all jobs of the queue.
    order: u64,
    pub since: Instant,
}

/// A request that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub id: ExchangeId,
    pub place: Place,
    /// How many requests wait in front of it.
    pub nth: usize,
    /// Its application is loaded, or not to be.
    pub is_runnable: bool,
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
    pub fn push(&mut self, job: Job, now: Instant) {
        let place = self.place(now);
        let entry = self.entry(place, job);
        self.lane(&entry).entries.push_back(entry);
    }

    /// The place behind all that wait.
    pub fn place(&mut self, now: Instant) -> Place {
        self.order += 1;
        Place { order: self.order, since: now }
    }

    /// A request that was taken out comes back to its place.
    pub fn put_back(&mut self, job: Job, place: Place) {
        let entry = self.entry(place, job);
        let lane = self.lane(&entry);
        let at = lane.entries.partition_point(|other| other.id < entry.id);
        match lane.entries.get_mut(at) {
            Some(gap) if gap.id == entry.id => {
                *gap = entry;
                lane.gaps -= 1;
            }
            _ => lane.entries.insert(at, entry),
        }
    }

    fn entry(&mut self, place: Place, job: Job) -> Entry {
        let id = job.id();
        match id {
            Some(_) => self.requests += 1,
            None => self.tidy = true,
        }
        Entry { place, id: id.unwrap_or(0), job: Some(job) }
    }

    fn lane(&mut self, entry: &Entry) -> &mut Lane {
        let app = match &entry.job {
            Some(Job::Call { app, .. }) => Some(*app),
            _ => None,
        };
        let at = self.lanes.iter().position(|lane| lane.is_of(app)).unwrap_or_else(|| {
            self.lanes.push(Lane { app, entries: VecDeque::new(), gaps: 0 });
            self.lanes.len() - 1
        });
        &mut self.lanes[at]
    }

    /// Of the requests that `may_go` those that have waited for longest, `most` of them.
    pub fn waiting(&self, most: usize, may_go: impl Fn(ExchangeId) -> bool) -> Vec<Waiting> {
        let requests = self.lanes.iter().filter(|lane| lane.app.is_some());
        let mut lanes: Vec<_> = requests
            .map(|lane| {
                let live = lane.entries.iter().filter(|entry| entry.job.is_some());
                (lane.is_runnable(), live.peekable())
            })
            .collect();
        let mut first = Vec::new();
        for nth in 0.. {
            let fronts = lanes.iter_mut().filter_map(|lane| Some((lane.1.peek()?.place, lane)));
            let Some((place, (is_runnable, live))) = fronts.min_by_key(|front| front.0.order)
            else {
                break;
            };
            let Some(Entry { id, .. }) = live.next() else { break };
            if may_go(*id) {
                first.push(Waiting { id: *id, place, nth, is_runnable: *is_runnable });
            }
            if first.len() == most {
                break;
            }
        }
        first
    }

    /// Whether there is a job that can be run.
    pub fn has_next(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.entries.is_empty() && lane.is_runnable())
    }

    /// The first job that can be run.
    pub fn pop(&mut self) -> Option<Job> {
        let front = |lane: &Lane| lane.entries.front().map(|entry| entry.place.order);
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
    pub fn remove(&mut self, id: ExchangeId) -> Option<(Job, Place)> {
        let mut work = 0;
        let job = self.lanes.iter_mut().filter(|lane| lane.app.is_some()).find_map(|lane| {
            let at = lane.entries.binary_search_by(|entry| {
                work += 1;
                entry.id.cmp(&id)
            });
            let entry = &mut lane.entries[at.ok()?];
            let job = (entry.job.take()?, entry.place);
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
        self.forget(&job.as_ref()?.0);
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
