//! What the workers of one configuration and their master share: a zone of nginx's shared memory.
//!
//! Each cycle has a zone of its own: after a reload the workers of the one before leave anyway, as
//! late as they like, and what they knew of their applications says nothing of the new ones.
//! Runs on: event loop; [`add`], its callback and [`Hold`] in the master.

use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use ngx::ffi::{
    ngx_conf_t, ngx_cycle_t, ngx_int_t, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_calloc,
    ngx_slab_pool_t,
};

use crate::nginx::config::MainConf;
use crate::nginx::sys::module::tag;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{code, list, process};
use crate::wsgi::tries::Tries;

/// nginx has at most so many processes (NGX_MAX_PROCESSES).
const MAX_WORKERS: usize = 1024;

/// The zone. All zero at first.
pub struct Shared {
    /// Who is being replaced, see `retire.rs`; 0 while nobody is.
    pub token: AtomicU64,
    /// The pid of the master while it starts no workers, else 0.
    pub busy: AtomicI32,
    /// What each worker imports, see `retry.rs`.
    importing: [AtomicU32; MAX_WORKERS],
    tries: *const Tries,
    tries_len: usize,
}

impl Shared {
    /// What the worker with this number (ngx_worker, which its successor has too) imports.
    pub fn importing(&self, worker: usize) -> Option<&AtomicU32> {
        self.importing.get(worker)
    }

    /// One for each application, and the last for Python itself.
    pub fn tries(&self) -> &[Tries] {
        // SAFETY: set once, before the first worker starts, to so many zeroed values in the zone,
        // which is mapped at one address in the master and its workers as long as this value is.
        unsafe { std::slice::from_raw_parts(self.tries, self.tries_len) }
    }
}

/// The zone of a worker's configuration.
pub fn of(main: &MainConf) -> Option<&'static Shared> {
    // SAFETY: nginx maps the zone for the life of this process and has initialised it.
    unsafe { main.zone.as_ref().and_then(|zone| shared(zone).as_ref()) }
}

/// What is in the zone, for as long as the zone is mapped.
fn shared(zone: &ngx_shm_zone_t) -> *const Shared {
    zone.data.cast_const().cast()
}

/// Asks nginx for the shared memory of a cycle with so many applications; null without memory.
///
/// # Safety
///
/// `cf` is the configuration being read.
pub unsafe fn add(cf: *mut ngx_conf_t, apps: usize) -> *mut ngx_shm_zone_t {
    let mut name = ngx::ngx_string!("wsgi_workers");
    let tries = apps + 1;
    // SAFETY: nginx keeps the name, which is static, and adds the zone to the cycle being built.
    unsafe {
        // The least that a slab pool works in, with any size of page, and what is put into it.
        let size =
            8 * ngx::ffi::ngx_pagesize + 2 * (size_of::<Shared>() + tries * size_of::<Tries>());
        let zone = ngx_shared_memory_add(cf, &mut name, size, tag());
        if !zone.is_null() {
            // Until the zone is initialised.
            (*zone).data = std::ptr::without_provenance_mut(tries);
            (*zone).init = Some(ngx_http_wsgi_init_zone);
            (*zone).noreuse = 1;
        }
        zone
    }
}

/// The zone is mapped, and new: it is not reused.
unsafe extern "C" fn ngx_http_wsgi_init_zone(
    zone: *mut ngx_shm_zone_t,
    _data: *mut c_void,
) -> ngx_int_t {
    protect(code::ERROR, || {
        // SAFETY: nginx has made a slab pool at the zone's address. What it gives is zeroed, and
        // aligned for any type that has no greater alignment than its size.
        unsafe {
            let pool: *mut ngx_slab_pool_t = (*zone).shm.addr.cast();
            let tries_len = (*zone).data.addr();
            let shared: *mut Shared = ngx_slab_calloc(pool, size_of::<Shared>()).cast();
            let tries = ngx_slab_calloc(pool, tries_len * size_of::<Tries>());
            if shared.is_null() || tries.is_null() {
                return code::ERROR;
            }
            (*shared).tries = tries.cast_const().cast();
            (*shared).tries_len = tries_len;
            (*zone).data = shared.cast();
            code::OK
        }
    })
}

/// While it lives the workers of a cycle do not leave on their own accord.
pub struct Hold(*const Shared);

impl Hold {
    /// # Safety
    ///
    /// `cycle` is live for as long as this, in its master.
    pub unsafe fn new(cycle: *mut ngx_cycle_t) -> Option<Self> {
        // SAFETY: the cycle's list of zones, all mapped. A zone with our tag is one of `add`'s,
        // made by this image.
        unsafe {
            for zone in list::elements::<ngx_shm_zone_t>(&raw const (*cycle).shared_memory) {
                if (*zone).tag == tag()
                    && let Some(data) = shared(&*zone).as_ref()
                {
                    data.busy.store(process::id(), Ordering::Release);
                    return Some(Self(data));
                }
            }
        }
        None
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: the cycle lives, and with it its zones.
        unsafe { (*self.0).busy.store(0, Ordering::Release) };
    }
}
