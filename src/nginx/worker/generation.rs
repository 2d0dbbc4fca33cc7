//! The workers of this configuration and those of the ones before: who serves, and who follows.
//!
//! `wsgi/generation.rs` is the table of them all, and the rules. This file keeps it in a zone of
//! shared memory that every cycle with an application takes over from the one before, and has this
//! worker's place in it. The master numbers a generation when nothing of the reload can fail any
//! more, and before the first of its workers is there; a worker has the number from it.
//! Runs on: event loop; [`add`], its callback and `ngx_http_wsgi_init_module` in the master.

use std::cell::Cell;
use std::ffi::c_void;

use ngx::ffi::{
    NGX_PROCESS_WORKER, ngx_cmp_sockaddr, ngx_conf_t, ngx_cycle_t, ngx_int_t, ngx_listening_t,
    ngx_process, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_calloc, ngx_slab_pool_t,
    ngx_uint_t, ngx_worker,
};

use super::identity::{identity, is_alive, own_pid};
use crate::nginx::config::{MainConf, core_of_cycle};
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{bits, code};
use crate::wsgi::generation::{Change, Member, Stage, Table};

/// The address of this is what nginx knows the zone by: that of `zone.rs` has another tag.
static TAG: u8 = 0;

/// This worker among all.
#[derive(Clone, Copy)]
pub struct Membership {
    pub table: &'static Table,
    pub own: &'static Member,
    pub generation: u32,
}

thread_local! {
    // Without a destructor, which would keep the image mapped in a master that unloads it.
    static MEMBERSHIP: Cell<Option<Membership>> = const { Cell::new(None) };
}

/// This worker among all, once [`start`] has been called in it.
pub fn membership() -> Option<Membership> {
    MEMBERSHIP.get()
}

/// The worker is about to close its listening sockets: nobody relies on it any more.
pub fn leaves() {
    if let Some(membership) = membership() {
        membership.own.reach(Stage::Leaving);
    }
}

/// Asks nginx for the shared memory; false without any.
///
/// # Safety
///
/// `cf` is the configuration being read.
pub unsafe fn add(cf: *mut ngx_conf_t, main: &mut MainConf) -> bool {
    let mut name = ngx::ngx_string!("wsgi_generations");
    // SAFETY: nginx keeps the name, which is static, and adds the zone to the cycle being built.
    unsafe {
        // The least that a slab pool works in, with any size of page, and what is put into it.
        let size = 8 * ngx::ffi::ngx_pagesize + 2 * size_of::<Table>();
        let tag = (&raw const TAG).cast_mut().cast();
        let zone = ngx_shared_memory_add(cf, &mut name, size, tag);
        if zone.is_null() {
            return false;
        }
        (*zone).init = Some(ngx_http_wsgi_init_generations);
        main.generations = zone;
    }
    true
}

/// The zone is mapped: new, or with the table that `data` is. The reload may still fail.
unsafe extern "C" fn ngx_http_wsgi_init_generations(
    zone: *mut ngx_shm_zone_t,
    data: *mut c_void,
) -> ngx_int_t {
    protect(code::ERROR, || {
        // SAFETY: nginx has made a slab pool at the address of a new zone. What it gives is zeroed,
        // and aligned for any type that has no greater alignment than its size.
        unsafe {
            let pool: *mut ngx_slab_pool_t = (*zone).shm.addr.cast();
            (*zone).data =
                if data.is_null() { ngx_slab_calloc(pool, size_of::<Table>()) } else { data };
            if (*zone).data.is_null() { code::ERROR } else { code::OK }
        }
    })
}

fn table(main: &MainConf) -> Option<&'static Table> {
    // SAFETY: nginx maps the zone for the life of this cycle, which is that of a worker, and has
    // initialised it with a table, which is atomics and may be all zero.
    unsafe { main.generations.as_ref().and_then(|zone| zone.data.cast::<Table>().as_ref()) }
}

/// The configuration has been accepted, and its workers are about to be started: numbers them.
///
/// # Safety
///
/// Called in init_module, in the master, with the new cycle, whose main configuration `main` is.
pub unsafe fn raise(cycle: *mut ngx_cycle_t, main: &mut MainConf) {
    if let Some(table) = table(main) {
        // SAFETY: both cycles are complete, and nginx has gone through their sockets.
        let (workers, change) = unsafe { (core_of_cycle(cycle).worker_processes, change(cycle)) };
        main.generation = table.raise(usize::try_from(workers).unwrap_or(1), change);
    }
}

/// What this cycle changes of the sockets of the one before.
///
/// # Safety
///
/// As [`raise`].
unsafe fn change(cycle: *mut ngx_cycle_t) -> Change {
    // SAFETY: the arrays of listening sockets of two complete cycles, with their addresses. nginx
    // closes those of the old one that do not remain after init_module.
    unsafe {
        let new = (*cycle).listening.as_slice::<ngx_listening_t>();
        // What comes before the first cycle is all zero, its arrays have not been made.
        let old = &(*(*cycle).old_cycle).listening;
        let old = if old.nelts == 0 { &[] } else { old.as_slice::<ngx_listening_t>() };
        let is_same = |a: &ngx_listening_t, b: &ngx_listening_t| {
            let (a, b) = ((a.sockaddr, a.socklen), (b.sockaddr, b.socklen));
            ngx_cmp_sockaddr(a.0, a.1, b.0, b.1, 1) == code::OK
        };
        // With reuseport a socket may go whose address stays.
        let is_dropped = |ls: &&ngx_listening_t| {
            ls.fd != -1 && !bits::listening::remain(*ls) && !new.iter().any(|new| is_same(ls, new))
        };
        Change {
            opened: new.iter().any(|ls| bits::listening::open(ls)),
            dropped: old.iter().any(|ls| is_dropped(&ls)),
        }
    }
}

/// The worker starts: takes its place among the others. Without a master nobody comes before or
/// after, and there is no place.
pub fn start(main: &MainConf) -> Option<Membership> {
    // SAFETY: plain variables of nginx.
    let (is_worker, number) =
        unsafe { (ngx_process == NGX_PROCESS_WORKER as ngx_uint_t, ngx_worker) };
    let table = table(main).filter(|_| is_worker)?;
    let worker = u16::try_from(number).unwrap_or(u16::MAX);
    let own = table.join(identity(own_pid()), main.generation, worker, is_alive)?;
    let membership = Membership { table, own, generation: main.generation };
    MEMBERSHIP.set(Some(membership));
    Some(membership)
}
