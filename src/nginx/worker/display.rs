//! What a worker shows of itself for `wsgi_status`: itself, its pools, its applications, and the
//! requests of its clients, in shared memory of its cycle.
//!
//! Whoever asks for the status reads it there, so that no worker need be asked, nor wait. Rows are
//! not written for each request, but for all that are in flight whenever a timer is over
//! (`nginx/request/in_flight.rs`): a request that is faster costs nothing. The timer is armed while a
//! request is under way.
//! Runs on: event loop; [`add`], [`resize`] and the zone's callback in the master.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ngx::ffi::{
    ngx_conf_t, ngx_current_msec, ngx_cycle_t, ngx_int_t, ngx_log_t, ngx_msec_t, ngx_pagesize,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_calloc, ngx_slab_pool_t,
    ngx_worker,
};

use super::counters;
use super::identity::{identity, is_alive, own_pid};
use crate::nginx::config::{MainConf, core_of_cycle};
use crate::nginx::sys::code;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::process;
use crate::nginx::sys::timer::Timer;
use crate::wsgi::exchange::Exchange;
use crate::wsgi::own_threads::Threads;
use crate::wsgi::status::cell;
use crate::wsgi::status::counters::{Cause, Cells, Counters, SERIES};
use crate::wsgi::status::records::{self, App, FRONT, Pool, Row, State, Worker};

/// The address of this is what nginx knows the zone by.
static TAG: u8 = 0;

/// Requests of a worker that are shown at most.
pub const ROWS: usize = 1024;

/// How often what is in flight is written.
const TICK: ngx_msec_t = 100;

type Workers = cell::Cell<{ records::WORKER }>;
type Pools = cell::Cell<{ records::POOL }>;
type Apps = cell::Cell<{ records::APP }>;
type Rows = cell::Cell<{ records::ROW }>;

/// What is in the zone.
#[derive(Clone, Copy)]
struct Shared {
    slots: usize,
    pools: usize,
    apps: usize,
    worker: *const Workers,
    /// One a slot and pool.
    pool: *const Pools,
    /// One a slot and application.
    app: *const Apps,
    /// [`ROWS`] a slot. What has not been used yet is not initialised, see [`Worker::rows`].
    row: *const Rows,
}

/// What all workers of a configuration show.
#[derive(Clone, Copy)]
pub struct Table(Shared);

impl Table {
    pub fn workers(&self) -> &'static [Workers] {
        // SAFETY: so many values in the zone, zeroed and written to as atomics; it is mapped for the
        // life of a worker, at one address in all of them.
        unsafe { slice::from_raw_parts(self.0.worker, self.0.slots) }
    }

    /// The pools of a slot.
    pub fn pools(&self, slot: usize) -> &'static [Pools] {
        assert!(slot < self.0.slots);
        // SAFETY: the zone has one a slot and pool, zeroed and written to as atomics.
        unsafe { slice::from_raw_parts(self.0.pool.add(slot * self.0.pools), self.0.pools) }
    }

    /// The applications of a slot.
    pub fn apps(&self, slot: usize) -> &'static [Apps] {
        assert!(slot < self.0.slots);
        // SAFETY: the zone has one a slot and application, zeroed and written to as atomics.
        unsafe { slice::from_raw_parts(self.0.app.add(slot * self.0.apps), self.0.apps) }
    }

    /// The rows of a slot.
    pub fn rows(&self, slot: usize) -> &'static [Rows] {
        assert!(slot < self.0.slots);
        // SAFETY: the zone has `ROWS` a slot, written to as atomics. All values of their words are
        // valid; the memory is the kernel's, which does not leave it without a value.
        unsafe { slice::from_raw_parts(self.0.row.add(slot * ROWS), ROWS) }
    }
}

/// What the workers of `main` show, if they do.
pub fn of(main: &MainConf) -> Option<Table> {
    // SAFETY: nginx maps the zone for the life of a worker. Its data is null, or has been put there
    // by the callback below.
    unsafe {
        let shared = main.status.shown.as_ref()?.data.cast::<Shared>().as_ref()?;
        Some(Table(*shared))
    }
}

/// Asks nginx for the shared memory; false without any.
///
/// # Safety
///
/// `cf` is the configuration being read, and `main` its main configuration, which stays where it
/// is.
pub unsafe fn add(cf: *mut ngx_conf_t, main: &mut MainConf) -> bool {
    let mut name = ngx::ngx_string!("wsgi_status");
    // SAFETY: nginx keeps the name, which is static, and adds the zone to the cycle being built.
    unsafe {
        let size = 16 * ngx_pagesize;
        let zone = ngx_shared_memory_add(cf, &mut name, size, (&raw const TAG).cast_mut().cast());
        if zone.is_null() {
            return false;
        }
        // Until the zone is initialised.
        (*zone).data = ptr::from_mut(main).cast();
        (*zone).init = Some(ngx_http_wsgi_init_display);
        (*zone).noreuse = 1;
        main.status.shown = zone;
    }
    true
}

