//! What the workers of one configuration show each other: a zone of shared memory, and an inbox for
//! each.
//!
//! A worker's *slot* is its ngx_worker, which its successor has too. The master makes zone and
//! inboxes with the configuration; both go with it.
//! Runs on: event loop; [`add`], [`resize`] and the zone's callback in the master.

use std::ffi::c_void;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use ngx::ffi::{
    ngx_conf_t, ngx_cycle_t, ngx_int_t, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_calloc,
    ngx_slab_pool_t,
};

use crate::nginx::config::{Balance, MainConf, core_of_cycle};
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::seqpacket::Seqpacket;
use crate::nginx::sys::{code, log};
use crate::wsgi::board::{Board, Clock};
use crate::wsgi::mailbox::Level;

/// The address of this is what nginx knows the zone by.
static TAG: u8 = 0;

/// Requests that a worker may have handed over at a time.
pub const WORDS: usize = 1024;

/// Bytes that may wait in an inbox: a few dozen invitations.
const INBOX: usize = 16 * 1024;

/// A slot, but for what there are several of. All zero: nobody has taken it.
#[derive(Debug, Default)]
pub struct Slot {
    /// The [`identity`](crate::nginx::worker::identity::identity) of its worker.
    pub holder: AtomicU64,
    /// The worker takes requests of others.
    pub is_open: AtomicBool,
}

/// What is in the zone.
#[derive(Clone, Copy)]
struct Shared {
    slots: usize,
    pools: usize,
    apps: usize,
    slot: *const Slot,
    /// One a slot and pool.
    board: *const Board,
    /// One a slot and application.
    loaded: *const AtomicBool,
    /// [`WORDS`] a slot.
    word: *const AtomicU32,
}

/// What all workers see.
#[derive(Clone, Copy)]
pub struct Table(Shared);

impl Table {
    /// The workers' slots.
    pub fn slots(&self) -> &'static [Slot] {
        // SAFETY: so many values in the zone, all zero or written to as atomics; it is mapped for
        // the life of a worker, at one address in all of them.
        unsafe { slice::from_raw_parts(self.0.slot, self.0.slots) }
    }

    /// The boards of a slot, one a pool.
    pub fn boards(&self, slot: usize) -> &'static [Board] {
        assert!(slot < self.0.slots);
        // SAFETY: the zone has one board a slot and pool, zeroed and written to as atomics; it is mapped
        // for the life of a worker.
        unsafe { slice::from_raw_parts(self.0.board.add(slot * self.0.pools), self.0.pools) }
    }

    /// Which applications are loaded in the worker of a slot.
    pub fn loaded(&self, slot: usize) -> &'static [AtomicBool] {
        assert!(slot < self.0.slots);
        // SAFETY: the zone has one flag a slot and application, zeroed and written to as atomics; it is mapped
        // for the life of a worker.
        unsafe { slice::from_raw_parts(self.0.loaded.add(slot * self.0.apps), self.0.apps) }
    }

    /// The words of a slot's offers.
    pub fn words(&self, slot: usize) -> &'static [AtomicU32] {
        assert!(slot < self.0.slots);
        // SAFETY: the zone has `WORDS` words a slot, zeroed and written to as atomics; it is mapped
        // for the life of a worker.
        unsafe { slice::from_raw_parts(self.0.word.add(slot * WORDS), WORDS) }
    }

    /// Nobody hands anything to the worker of this slot, until it says otherwise.
    pub fn close(&self, slot: usize) {
        self.slots()[slot].is_open.store(false, Ordering::Release);
        self.boards(slot).iter().for_each(Board::clear);
        self.loaded(slot).iter().for_each(|loaded| loaded.store(false, Ordering::Relaxed));
    }
}

