//! Any sequence of what event loop and runners may do, beside a list of what waits.
//!
//! One thread plays all of them, so that a sequence is what the queue's lock makes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::*;
use crate::wsgi::queue::slots::{RunnerSlot, RunnerSlots};
use crate::wsgi::tests::cases;

#[derive(Debug, Clone, Copy)]
enum Step {
    Push,
    Tidy,
    /// One of the requests that have been pushed.
    Remove(usize),
    /// One of them is taken out, and the oldest that was comes back.
    TakeOut(usize),
    PutBack,
    /// The event loop looks.
    Look,
    /// The thread that was asked for is there, or is not to be had.
    Begin,
    NotStarted,
    /// A runner does what comes next. What it says of its request, if that was watched.
    Go(usize, Conduct),
    /// A runner leaves by a panic.
    Leave(usize),
    /// A runner is not expected back.
    Stick(usize),
    Pass(Duration),
    /// One runner is found to be enough.
    Prove,
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let times = [0, 20, 60, 600, 1100, 6000, 30_000, 1_000_000].map(Duration::from_micros);
    let step = prop_oneof![
        12 => Just(Step::Push),
        1 => Just(Step::Tidy),
        2 => any::<usize>().prop_map(Step::Remove),
        4 => any::<usize>().prop_map(Step::TakeOut),
        3 => Just(Step::PutBack),
        4 => Just(Step::Look),
        6 => Just(Step::Begin),
        1 => Just(Step::NotStarted),
        40 => (any::<usize>(), any::<bool>()).prop_map(|(nth, slept)| {
            Step::Go(nth, if slept { Conduct::Slept } else { Conduct::Ran })
        }),
        1 => any::<usize>().prop_map(Step::Leave),
        4 => Just(Step::Prove),
        2 => any::<usize>().prop_map(Step::Stick),
        12 => proptest::sample::select(times.to_vec()).prop_map(Step::Pass),
    ];
    vec(step, 0..300)
}

/// What a runner is at besides its role.
struct Runner {
    slot: Arc<RunnerSlot>,
    is_stuck: bool,
    watch: bool,
    /// It is to pop, and not to wait.
    tidies: bool,
}

struct Model {
    timers: Timers,
    f: Fixture,
    board: &'static Board,
    slots: RunnerSlots,
    runners: BTreeMap<usize, (Seat, Runner)>,
    /// What waits, and as the how manieth it was pushed; 0 for what is no request.
    waiting: VecDeque<(usize, ExchangeId)>,
    pushed: usize,
    out: VecDeque<(usize, Job, Place)>,
    /// Requests that have been run, and those that have been taken out.
    run: BTreeSet<ExchangeId>,
    removed: BTreeSet<ExchangeId>,
    /// The event loop's timer is armed, and a runner has asked for a look.
    timer: bool,
    mail: bool,
    stopped: bool,
}

impl Model {
    fn new(threads: usize, timers: Timers) -> Self {
        let mut f = Fixture::new(threads);
        f.queue = RequestQueue::timeless(threads, timers);
        let board: &'static Board = Box::leak(Box::default());
        f.queue.show_on(board, Clock::start());
        Self {
            timers,
            f,
            board,
            slots: RunnerSlots::default(),
            runners: BTreeMap::new(),
            waiting: VecDeque::new(),
            pushed: 0,
            out: VecDeque::new(),
            run: BTreeSet::new(),
            removed: BTreeSet::new(),
            timer: false,
            mail: false,
            stopped: false,
        }
    }

    fn counts(&self) -> roles::Counts {
        *self.f.queue.lock().roles.counts()
    }

    /// One of the runners, if there is one.
    fn with(&mut self, nth: usize, act: impl FnOnce(&mut Self, usize)) {
        let many = self.runners.len().max(1);
        if let Some(index) = self.runners.keys().nth(nth % many).copied() {
            act(self, index);
        }
    }

