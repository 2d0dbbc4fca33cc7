//! Who is to take what waits, and whether one runner is enough: judged by what has happened.
//!
//! [`Policy`] remembers when what happened, and says what follows from it. It reads no clock, takes
//! no lock and changes no role. The queue tells it of each request and each runner, and does what
//! it says.
//!
//! A request that comes right after another has been taken is left to the runners that are up. When
//! requests wait for longer a sleeping runner is sent to the GIL (the *stand-by*, one at a time),
//! and when it has taken a request it calls the next, so that blocking work spreads over all
//! threads.
//!
//! Where nothing blocks one runner is enough ([`Alone`]), beside those at long requests. Then a
//! stand-by is *surplus* if somebody has come back for more within the switch interval, and goes
//! back to sleep; so does a runner that comes back while another is at work. That is believed for
//! [`TRIAL`], or [`FIRST_TRIAL`], unless nobody comes back; then a stand-by looks again.
//! Runs on: either, under the queue's lock.

use std::time::{Duration, Instant};

use super::alone::{Alone, Sign};
use super::roles::{Call, Counts};
use crate::wsgi::mailbox::ExchangeId;

/// For so long after a request has been taken its runner is expected to come back by itself.
pub const RETURN_GRACE: Duration = Duration::from_micros(500);

/// For so long a runner is believed to be surplus that has been found to be.
pub const TRIAL: Duration = Duration::from_millis(20);
/// The same while that has not been proven.
pub const FIRST_TRIAL: Duration = Duration::from_millis(1);
/// For so long a request waits for the runners of its own worker, unless they have been at the last
/// requests for longer.
pub const PATIENCE: Duration = Duration::from_millis(1);
/// A stand-by that has the GIL after so long found it free.
pub const SOON: Duration = Duration::from_micros(50);

/// When the event loop looks that is asked for a look a millisecond later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timers {
    /// Then.
    Fine,
    /// Perhaps much later: nothing is left to such a look.
    Coarse,
}

/// What a thread did in a request that was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// It waited for something, and not for a processor.
    Slept,
    Ran,
}

/// What runners are at when one of them has the GIL.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    pub counts: &'a Counts,
    /// How many are at requests that are not long yet. Long ones may block, and leave the GIL to
    /// others, or compute, and are not to keep it from them.
    pub short: usize,
    pub now: Instant,
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub job: ExchangeId,
    /// When it was taken.
    pub since: Instant,
    /// `None`: nobody has watched it.
    pub conduct: Option<Conduct>,
}

/// What a runner does that has the GIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The runner takes what waits.
    Take,
    /// The runner sleeps: others take what waits.
    Sleep,
    /// The runner lets others have the GIL for a moment, and comes back for the GIL.
    Yield,
}

/// Who takes a job that waits and that no runner is expected for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// A runner that is on its way.
    Coming,
    /// A runner that sleeps, and is to be called.
    Sleeper,
    /// A runner that is to be started.
    New,
    /// All are at work, and nobody is called: who is done first takes it.
    Nobody,
}

/// Who takes a job that waits.
pub fn taker(counts: &Counts) -> Taker {
    if counts.coming() > 0 || counts.starting > 0 {
        Taker::Coming
    } else if counts.asleep > 0 {
        Taker::Sleeper
    } else if counts.vacant > 0 {
        Taker::New
    } else {
        Taker::Nobody
    }
}

/// What a request that waits may be given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody: a runner comes for it soon.
    Nothing,
    /// Another worker, if its interpreter is idle.
    Idle,
    /// Another worker, if it has a free thread.
    Room,
}

/// Whether another runner would have to be started if one more were wanted.
pub fn lacks_runner(counts: &Counts) -> bool {
    counts.asleep == 0 && counts.vacant > 0 && counts.starting == 0
}

/// Whether `at` was less than `time` before `now`.
fn is_within(now: Instant, at: Option<Instant>, time: Duration) -> bool {
    at.is_some_and(|at| now - at < time)
}

/// What is remembered of requests and runners.
pub struct Policy {
    timers: Timers,
    /// After so long the holder of the GIL is made to let go of it.
    switch_interval: Duration,
    /// Whether one runner is enough.
    pub alone: Alone,
    /// When the last job was taken.
    pub taken: Option<Instant>,
    /// When a runner last came back for one job after another.
    pub returned: Option<Instant>,
    /// The request that has had none but long ones beside it.
    lone: Option<ExchangeId>,
    /// A surplus stand-by has come since a request was last taken.
    disturbed: bool,
    /// When a request was last taken to be watched.
    pub watched: Option<Instant>,
    /// When a runner was last found to be surplus.
    pub surplus: Option<Instant>,
    /// When a stand-by last came and was not surplus.
    pub needed: Option<Instant>,
    /// How long runners were at the last requests, the latest counting most, in nanoseconds.
    mean: u64,
}

impl Policy {
    pub fn new(timers: Timers, switch_interval: Duration) -> Self {
        Self {
            timers,
            switch_interval,
            alone: Alone::default(),
            taken: None,
            returned: None,
            lone: None,
            disturbed: false,
            watched: None,
            surplus: None,
            needed: None,
            mean: 0,
        }
    }