/// What the workers of `main` see, if there is anybody to hand requests to.
pub fn of(main: &MainConf) -> Option<Table> {
    // SAFETY: nginx maps the zone for the life of a worker. It is empty, which is null, or has what
    // the callback below has put there.
    unsafe {
        let zone = main.balance.zone.as_ref()?;
        let shared = zone.data.cast::<Shared>().as_ref()?;
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
    let mut name = ngx::ngx_string!("wsgi_balance");
    // SAFETY: nginx keeps the name, which is static, and adds the zone to the cycle being built.
    unsafe {
        let size = 8 * ngx::ffi::ngx_pagesize;
        let zone = ngx_shared_memory_add(cf, &mut name, size, (&raw const TAG).cast_mut().cast());
        if zone.is_null() {
            return false;
        }
        // Until the zone is initialised.
        (*zone).data = ptr::from_mut(main).cast();
        (*zone).init = Some(ngx_http_wsgi_init_balance);
        (*zone).noreuse = 1;
        main.balance.zone = zone;
    }
    true
}

/// The whole configuration is known: how many slots there are, and how large the zone is. None are
/// needed where nobody is there to hand anything to.
///
/// # Safety
///
/// Called in a core init_conf with the cycle of `main`, before nginx maps its zones.
pub unsafe fn resize(cycle: *mut ngx_cycle_t, main: &mut MainConf) {
    // SAFETY: the core module's configuration is complete; the zone is part of the cycle.
    unsafe {
        let Some(zone) = main.balance.zone.as_mut() else { return };
        let ccf = core_of_cycle(cycle);
        let slots = usize::try_from(ccf.worker_processes).unwrap_or(1);
        let alone = slots < 2 && !main.balance.is_forced();
        main.balance.slots = if ccf.master == 0 || alone { 0 } else { slots };
        let Sizes { slot, board, loaded, word } = Sizes::of(main);
        // The slab pool gives whole pages of what is large, and rounds up what is small.
        zone.shm.size += 2 * (slot + board + loaded + word + size_of::<Shared>());
    }
}

/// Bytes of each array.
struct Sizes {
    slot: usize,
    board: usize,
    loaded: usize,
    word: usize,
}

impl Sizes {
    fn of(main: &MainConf) -> Self {
        let slots = main.balance.slots;
        Self {
            slot: slots * size_of::<Slot>(),
            board: slots * main.pools.len() * size_of::<Board>(),
            loaded: slots * main.apps.len() * size_of::<AtomicBool>(),
            word: slots * WORDS * size_of::<AtomicU32>(),
        }
    }
}

/// The zone is mapped, and new: it is not reused.
unsafe extern "C" fn ngx_http_wsgi_init_balance(
    zone: *mut ngx_shm_zone_t,
    _data: *mut c_void,
) -> ngx_int_t {
    protect(code::ERROR, || {
        // SAFETY: nginx has made a slab pool at the zone's address. What it gives is zeroed, and
        // aligned for any type that has no greater alignment than its size. `add` has set the data
        // to the main configuration, which nobody looks at meanwhile.
        unsafe {
            let main = &mut *(*zone).data.cast::<MainConf>();
            (*zone).data = ptr::null_mut();
            if main.balance.slots == 0 {
                return code::OK;
            }
            let pool: *mut ngx_slab_pool_t = (*zone).shm.addr.cast();
            let Sizes { slot, board, loaded, word } = Sizes::of(main);
            let shared: *mut Shared = ngx_slab_calloc(pool, size_of::<Shared>()).cast();
            if shared.is_null() {
                return code::ERROR;
            }
            shared.write(Shared {
                slots: main.balance.slots,
                pools: main.pools.len(),
                apps: main.apps.len(),
                slot: ngx_slab_calloc(pool, slot).cast(),
                board: ngx_slab_calloc(pool, board).cast(),
                loaded: ngx_slab_calloc(pool, loaded).cast(),
                word: ngx_slab_calloc(pool, word).cast(),
            });
            let Shared { slot, board, loaded, word, .. } = *shared;
            if slot.is_null() || board.is_null() || loaded.is_null() || word.is_null() {
                return code::ERROR;
            }
            if let Err(err) = make_inboxes(&mut main.balance) {
                let text = format_args!("socketpair() for \"wsgi_balance\" failed: {err}");
                log::write_here(Level::Emerg, text);
                return code::ERROR;
            }
            main.balance.clock = Some(Clock::start());
            (*zone).data = shared.cast();
            code::OK
        }
    })
}

fn make_inboxes(balance: &mut Balance) -> std::io::Result<()> {
    balance.inboxes =
        (0..balance.slots).map(|_| Seqpacket::pair(INBOX)).collect::<Result<_, _>>()?;
    Ok(())
}