/// The whole configuration is known: how many slots there are, and how large the zone is.
///
/// # Safety
///
/// Called in a core init_conf with the cycle of `main`, before nginx maps its zones.
pub unsafe fn resize(cycle: *mut ngx_cycle_t, main: &mut MainConf) {
    // SAFETY: the core module's configuration is complete; the zone is part of the cycle.
    unsafe {
        let Some(zone) = main.status.shown.as_mut() else { return };
        let ccf = core_of_cycle(cycle);
        let workers = usize::try_from(ccf.worker_processes).unwrap_or(1);
        main.status.slots = if ccf.master == 0 { 1 } else { workers.max(1) };
        let Sizes { worker, pool, app, row } = Sizes::of(main);
        // The slab pool gives whole pages of what is large, and rounds up what is small.
        zone.shm.size += 2 * (worker + pool + app + size_of::<Shared>()) + row + row / 64;
    }
}

/// Bytes of each array.
struct Sizes {
    worker: usize,
    pool: usize,
    app: usize,
    row: usize,
}

impl Sizes {
    fn of(main: &MainConf) -> Self {
        let slots = main.status.slots;
        Self {
            worker: slots * size_of::<Workers>(),
            pool: slots * main.pools.len() * size_of::<Pools>(),
            app: slots * main.apps.len() * size_of::<Apps>(),
            row: slots * ROWS * size_of::<Rows>(),
        }
    }
}

/// The zone is mapped, and new: it is not reused.
unsafe extern "C" fn ngx_http_wsgi_init_display(
    zone: *mut ngx_shm_zone_t,
    _data: *mut c_void,
) -> ngx_int_t {
    protect(code::ERROR, || {
        // SAFETY: nginx has made a slab pool at the zone's address. What it gives is aligned for any
        // type that has no greater alignment than its size. `add` has set the data to the main
        // configuration, which nobody looks at meanwhile.
        unsafe {
            let main = &*(*zone).data.cast::<MainConf>();
            (*zone).data = ptr::null_mut();
            let pool: *mut ngx_slab_pool_t = (*zone).shm.addr.cast();
            let sizes = Sizes::of(main);
            let shared: *mut Shared = ngx_slab_calloc(pool, size_of::<Shared>()).cast();
            if shared.is_null() {
                return code::ERROR;
            }
            shared.write(Shared {
                slots: main.status.slots,
                pools: main.pools.len(),
                apps: main.apps.len(),
                worker: ngx_slab_calloc(pool, sizes.worker).cast(),
                pool: ngx_slab_calloc(pool, sizes.pool).cast(),
                app: ngx_slab_calloc(pool, sizes.app).cast(),
                // The kernel makes no page of it before it is used.
                row: ngx_slab_alloc(pool, sizes.row).cast(),
            });
            let Shared { worker, pool, app, row, .. } = *shared;
            if worker.is_null() || pool.is_null() || app.is_null() || row.is_null() {
                return code::ERROR;
            }
            (*zone).data = shared.cast();
            code::OK
        }
    })
}

/// A thread that is still at a request whose client has gone.
pub struct Left {
    pub exchange: Arc<Exchange>,
    /// That it is one of.
    pub threads: Threads,
    pub row: usize,
    pub front: [u64; FRONT],
}

/// What this worker shows.
pub struct Display {
    own: usize,
    table: Table,
    counters: &'static Counters,
    cells: &'static [Cells; SERIES],
    main: &'static MainConf,
    started: u64,
    holder: u64,
    generation: u32,
    /// Rows that are not in use, but have been.
    free: RefCell<Vec<usize>>,
    used: Cell<usize>,
    requests: Cell<u64>,
    guests: Cell<u64>,
    pub left: RefCell<Vec<Left>>,
    apps: RefCell<Vec<App>>,
    timer: Timer,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static DISPLAY: Cell<Option<&'static Display>> = const { Cell::new(None) };
}

/// What this worker shows, if it does.
pub fn display() -> Option<&'static Display> {
    DISPLAY.get()
}

/// Counts something of a series of the configuration, if anything is counted.
pub fn count(series: usize, count: impl FnOnce(&Cells)) {
    if let Some(display) = display() {
        display.count(series, count);
    }
}

/// This worker is to be replaced.
pub fn replaced(cause: Cause) {
    if let Some(display) = display() {
        display.counters.replaced(cause);
    }
}

/// The worker leaves as it was told to.
pub fn leaves() {
    if let Some(display) = DISPLAY.take() {
        display.table.workers()[display.own].write(&Worker::default().pack());
    }
}

/// Takes this worker's slot. `tick` writes what is in flight.
pub fn start(main: &'static MainConf, generation: u32, log: *mut ngx_log_t, tick: fn()) {
    // SAFETY: a plain variable of nginx.
    let own = unsafe { ngx_worker };
    let (Some(table), Some(counters)) = (of(main), counters::of(main)) else { return };
    let Some(worker) = table.workers().get(own) else { return };
    let before = worker.read().map_or(0, |words| Worker::unpack(&words).holder);
    if before != 0 {
        if is_alive(before) {
            return;
        }
        counters.replaced(Cause::Died);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let display: &'static Display = Box::leak(Box::new(Display {
        own,
        table,
        counters,
        cells: counters.cells(own),
        main,
        started: now.map_or(0, |now| now.as_secs()),
        holder: identity(own_pid()),
        generation,
        free: RefCell::default(),
        used: Cell::new(0),
        requests: Cell::new(0),
        guests: Cell::new(0),
        left: RefCell::default(),
        apps: RefCell::new(vec![App::default(); main.apps.len()]),
        timer: Timer::new(log),
    }));
    display.timer.calls(tick);
    for app in table.apps(own) {
        app.write(&App::default().pack());
    }
    display.show_worker(0, (0, 0));
    DISPLAY.set(Some(display));
}

