//! A server with its generations, and what each of its workers may do.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;

/// A server: its table, and the processes that are alive.
struct Server {
    table: Table,
    alive: RefCell<BTreeSet<u64>>,
}

impl Server {
    fn new() -> Self {
        let table = Table {
            newest: AtomicU64::new(0),
            loaded: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            opened: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
            members: [const { Member { who: AtomicU64::new(0), seat: AtomicU64::new(0) } };
                MAX_WORKERS],
        };
        Self { table, alive: RefCell::default() }
    }

    fn start(&self, who: u64, generation: u32, worker: u16) -> &Member {
        self.alive.borrow_mut().insert(who);
        self.table.join(who, generation, worker, |who| self.is_alive(who)).unwrap()
    }

    fn reload<const N: usize>(&self, first: u64) -> [&Member; N] {
        self.reload_with(first, Change::default())
    }

    fn reload_with<const N: usize>(&self, first: u64, change: Change) -> [&Member; N] {
        let generation = self.table.raise(N, change);
        std::array::from_fn(|n| self.start(first + n as u64, generation, n as u16))
    }

    fn is_alive(&self, who: u64) -> bool {
        self.alive.borrow().contains(&who)
    }

    fn kill(&self, who: u64) {
        self.alive.borrow_mut().remove(&who);
    }

    fn sockets(&self, member: &Member) -> Sockets {
        self.table.sockets(member, Others::Awaited, |who| self.is_alive(who))
    }

    fn progress(&self) -> Progress {
        self.table.progress(|who| self.is_alive(who))
    }
}

const NEW: Sockets = Sockets { all: false, own: false, new: true };

fn serve(members: &[&Member]) {
    members.iter().for_each(|member| member.reach(Stage::Serving));
}

#[test]
fn a_first_start_accepts_at_once() {
    let server = Server::new();
    let [a, b] = server.reload(10);
    assert_eq!([a, b].map(|member| server.sockets(member)), [Sockets::ALL; 2]);
    assert_eq!(server.progress(), Progress::Loading);
    serve(&[a, b]);
    assert_eq!(server.progress(), Progress::Loaded);
    assert_eq!(server.table.outlook(1), Outlook::Last);
}

#[test]
fn new_workers_begin_together_and_old_ones_end_then() {
    let server = Server::new();
    let old: [_; 2] = server.reload(10);
    serve(&old);
    let [a, b, c] = server.reload(20);
    assert_eq!(server.table.outlook(1), Outlook::Pending(2));
    // The third one's own sockets are nobody else's.
    let wants = [NEW, NEW, Sockets { own: true, ..NEW }];
    assert_eq!([a, b, c].map(|member| server.sockets(member)), wants);
    a.reach(Stage::Settled);
    b.reach(Stage::Settled);
    assert_eq!([a, b, c].map(|member| server.sockets(member)), wants);
    assert_eq!(server.table.outlook(1), Outlook::Pending(2));
    c.reach(Stage::Settled);
    assert_eq!([a, b, c].map(|member| server.sockets(member)), [Sockets::ALL; 3]);
    assert_eq!(server.table.outlook(1), Outlook::Loaded);
}

#[test]
fn a_generation_that_was_overtaken_does_not_count() {
    let server = Server::new();
    let [old] = server.reload(10);
    serve(&[old]);
    let [overtaken] = server.reload(20);
    let [new] = server.reload(30);
    assert_eq!(server.table.outlook(1), Outlook::Pending(3));
    assert_eq!(server.table.outlook(2), Outlook::Pending(3));
    overtaken.reach(Stage::Leaving);
    assert_eq!(server.sockets(new), NEW);
    new.reach(Stage::Settled);
    assert_eq!(server.sockets(new), Sockets::ALL);
    assert_eq!(server.table.outlook(1), Outlook::Loaded);
}

#[test]
fn the_end_of_the_newest_generation_is_the_end_of_the_server() {
    let server = Server::new();
    let [old] = server.reload(10);
    serve(&[old]);
    server.reload::<1>(20);
    server.table.end(2);
    assert_eq!(server.table.outlook(1), Outlook::Ended);
    server.reload::<1>(30);
    assert_eq!(server.table.outlook(1), Outlook::Pending(3));
}

#[test]
fn who_leaves_before_it_has_loaded_has_not_loaded() {
    let server = Server::new();
    let [old] = server.reload(10);
    serve(&[old]);
    let [new] = server.reload(20);
    new.reach(Stage::Leaving);
    assert_eq!(server.progress(), Progress::Loading, "its successor comes when it has gone");
    assert_eq!(server.sockets(new), NEW);
    server.kill(20);
    assert_eq!(server.progress(), Progress::Missing);
    assert_eq!(server.table.outlook(1), Outlook::Pending(2));
}

