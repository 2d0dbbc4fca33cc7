//! Refusals that need the whole configuration: event method, thread pools, single process, and
//! what `shadow.rs` looks for.
//!
//! The last one, an application that cannot be imported, is made by `check.rs`.
//!
//! Made in the guard module's core init_conf, before nginx's thread pools resolve theirs; never in
//! init_module, whose failure ends a running master.
//! Runs on: event loop (configuration, in the master).

use std::ffi::c_char;
use std::ptr;

use ngx::core::NGX_CONF_ERROR;
use ngx::ffi::{
    NGX_EVENT_MODULE, NGX_PROCESS_SINGLE, ngx_cycle_t, ngx_event_conf_t, ngx_event_core_module,
    ngx_event_module_t, ngx_events_module, ngx_process, ngx_uint_t,
};
use ngx::http::HttpModuleConfExt;

use super::conf::{MainConf, PoolUse, core_of_cycle};
use super::guard::protect;
use super::sys::thread_pool::ThreadPool;
use super::{check, dispatch, shadow};
use crate::module::http_module;

/// Makes all refusals; the applications are tried last.
///
/// # Safety
///
/// Called in a core init_conf, when the configuration has been read.
pub unsafe fn init_conf(cycle: *mut ngx_cycle_t, python: &check::Python) -> *mut c_char {
    protect(NGX_CONF_ERROR.cast(), || {
        // SAFETY: the cycle is complete but for the init_conf of later modules, and has a log.
        // NGX_LOG_EMERG is 1, and not in `Level`, because nothing after the configuration may use
        // it.
        let accepted = unsafe {
            match configuration(cycle) {
                Ok(None) => true,
                Ok(Some(main)) => check::accepts(cycle, main, python),
                Err(text) => {
                    ngx::ngx_log_error!(ngx::ffi::NGX_LOG_EMERG, (*cycle).log, "{text}");
                    false
                }
            }
        };
        if accepted { ptr::null_mut() } else { NGX_CONF_ERROR.cast() }
    })
}

/// # Safety
///
/// As [`init_conf`].
unsafe fn configuration<'a>(cycle: *mut ngx_cycle_t) -> Result<Option<&'a MainConf>, String> {
    // SAFETY: without an http block there is no configuration, which is `None`.
    let main = unsafe { (*cycle).http_main_conf_unchecked::<MainConf>(http_module()) };
    // SAFETY: made by this module; nothing writes to it any more.
    let main: Option<&MainConf> = main.map(|main| unsafe { main.as_ref() });
    let Some(main) = main.filter(|main| !main.apps.is_empty() || dispatch::is_running()) else {
        return Ok(None);
    };
    // SAFETY: the cycle is the caller's.
    unsafe {
        single_process(cycle)?;
        event_method(cycle, main)?;
    }
    // SAFETY: the core module's configuration is complete; the cycle has a log.
    #[allow(unused_unsafe)]
    unsafe {
        if main.reload == Some(true) && core_of_cycle(cycle).master == 0 {
            let text = "\"wsgi_reload\" does nothing with \"master_process off\": nobody would \
                        start another worker";
            ngx::ngx_log_error!(ngx::ffi::NGX_LOG_WARN, (*cycle).log, "{text}");
        }
    }
    for pool in &main.pools {
        // SAFETY: nginx made the pool for this configuration.
        unsafe { thread_pool(pool, main)? };
    }
    shadow::check(main)?;
    Ok(Some(main))
}

/// nginx runs no init_process for a new configuration of a single process.
unsafe fn single_process(cycle: *mut ngx_cycle_t) -> Result<(), String> {
    // SAFETY: plain variables of nginx; the old cycle of a first start has no configuration.
    let reload = unsafe {
        ngx_process == NGX_PROCESS_SINGLE as ngx_uint_t && !(*(*cycle).old_cycle).conf_ctx.is_null()
    };
    if reload {
        return Err(String::from(
            "\"wsgi_app\" cannot be reconfigured with \"master_process off\", restart nginx",
        ));
    }
    Ok(())
}