    fn follow(&mut self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Done => (),
            Wakeup::Wake => assert_eq!(self.counts().called, 1),
            Wakeup::WakeAndLook => {
                assert_eq!(self.counts().called, 1);
                self.timer = true;
            }
            Wakeup::StartRunner => {
                assert_eq!(self.counts().starting, 1);
                self.timer = true;
            }
            Wakeup::LookLater => self.timer = true,
            Wakeup::Nobody => {
                let state = self.f.queue.lock();
                let nobody = policy::taker(state.roles.counts()) == Taker::Nobody;
                assert!(state.jobs.requests() > 0 && (nobody || !state.jobs.has_next()));
            }
        }
    }

    fn push(&mut self, job: Job) {
        let id = job.id().unwrap_or(0);
        match self.f.queue.push(job, 9) {
            Ok(wakeup) => {
                assert!(!self.stopped);
                if id > 0 || self.waiting.iter().all(|(_, id)| *id > 0) {
                    self.pushed += 1;
                    self.waiting.push_back((self.pushed, id));
                }
                self.follow(wakeup);
            }
            Err(_) => {
                let requests = self.waiting.iter().filter(|(_, id)| *id > 0).count();
                assert!(self.stopped || requests >= 9 + self.f.queue.lock().roles.free());
                self.removed.insert(id);
            }
        }
    }

    fn begin(&mut self) {
        if self.counts().starting == 0 {
            return;
        }
        let seat = self.f.queue.begin();
        assert_eq!(seat.is_none(), self.stopped);
        assert_eq!(self.counts().starting, 0);
        if let Some(seat) = seat {
            let slot = self.slots.add();
            let runner = Runner { slot, is_stuck: false, watch: false, tidies: false };
            assert!(self.runners.insert(seat.index(), (seat, runner)).is_none());
        }
    }

    fn go(&mut self, index: usize, conduct: Conduct) {
        let (seat, runner) = self.runners.get_mut(&index).unwrap();
        let seat = *seat;
        let role = self.f.queue.lock().roles.get(seat);
        match role {
            Role::Vacant | Role::Starting => unreachable!("it has begun"),
            Role::Asleep => (),
            Role::Called(_) => {
                let now = self.f.queue.now();
                self.f.queue.lock().wakes(seat, now);
            }
            Role::Awake { .. } if std::mem::take(&mut runner.tidies) => self.pop(index, None),
            Role::Awake { .. } => {
                self.f.queue.lock().goes_on(seat);
            }
            Role::Attaching { .. } => self.pop(index, None),
            Role::Working { .. } => {
                assert_eq!(runner.slot.leave(), runner.is_stuck);
                if std::mem::take(&mut runner.is_stuck) {
                    self.slots.recovered();
                }
                let conduct = runner.watch.then_some(conduct);
                self.pop(index, conduct);
            }
        }
    }

    fn pop(&mut self, index: usize, conduct: Option<Conduct>) {
        let (seat, runner) = self.runners.get_mut(&index).unwrap();
        match self.f.queue.pop(*seat, conduct) {
            Next::Work { job, watch, lacks_runner, .. } => {
                let id = job.id().unwrap_or(0);
                let first = self.waiting.pop_front().map(|(_, id)| id);
                assert_eq!(first, Some(id), "in the order they came");
                runner.tidies = id == 0;
                if id > 0 {
                    assert!(self.run.insert(id), "{id} twice");
                    runner.slot.enter(id);
                    runner.watch = watch;
                }
                self.mail |= lacks_runner;
            }
            Next::Nothing => assert!(self.waiting.is_empty()),
            Next::Surplus | Next::Yield => self.mail = true,
        }
    }

    fn leave(&mut self, index: usize) {
        let (seat, runner) = self.runners.remove(&index).unwrap();
        if runner.is_stuck {
            self.slots.recovered();
        }
        self.slots.remove(&runner.slot);
        self.f.queue.leave(seat);
        self.mail = true;
    }

    fn stick(&mut self, index: usize) {
        let (seat, runner) = self.runners.get_mut(&index).unwrap();
        if let Role::Working { job, .. } = self.f.queue.lock().roles.get(*seat) {
            assert_eq!(self.slots.set_stuck(job), !runner.is_stuck);
            runner.is_stuck = true;
        }
    }

    fn look(&mut self) {
        (self.timer, self.mail) = (false, false);
        let wakeup = self.f.queue.look();
        self.follow(wakeup);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push => {
                let (_, job) = self.f.job();
                self.push(job);
            }
            Step::Tidy => self.push(Job::Tidy),
            Step::Remove(nth) => {
                let id = nth as ExchangeId % (self.f.next_id + 1);
                let place = self.waiting.iter().position(|(_, known)| *known == id && id > 0);
                assert_eq!(self.f.queue.remove(id), place.is_some());
                if let Some(place) = place {
                    self.waiting.remove(place);
                    self.removed.insert(id);
                }
            }
            Step::TakeOut(nth) => {
                let claimants = self.f.queue.claimants(9, |_| true);
                let waiting = self.waiting.iter().map(|(_, id)| *id).filter(|id| *id > 0);
                let first: Vec<_> = waiting.take(9).collect();
                assert!(claimants.iter().map(|claimant| claimant.id).eq(first));
                let Some(id) = claimants.get(nth % 9).map(|claimant| claimant.id) else { return };
                let (job, place) = self.f.queue.take_out(id).unwrap();
                let at = self.waiting.iter().position(|(_, known)| *known == id);
                let (pushed, _) = self.waiting.remove(at.unwrap()).unwrap();
                self.out.push_back((pushed, job, place));
            }
            Step::PutBack => {
                let Some((pushed, job, place)) = self.out.pop_front() else { return };
                let id = job.id().unwrap();
                let wakeup = self.f.queue.put_back(job, place);
                if self.stopped {
                    assert_eq!(wakeup, Wakeup::Done);
                    self.removed.insert(id);
                } else {
                    let at = self.waiting.partition_point(|(other, _)| *other < pushed);
                    self.waiting.insert(at, (pushed, id));
                    self.follow(wakeup);
                }
            }
            Step::Look => self.look(),
            Step::Begin => self.begin(),
            Step::NotStarted => {
                // The event loop tries again in a second, whatever its timers are.
                self.mail |= self.counts().starting > 0;
                self.f.queue.not_started();
            }
            Step::Go(nth, conduct) => self.with(nth, |model, index| model.go(index, conduct)),
            Step::Leave(nth) => self.with(nth, Self::leave),
            Step::Stick(nth) => self.with(nth, Self::stick),
            // With coarse timers no request is watched, and nothing is found.
            Step::Prove if self.timers == Timers::Fine => self.f.prove(),
            Step::Prove => (),
            Step::Pass(time) => self.f.queue.pass(time),
            Step::Stop => {
                self.f.queue.stop();
                self.stopped = true;
                self.removed.extend(self.waiting.drain(..).map(|(_, id)| id));
            }
        }
    }

    /// Whether the event loop is about to look.
    fn looks(&self) -> bool {
        self.mail || (self.timer && self.timers == Timers::Fine)
    }

    /// What holds after each step.
    fn hold(&self) {
        let counts = self.counts();
        assert_eq!(self.f.queue.lock().jobs.len(), self.waiting.len());
        assert_eq!(self.f.queue.has_room(), self.board.room() > 0);
        assert_eq!(self.slots.stuck(), self.runners.values().filter(|(_, r)| r.is_stuck).count());
        let all = counts.vacant + counts.starting + self.runners.len();
        assert_eq!(all, self.f.queue.threads());
        assert!(counts.called <= 1 && counts.starting <= 1);
        // Somebody sees to what waits, or nobody can.
        let comes = counts.coming() + counts.starting + counts.awake > 0;
        let can = counts.asleep + counts.vacant > 0;
        assert!(self.waiting.is_empty() || comes || self.looks() || !can, "{counts:?}");
    }

    /// Everybody goes on until nothing waits.
    fn finish(&mut self) {
        while !self.out.is_empty() {
            self.step(Step::PutBack);
            self.hold();
        }
        for _ in 0..self.waiting.len() * 8 + 50 {
            if self.looks() {
                self.look();
            }
            self.begin();
            for index in self.runners.keys().copied().collect::<Vec<_>>() {
                self.go(index, Conduct::Ran);
                self.hold();
            }
            self.f.queue.pass(Duration::from_millis(1));
        }
        assert!(self.waiting.is_empty());
        let all: BTreeSet<_> = (1..=self.f.next_id).collect();
        assert!(self.run.is_disjoint(&self.removed));
        self.removed.remove(&0);
        assert_eq!(self.run.union(&self.removed).copied().collect::<BTreeSet<_>>(), all);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn what_waits_is_run_once_or_taken_out(
        threads in 1..5usize,
        is_fine in any::<bool>(),
        steps in steps(),
        stop in proptest::option::weighted(0.1, 0..300usize),
    ) {
        let timers = if is_fine { Timers::Fine } else { Timers::Coarse };
        let mut model = Model::new(threads, timers);
        for (number, step) in steps.into_iter().enumerate() {
            if stop == Some(number) {
                model.step(Step::Stop);
            }
            model.step(step);
            model.hold();
        }
        model.finish();
    }
}