    /// What a request may claim that has waited for so long. `has_thread`: there is a free thread for
    /// it, if not the GIL. What runners are done with in no time is not worth the way to another
    /// worker.
    pub fn claim(&self, has_thread: bool, waited: Duration) -> Claim {
        let is_late = waited >= PATIENCE;
        if !has_thread && (is_late || self.takes_long()) {
            Claim::Room
        } else if is_late {
            Claim::Idle
        } else {
            Claim::Nothing
        }
    }

    /// Whether runners have been at the last requests for longer than a request is to wait.
    pub fn takes_long(&self) -> bool {
        self.mean >= PATIENCE.as_nanos() as u64
    }

    /// A request may be long: whoever has been at it for this time has had to let go of the GIL.
    pub fn switch_interval(&self) -> Duration {
        self.switch_interval
    }

    /// Whether anything may be left to a later look.
    fn is_patient(&self) -> bool {
        self.timers == Timers::Fine
    }

    /// A job has come: whether a runner that is up is expected to come for it.
    pub fn is_expected(&self, counts: &Counts, now: Instant) -> bool {
        let is_soon = || self.is_patient() && is_within(now, self.taken, RETURN_GRACE);
        counts.is_up() && (is_soon() || self.is_crowded(now))
    }

    /// Whether runners that compute have just shown that one more is of no use. They need not come
    /// back as soon as others do: a runner that loses the GIL has to wait for it.
    pub fn is_crowded(&self, now: Instant) -> bool {
        let last = self.surplus.max(self.returned);
        self.is_trusted(now) && is_within(now, last, self.switch_interval)
    }

    /// Whether it is still believed that one more runner is surplus.
    fn is_trusted(&self, now: Instant) -> bool {
        let trial = if self.alone.is_proven(now) { TRIAL } else { FIRST_TRIAL };
        is_within(now, self.surplus, trial)
    }

    /// A stand-by has the GIL, which it has wanted since then.
    pub fn came(&mut self, since: Instant, call: Call, moment: &Moment) -> Verdict {
        if call != Call::Own && self.is_surplus(since, call, moment) {
            self.disturbed = true;
            return Verdict::Sleep;
        }
        self.lone = None;
        self.needed = Some(moment.now);
        Verdict::Take
    }

    fn is_surplus(&mut self, since: Instant, call: Call, moment: &Moment) -> bool {
        let Moment { counts, short, now } = *moment;
        if !self.is_patient() || counts.working == 0 {
            return false;
        }
        let is_free = now - since < SOON;
        if is_free || short <= 1 {
            self.alone.looked(if is_free { Sign::Against } else { Sign::For });
        }
        match call {
            Call::Yield if is_free => self.alone.put_off(),
            Call::Yield => self.alone.assume(now),
            _ => (),
        }
        self.alone.is_enough(now) && is_within(now, self.returned, self.switch_interval)
    }

    /// A runner comes back from a request. If others are at work and one runner is enough, what
    /// waits is left to them; if not, the runner yields from time to time, to see whether that has
    /// changed.
    pub fn came_back(&mut self, done: Done, moment: &Moment) -> Verdict {
        let Moment { counts, short, now } = *moment;
        self.judge(done, counts, now);
        // Less than 584 years.
        self.mean += ((now - done.since).as_nanos() as u64) / 8;
        self.mean -= self.mean / 9;
        let is_called = counts.coming() > 0 || counts.starting > 0;
        if !self.is_patient() || is_called || short == 0 {
            Verdict::Take
        } else if self.alone.is_enough(now) {
            Verdict::Sleep
        } else if is_within(now, self.needed, self.alone.pause()) {
            Verdict::Take
        } else {
            Verdict::Yield
        }
    }

    /// What is made of a request that was watched.
    fn judge(&mut self, done: Done, counts: &Counts, now: Instant) {
        let is_lone = self.lone.take() == Some(done.job);
        let Some(conduct) = done.conduct else { return };
        let slept = conduct == Conduct::Slept;
        let is_long = now - done.since >= self.switch_interval;
        let is_disturbed = counts.coming() > 0 || self.disturbed;
        // In a short request others may have made the thread wait for the GIL: the requests beside
        // it, or a stand-by that was surplus. In a long one the thread has blocked, or somebody
        // else has the GIL.
        if (is_lone && !(slept && is_disturbed))
            || (slept && is_long && self.alone.is_tried(done.since))
        {
            self.alone.answered(if slept { Sign::Against } else { Sign::For }, now);
        }
    }

    /// A runner goes back to sleep though jobs wait.
    pub fn left(&mut self, now: Instant) {
        self.surplus = Some(now);
    }

    /// A request is taken; returns whether it is to be watched.
    pub fn took(&mut self, job: ExchangeId, short: usize, now: Instant) -> bool {
        self.lone = (short == 0).then_some(job);
        self.disturbed = false;
        let watch = self.is_patient() && !is_within(now, self.watched, RETURN_GRACE);
        if watch {
            self.watched = Some(now);
        }
        watch
    }

    /// A job is taken, by a stand-by or by a runner that goes on.
    pub fn popped(&mut self, standby: Option<Call>, now: Instant) {
        self.taken = Some(now);
        if standby.is_none() {
            self.returned = Some(now);
        }
    }

    /// A stand-by has taken a job: whether it calls another runner for what is left.
    pub fn calls_next(&self, call: Call, counts: &Counts, now: Instant) -> bool {
        (!call.is_timed() || !self.alone.is_enough(now)) && counts.coming() == 0
    }
}

#[cfg(test)]
mod tests;