/// nginx's thread pools need an event method with notify.
unsafe fn event_method(cycle: *mut ngx_cycle_t, main: &MainConf) -> Result<(), String> {
    // SAFETY: the events block is read before any init_conf: its context is an array of the
    // event modules' configurations, and `use` the index of the chosen one.
    let (method, notify) = unsafe {
        let events = *(*cycle).conf_ctx.add(ngx_events_module.index);
        if events.is_null() {
            return Ok(());
        }
        let ecf: *mut ngx_event_conf_t = (*(*events).add(ngx_event_core_module.ctx_index)).cast();
        let modules = std::slice::from_raw_parts((*cycle).modules, (*cycle).modules_n);
        let method = modules.iter().copied().find(|module| {
            (**module).type_ == NGX_EVENT_MODULE as ngx_uint_t
                && (**module).ctx_index == (*ecf).use_
        });
        let Some(method) = method else { return Ok(()) };
        let event: *mut ngx_event_module_t = (*method).ctx.cast();
        ((*(*event).name).to_string(), (*event).actions.notify.is_some())
    };
    if notify {
        return Ok(());
    }
    let place = main.pools.first().map_or_else(String::new, PoolUse::in_place);
    Err(format!("\"wsgi_app\" does not work with the event method \"{method}\"{place}"))
}

impl PoolUse {
    fn in_place(&self) -> String {
        format!(" in {}:{}", self.place.file, self.place.line)
    }
}

/// What the name of a pool ends with in a worker, see [`hide_pools`].
const HIDDEN: &str = " (wsgi_app)";

/// nginx's structure of a pool, unless it has another layout.
///
/// # Safety
///
/// `pool.pool` is a pool of the configuration at hand.
unsafe fn structure(pool: &PoolUse) -> Option<ThreadPool> {
    // SAFETY: the caller's.
    unsafe { ThreadPool::named(pool.pool, pool.name.as_bytes(), HIDDEN.as_bytes()) }
}

/// Number of threads of a pool, once nginx has resolved its pools.
///
/// # Safety
///
/// As [`structure`].
pub unsafe fn threads(pool: &PoolUse) -> usize {
    // SAFETY: the caller's.
    unsafe { structure(pool) }.map_or(1, |known| known.threads().max(1))
}

/// Lets nobody find the pools of applications by their names. The variable of an `aio threads=$pool`
/// has no value before there is a request; what nginx would then post to such a pool waits behind
/// the runners, which stay, and nginx waits for it. It says instead that there is no such pool.
///
/// # Safety
///
/// Called in init_process, before nginx makes its pool threads, with the cycle of this process.
pub unsafe fn hide_pools(cycle: *mut ngx_cycle_t) {
    // SAFETY: as in `configuration`.
    let main = unsafe { (*cycle).http_main_conf_unchecked::<MainConf>(http_module()) };
    // SAFETY: as above.
    let Some(main) = main.map(|main| unsafe { main.as_ref() }) else { return };
    for pool in &main.pools {
        // SAFETY: the pool is of this configuration, and nobody else looks at it yet. Its new name
        // lives as long as the process.
        unsafe {
            if let Some(known) = structure(pool) {
                known.rename(format!("{}{HIDDEN}", pool.name).leak().as_bytes());
            }
        }
    }
}

unsafe fn thread_pool(pool: &PoolUse, main: &MainConf) -> Result<(), String> {
    // SAFETY: the caller's.
    let known = unsafe { structure(pool) }
        .ok_or_else(|| String::from("this nginx has another layout of its thread pools"))?;
    // A pool without threads is not declared: nginx refuses it, or makes the default one.
    if known.threads() > 0 && known.max_queue() == 0 {
        return Err(format!(
            "thread pool \"{}\" with max_queue=0 cannot be used by \"wsgi_app\"{}",
            pool.name,
            pool.in_place()
        ));
    }
    if main.aio_pools.contains(&pool.pool) {
        return Err(format!(
            "thread pool \"{}\" is used by both \"aio threads\" and \"wsgi_app\"{}",
            pool.name,
            pool.in_place()
        ));
    }
    Ok(())
}
