//! What is counted for `wsgi_status`: the shared memory that every cycle takes over.
//!
//! `wsgi/status/counters.rs` is what is in there. Without a `wsgi_status` there is none, and nothing
//! is counted.
//! Runs on: event loop; [`add`], its callback, [`register`] and [`of_cycle`] in the master.

use std::ffi::c_void;

use ngx::ffi::{
    ngx_conf_t, ngx_cycle_t, ngx_int_t, ngx_pagesize, ngx_shared_memory_add, ngx_shm_zone_t,
    ngx_slab_calloc, ngx_slab_pool_t,
};

use crate::nginx::config::MainConf;
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{code, list};
use crate::wsgi::status::counters::Counters;

/// The address of this is what nginx knows the zone by.
static TAG: u8 = 0;

fn tag() -> *mut c_void {
    (&raw const TAG).cast_mut().cast()
}

/// Asks nginx for the shared memory, whose size never changes: nginx would make another one. False
/// without any.
///
/// # Safety
///
/// `cf` is the configuration being read.
pub unsafe fn add(cf: *mut ngx_conf_t, main: &mut MainConf) -> bool {
    let mut name = ngx::ngx_string!("wsgi_counters");
    // SAFETY: nginx keeps the name, which is static, and adds the zone to the cycle being built.
    unsafe {
        // What a slab pool needs itself grows with its size.
        let size = 16 * ngx_pagesize + size_of::<Counters>() + size_of::<Counters>() / 64;
        let zone = ngx_shared_memory_add(cf, &mut name, size, tag());
        if zone.is_null() {
            return false;
        }
        (*zone).init = Some(ngx_http_wsgi_init_counters);
        main.status.counters = zone;
    }
    true
}

/// The zone is mapped: new, or with the counters that `data` is. The reload may still fail.
unsafe extern "C" fn ngx_http_wsgi_init_counters(
    zone: *mut ngx_shm_zone_t,
    data: *mut c_void,
) -> ngx_int_t {
    protect(code::ERROR, || {
        // SAFETY: nginx has made a slab pool at the address of a new zone. What it gives is zeroed,
        // and whole pages of what is that large.
        unsafe {
            let pool: *mut ngx_slab_pool_t = (*zone).shm.addr.cast();
            (*zone).data =
                if data.is_null() { ngx_slab_calloc(pool, size_of::<Counters>()) } else { data };
            if (*zone).data.is_null() { code::ERROR } else { code::OK }
        }
    })
}

/// What has been counted so far, if anything is.
pub fn of(main: &MainConf) -> Option<&'static Counters> {
    // SAFETY: nginx maps the zone for the life of this cycle, which is that of a worker, and has
    // initialised it with counters, which are atomics and may be all zero.
    unsafe { main.status.counters.as_ref().and_then(|zone| zone.data.cast::<Counters>().as_ref()) }
}

/// The same of any cycle of this image.
///
/// # Safety
///
/// `cycle` is live as long as the result is used, or the empty one of a start.
pub unsafe fn of_cycle<'a>(cycle: *mut ngx_cycle_t) -> Option<&'a Counters> {
    // SAFETY: the cycle's list of zones, all mapped; a zone with our tag has counters, made by this
    // image. The cycle of a start has an empty list.
    unsafe {
        let mut zones = list::elements::<ngx_shm_zone_t>(&raw const (*cycle).shared_memory);
        let zone = zones.find(|zone| (**zone).tag == tag())?;
        (*zone).data.cast::<Counters>().as_ref()
    }
}

/// The configuration has been accepted: its applications on their pools are given their numbers.
/// Called in the master, before it starts the workers.
pub fn register(main: &mut MainConf) {
    let Some(counters) = of(main) else { return };
    let (apps, pools) = (&main.apps, &main.pools);
    let number = |(app, pool): &(usize, usize)| {
        let (target, ..) = &apps[*app];
        counters.register(&target.to_string(), &pools[*pool].name)
    };
    main.status.numbers = main.status.series.iter().map(number).collect();
}
