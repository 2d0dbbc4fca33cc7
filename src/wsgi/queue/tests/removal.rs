//! Requests that are taken out of a long queue: at what cost, and what is left.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof, proptest};

use super::*;
use crate::wsgi::tests::cases;

const MANY: u64 = 100_000;

impl Fixture {
    /// An application that is being imported.
    fn importing() -> &'static AppSlot {
        AppSlot::leak("y".to_owned(), Box::new(Ok200))
    }

    fn pushed(&mut self, app: &'static AppSlot) -> ExchangeId {
        let ready = std::mem::replace(&mut self.app, app);
        self.push(usize::MAX).unwrap();
        self.app = ready;
        self.next_id
    }

    fn popped(&self) -> Option<ExchangeId> {
        self.queue.lock().jobs.pop()?.id()
    }

    fn work(&self) -> usize {
        std::mem::take(&mut self.queue.lock().jobs.work)
    }
}

fn shuffled(mut ids: Vec<ExchangeId>) -> Vec<ExchangeId> {
    ids.sort_by_key(|id| id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    ids
}

/// The event loop takes them out one by one, with the lock that all threads want.
#[test]
fn many_are_taken_out_of_the_middle_for_little_work_each() {
    type Order = fn(Vec<ExchangeId>) -> Vec<ExchangeId>;
    let reversed: Order = |ids| ids.into_iter().rev().collect();
    for order in [|ids| ids, reversed, shuffled] {
        let mut f = Fixture::new(1);
        let app = f.app;
        let ids: Vec<_> = (0..MANY * 3 / 2).map(|_| f.pushed(app)).collect();
        let (first, last) = ids.split_at(MANY as usize / 4);
        let (middle, last) = last.split_at(MANY as usize);
        f.work();
        for id in order(middle.to_vec()) {
            assert!(f.queue.remove(id));
        }
        // A binary search, and a share of what is moved together.
        let work = f.work();
        assert!(work < MANY as usize * 25, "{work}");
        assert_eq!(f.queue.lock().jobs.requests(), first.len() + last.len());
        let left: Vec<_> = std::iter::from_fn(|| f.popped()).collect();
        assert_eq!(left, [first, last].concat());
        assert!(f.work() < MANY as usize);
    }
}

#[test]
fn those_that_wait_for_an_import_are_not_searched_through() {
    let mut f = Fixture::new(1);
    let (app, importing) = (f.app, Fixture::importing());
    for _ in 0..1000 {
        f.pushed(importing);
    }
    for _ in 0..1000 {
        let id = f.pushed(app);
        assert_eq!(f.popped(), Some(id));
    }
    assert!(f.work() < 5000);
    assert_eq!(f.popped(), None);
    assert_eq!(f.queue.lock().jobs.requests(), 1000);
    importing.load();
    assert_eq!(f.popped(), Some(1));
}

#[test]
fn the_limit_counts_those_that_are_left() {
    let mut f = Fixture::new(1);
    f.queue.begin();
    f.push(0).unwrap();
    assert!(f.queue.next(After::Waiting).is_some());
    for _ in 0..3 {
        for _ in 0..5 {
            assert!(f.push(5).is_ok());
        }
        assert!(f.push(5).is_err());
        // Not the refused one, which has a number too.
        for id in f.next_id - 5..f.next_id {
            assert!(f.queue.remove(id) && !f.queue.remove(id));
        }
        assert!(!f.queue.remove(f.next_id));
    }
    assert_eq!(f.queue.lock().jobs.len(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Push(bool),
    Tidy,
    /// One of those that have been pushed, by its place.
    Remove(usize),
    Pop,
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop_oneof![Just(Step::Push(false)), Just(Step::Push(true))],
        2 => Just(Step::Tidy),
        8 => (0..400usize).prop_map(Step::Remove),
        4 => Just(Step::Pop),
        1 => Just(Step::Settle),
    ];
    vec(step, 0..400)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn what_is_left_comes_in_the_order_it_came(steps in steps()) {
        let mut f = Fixture::new(1);
        let (app, importing) = (f.app, Fixture::importing());
        // The same as a plain list: the number, 0 for no request, and whether it waits for an
        // import.
        let mut list: Vec<(ExchangeId, bool)> = Vec::new();
        let mut settled = false;
        let pushes = steps.iter().filter(|step| matches!(step, Step::Push(_))).count();
        for step in steps {
            match step {
                Step::Push(waits) => {
                    let id = f.pushed(if waits { importing } else { app });
                    list.push((id, waits));
                }
                Step::Tidy => {
                    let known = f.queue.lock().jobs.len();
                    f.queue.push(Job::Tidy, usize::MAX).unwrap();
                    list.extend((f.queue.lock().jobs.len() > known).then_some((0, false)));
                }
                Step::Remove(place) => {
                    let id = place as ExchangeId % (pushes as ExchangeId + 1);
                    let at = list.iter().position(|(known, _)| *known == id && id > 0);
                    assert_eq!(f.queue.remove(id), at.is_some());
                    at.map(|at| list.remove(at));
                }
                Step::Pop => {
                    let at = list.iter().position(|(_, waits)| settled || !waits);
                    let job = f.queue.lock().jobs.pop();
                    let id = job.map(|job| job.id().unwrap_or(0));
                    assert_eq!(id, at.map(|at| list.remove(at).0));
                }
                Step::Settle => {
                    importing.load();
                    settled = true;
                }
            }
            let state = f.queue.lock();
            assert_eq!(state.jobs.len(), list.len());
            assert_eq!(state.jobs.requests(), list.iter().filter(|(id, _)| *id > 0).count());
            assert_eq!(state.jobs.has_next(), list.iter().any(|(_, waits)| settled || !waits));
        }
    }
}