#[test]
fn a_successor_waits_for_its_own_imports_alone() {
    let server = Server::new();
    let [a, b] = server.reload(10);
    serve(&[a, b]);
    b.reach(Stage::Leaving);
    server.kill(11);
    let b = server.start(12, 1, 1);
    // Its own sockets have nobody.
    assert_eq!(server.sockets(b), Sockets { all: false, own: true, new: false });
    b.reach(Stage::Settled);
    assert_eq!(server.sockets(b), Sockets::ALL);
}

#[test]
fn who_does_not_live_or_has_not_loaded_keeps_nobody_from_accepting() {
    let server = Server::new();
    let [old] = server.reload(10);
    serve(&[old]);
    let [new] = server.reload(20);
    assert_eq!(server.sockets(new), NEW);
    server.kill(10);
    assert_eq!(server.sockets(new), Sockets::ALL);
    let [late] = server.reload(30);
    assert_eq!(server.sockets(late), Sockets::ALL);
}

#[test]
fn a_dead_worker_is_missed_until_its_successor_comes() {
    let server = Server::new();
    let [old] = server.reload(10);
    serve(&[old]);
    let [a, b] = server.reload(20);
    a.reach(Stage::Settled);
    server.kill(21);
    assert_eq!(server.progress(), Progress::Missing);
    let successor = server.start(22, 2, 1);
    assert!(std::ptr::eq(successor, b), "the place of the predecessor is used again");
    assert_eq!(server.progress(), Progress::Loading);
    assert_eq!(server.sockets(a), NEW);
    let over = server.table.sockets(a, Others::GivenUp, |who| server.is_alive(who));
    assert_eq!(over, Sockets::ALL);
    assert_eq!(server.table.outlook(1), Outlook::Loaded);
}

#[test]
fn places_of_the_dead_are_used_again() {
    let server = Server::new();
    for who in 1..3 * MAX_WORKERS as u64 {
        server.start(who, 1, 0);
        server.kill(who);
    }
    assert_eq!(server.table.seats().count(), 1);
    for who in 0..MAX_WORKERS {
        server.start(10_000 + who as u64, 1, 0);
    }
    assert!(server.table.join(1, 1, 0, |_| true).is_none(), "nginx has no more processes");
}

#[test]
fn nobody_is_given_up_before_he_has_been_missing_for_long() {
    let start = Instant::now();
    let mut vacancy = Vacancy::new(start);
    let mut at =
        |msec, progress| vacancy.is_final(start + Duration::from_millis(msec), || progress);
    assert!(!at(1000, Progress::Missing));
    assert!(!at(5000, Progress::Missing));
    assert!(!at(5999, Progress::Loading), "it looks once a second");
    assert!(at(6000, Progress::Missing));
    assert!(!at(7000, Progress::Loading));
    assert!(!at(8000, Progress::Missing));
    assert!(!at(12_999, Progress::Missing));
    assert!(at(13_000, Progress::Missing));
}

#[test]
fn a_seat_is_one_word() {
    for stage in [Stage::Loading, Stage::Settled, Stage::Serving, Stage::Leaving] {
        let seat = Seat { generation: 0xfedc_ba98, worker: 1023, stage };
        assert_eq!(Seat::unpack(seat.pack()), seat);
    }
}

#[test]
fn workers_that_keep_dropped_sockets_open_end_at_once() {
    let server = Server::new();
    let [old] = server.reload(10);
    serve(&[old]);
    let dropped = Change { dropped: true, ..Change::default() };
    let [new] = server.reload_with(20, dropped);
    assert_eq!(server.table.outlook(1), Outlook::Dropped);
    serve(&[new]);
    server.reload::<1>(30);
    assert_eq!(server.table.outlook(2), Outlook::Pending(3), "that was the reload before");
}

#[test]
fn sockets_of_a_generation_that_was_overtaken_are_not_left_to_workers_that_lack_them() {
    let server = Server::new();
    let [old] = server.reload(10);
    serve(&[old]);
    let [overtaken] = server.reload_with(20, Change { opened: true, ..Change::default() });
    assert_eq!(server.sockets(overtaken), NEW);
    overtaken.reach(Stage::Leaving);
    let [new] = server.reload(30);
    assert_eq!(server.sockets(new), Sockets::ALL);
    serve(&[new]);
    server.sockets(new);
    let [next] = server.reload(40);
    assert_eq!(server.sockets(next), NEW, "the last one has them all");
}

#[test]
fn workers_that_have_loaded_serve_also_before_their_generation_has() {
    let server = Server::new();
    let opened = Change { opened: true, ..Change::default() };
    let [old, _late] = server.reload_with(10, opened);
    serve(&[old]);
    let [new] = server.reload(20);
    assert_eq!(server.sockets(new), NEW, "the one that serves has all sockets");
}
