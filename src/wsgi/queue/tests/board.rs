//! What other workers see of a queue, and what requests that wait here claim of them.

use super::*;
use crate::wsgi::queue::Claimant;
use crate::wsgi::queue::policy::{Claim, PATIENCE};

const MOMENT: Duration = Duration::from_micros(200);

/// What the board of a queue shows: room, and whether the pool has been idle for a moment.
fn shown(f: &Fixture, board: &Board, clock: Clock) -> (usize, bool) {
    (board.room(), board.is_idle(clock, f.queue.now(), MOMENT))
}

fn claims(f: &Fixture) -> Vec<Claim> {
    f.queue.claimants(9, |_| true).into_iter().map(|claimant| claimant.claim).collect()
}

#[test]
fn others_see_room_and_idleness_from_the_first_request_to_the_last() {
    let clock = Clock::start();
    let mut f = Fixture::new(2);
    let board: &'static Board = Box::leak(Box::default());
    f.queue.show_on(board, clock);
    f.queue.pass(MOMENT);
    assert_eq!(shown(&f, board, clock), (2, true));
    f.push(9).unwrap();
    assert_eq!(shown(&f, board, clock), (1, false));
    let seat = f.queue.begin().unwrap();
    assert!(matches!(f.queue.pop(seat, None), Next::Work { .. }));
    f.push(9).unwrap();
    f.push(9).unwrap();
    f.queue.pass(MOMENT);
    assert_eq!(shown(&f, board, clock), (0, false));
    for _ in 0..2 {
        assert!(matches!(f.queue.pop(seat, None), Next::Work { .. }));
    }
    assert!(matches!(f.queue.pop(seat, None), Next::Nothing));
    assert!(!f.queue.lock().goes_on(seat));
    assert_eq!(shown(&f, board, clock), (2, false));
    f.queue.pass(MOMENT);
    assert_eq!(shown(&f, board, clock), (2, true));
    f.queue.stop();
    assert_eq!(shown(&f, board, clock).0, 0);
}

#[test]
fn a_request_claims_another_worker_when_its_own_keeps_it_waiting() {
    let mut f = Fixture::new(1);
    f.push(9).unwrap();
    let seat = f.queue.begin().unwrap();
    assert!(matches!(f.queue.pop(seat, None), Next::Work { .. }));
    f.push(9).unwrap();
    assert_eq!(claims(&f), [Claim::Nothing]);
    f.queue.pass(PATIENCE);
    f.push(9).unwrap();
    assert_eq!(claims(&f), [Claim::Room, Claim::Nothing]);
    // From now on requests are known to take long.
    f.queue.pass(20 * PATIENCE);
    assert!(matches!(f.queue.pop(seat, None), Next::Work { .. }));
    f.push(9).unwrap();
    assert_eq!(claims(&f), [Claim::Room, Claim::Room]);
}

#[test]
fn beside_threads_that_are_free_only_an_idle_interpreter_is_claimed() {
    let mut f = Fixture::new(2);
    f.push(9).unwrap();
    let seat = f.queue.begin().unwrap();
    assert!(matches!(f.queue.pop(seat, None), Next::Work { .. }));
    f.push(9).unwrap();
    assert_eq!(claims(&f), [Claim::Nothing]);
    f.queue.pass(PATIENCE);
    assert_eq!(claims(&f), [Claim::Idle]);
}

#[test]
fn requests_that_may_not_go_are_passed_over_and_keep_their_place() {
    let mut f = Fixture::new(1);
    f.push(9).unwrap();
    let seat = f.queue.begin().unwrap();
    assert!(matches!(f.queue.pop(seat, None), Next::Work { .. }));
    (0..4).for_each(|_| f.push(9).map(drop).unwrap());
    f.queue.pass(PATIENCE);
    let last = f.next_id;
    let claimants = f.queue.claimants(2, |id| id >= last - 1);
    let found = [last - 1, last].map(|id| Claimant { id, claim: Claim::Room });
    assert_eq!(claimants, found);
    assert!(f.queue.claimants(2, |_| false).is_empty());
}

#[test]
fn a_request_claims_any_worker_while_its_application_is_imported() {
    let mut f = Fixture::new(2);
    f.app = AppSlot::leak("y".to_owned(), Box::new(Ok200));
    assert_eq!(f.push(9), Ok(Wakeup::Nobody));
    assert_eq!(claims(&f), [Claim::Room]);
    assert_eq!(f.queue.look(), Wakeup::Nobody);
}

#[test]
fn what_waits_is_looked_at_when_it_may_wait_for_long() {
    let mut f = Fixture::new(1);
    f.push(9).unwrap();
    assert_eq!(f.queue.overflow(), Overflow::Nothing, "nobody has the GIL");
    let seat = f.queue.begin().unwrap();
    assert!(matches!(f.queue.pop(seat, None), Next::Work { .. }));
    f.push(9).unwrap();
    assert_eq!(f.queue.overflow(), Overflow::Soon);
    f.queue.pass(20 * PATIENCE);
    assert!(matches!(f.queue.pop(seat, None), Next::Work { .. }));
    f.push(9).unwrap();
    assert_eq!(f.queue.overflow(), Overflow::Now, "requests are known to take long");
}