/// nginx's clock in milliseconds, as it was when the event loop last woke.
pub fn now() -> u64 {
    // SAFETY: a number that only the event loop's thread changes.
    unsafe { ptr::read_volatile(&raw const ngx_current_msec) as u64 }
}

impl Display {
    /// A request begins.
    pub fn begins(&self) {
        self.requests.set(self.requests.get() + 1);
        self.is_under_way();
    }

    /// A request of another worker begins.
    pub fn guest_begins(&self) {
        self.guests.set(self.guests.get() + 1);
        self.begins();
    }

    /// Something is to be shown before long.
    pub fn is_under_way(&self) {
        if !self.timer.is_set() {
            self.timer.set(TICK);
            // Others may see by it that this worker does not come to write any more.
            self.beat(true);
        }
    }

    pub fn count(&self, series: usize, count: impl FnOnce(&Cells)) {
        if let Some(number) = self.main.status.numbers.get(series) {
            count(&self.cells[*number]);
        }
    }

    pub fn slots(&self) -> usize {
        self.table.workers().len()
    }

    /// Query strings are to be shown.
    pub fn shows_query(&self) -> bool {
        self.main.status.query
    }

    /// A row that is not in use; `None`: none is left.
    pub fn take_row(&self) -> Option<usize> {
        self.free.borrow_mut().pop().or_else(|| {
            let row = self.used.get();
            (row < ROWS).then(|| {
                self.used.set(row + 1);
                row
            })
        })
    }

    pub fn write_row(&self, row: usize, what: &Row) {
        self.table.rows(self.own)[row].write(&what.pack());
    }

    /// What of a row changes while its request goes on.
    pub fn update_row(&self, row: usize, front: &[u64; FRONT]) {
        self.table.rows(self.own)[row].write(front);
    }

    pub fn free_row(&self, row: usize) {
        self.update_row(row, &[0; FRONT]);
        self.free.borrow_mut().push(row);
    }

    pub fn show_pool(&self, index: usize, pool: Pool) {
        self.table.pools(self.own)[index].write(&pool.pack());
    }

    /// Writes what is known of the worker itself. `hidden`: requests that have no row; `own`: threads
    /// of requests for a WebSocket, and those that are at one.
    pub fn show_worker(&self, hidden: u64, own: (usize, usize)) {
        let worker = Worker {
            holder: self.holder,
            generation: self.generation.into(),
            started: self.started,
            beat: now(),
            is_ticking: self.timer.is_set(),
            rows: self.used.get() as u64,
            hidden,
            requests: self.requests.get(),
            guests: self.guests.get(),
            own_threads: own.0 as u64,
            own_busy: own.1 as u64,
        };
        self.table.workers()[self.own].write(&worker.pack());
    }

    fn beat(&self, is_ticking: bool) {
        let cell = &self.table.workers()[self.own];
        if let Some(words) = cell.read() {
            let worker = Worker { beat: now(), is_ticking, ..Worker::unpack(&words) };
            cell.write(&worker.pack());
        }
    }

    /// The import of an application has begun.
    pub fn import_begins(&self, app: usize) {
        self.show_app(app, |app| {
            app.state = State::Importing;
            app.begun = now();
        });
    }

    /// The connection of a request has become the application's, or is its no more.
    pub fn websocket(&self, app: usize, is_open: bool) {
        self.show_app(app, |app| {
            app.websockets = app.websockets.saturating_add_signed(if is_open { 1 } else { -1 });
        });
        self.is_under_way();
    }

    /// It has ended, or is put off. `error`: why it has failed.
    pub fn import_ends(&self, index: usize, error: Option<String>) {
        let has_failed = error.is_some();
        let mut was_begun = false;
        self.show_app(index, |app| {
            was_begun = app.begun > 0;
            app.took = if was_begun { now().saturating_sub(app.begun) } else { 0 };
            app.state = if has_failed { State::Failed } else { State::Loaded };
            app.error = error.unwrap_or_default();
            app.resident = process::resident_set(own_pid()).unwrap_or_default();
        });
        let series = self.main.status.series.iter().position(|(app, _)| *app == index);
        if let Some(series) = series.filter(|_| has_failed && was_begun) {
            self.count(series, Cells::import_failed);
        }
    }

    fn show_app(&self, index: usize, change: impl FnOnce(&mut App)) {
        if let Some(app) = self.apps.borrow_mut().get_mut(index) {
            change(app);
            self.table.apps(self.own)[index].write(&app.pack());
        }
    }
}
