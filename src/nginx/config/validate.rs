//! Refusals that need the whole configuration: event method, thread pools, single process, and
//! what `shadow.rs` looks for.
//!
//! The last refusal, of an application that cannot be imported, is made by `check/`.
//!
//! Made in the guard module's core init_conf, before nginx's thread pools resolve theirs; never in
//! init_module, whose failure ends a running master.
//! Runs on: event loop (configuration, in the master).

use ngx::ffi::{
    NGX_EVENT_MODULE, NGX_PROCESS_SINGLE, ngx_cycle_t, ngx_event_conf_t, ngx_event_core_module,
    ngx_event_module_t, ngx_events_module, ngx_process, ngx_uint_t,
};

use super::{MainConf, PoolUse, core_of_cycle, shadow};
use crate::nginx::sys::log;
use crate::wsgi::mailbox::Level;

/// Refuses a configuration with an application that cannot work; the text says why.
///
/// # Safety
///
/// Called in a core init_conf, when the configuration has been read; `main` is of `cycle`.
pub unsafe fn validate(cycle: *mut ngx_cycle_t, main: &MainConf) -> Result<(), String> {
    // SAFETY: nginx has read the configuration of the cycle, as the caller says: that of the core
    // module is complete, and there is a log.
    unsafe {
        single_process(cycle)?;
        event_method(cycle, main)?;
        if main.reload == Some(true) && core_of_cycle(cycle).master == 0 {
            let text = "\"wsgi_reload\" does nothing with \"master_process off\": nobody would \
                        start another worker";
            log::write((*cycle).log, Level::Warn, format_args!("{text}"));
        }
        let is_replaced = main.max_requests.is_some() || main.max_rss.is_some();
        if main.has_websockets && is_replaced && core_of_cycle(cycle).shutdown_timeout == 0 {
            let text = "\"wsgi_websocket\" with \"wsgi_max_requests\" or \"wsgi_max_rss\" and \
                        without \"worker_shutdown_timeout\": a worker that is to be replaced waits \
                        for its last WebSocket, and nobody serves in its place";
            log::write((*cycle).log, Level::Warn, format_args!("{text}"));
        }
    }
    for pool in &main.pools {
        thread_pool(pool, main)?;
    }
    shadow::check(main)
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
    let place = main.pools.first().map(|pool| format!(" in {}", pool.location));
    let place = place.unwrap_or_default();
    Err(format!("\"wsgi_app\" does not work with the event method \"{method}\"{place}"))
}

fn thread_pool(pool: &PoolUse, main: &MainConf) -> Result<(), String> {
    let known = pool
        .structure()
        .ok_or_else(|| String::from("this nginx has another layout of its thread pools"))?;
    // A pool without threads is not declared: nginx refuses it, or makes the default one.
    if known.threads() > 0 && known.max_queue() == 0 {
        return Err(format!(
            "thread pool \"{}\" with max_queue=0 cannot be used by \"wsgi_app\" in {}",
            pool.name, pool.location
        ));
    }
    if main.aio_pools.contains(&pool.pool) {
        return Err(format!(
            "thread pool \"{}\" is used by both \"aio threads\" and \"wsgi_app\" in {}",
            pool.name, pool.location
        ));
    }
    Ok(())
}
