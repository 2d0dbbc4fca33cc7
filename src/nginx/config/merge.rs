//! How a location inherits, and what it is given then: its application, its pool, its temporary
//! file.
//!
//! Runs on: event loop (configuration, in the master).

use std::ffi::{OsString, c_void};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use ngx::ffi::{
    ngx_conf_merge_path_value, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_get_variable_index, ngx_http_handler_pt, ngx_path_init_t, ngx_str_t,
    ngx_thread_pool_add,
};
use ngx::http::{HttpModule, HttpModuleConfExt, NgxHttpCoreModule};
use ngx::ngx_string;

use super::{Endpoint, LocConf, MainConf, PoolUse, status};
use crate::nginx::sys::bits;
use crate::nginx::sys::module::http_module;
use crate::wsgi::exchange::spool::Spooling;

/// Merges the configuration of a block with that of the one around it. `handler` is the content
/// handler of locations with an application. `None`: nginx has logged why not.
///
/// # Safety
///
/// Called by nginx's merge_loc_conf with its arguments, after the core module has merged the block.
pub unsafe fn merge(
    cf: *mut ngx_conf_t,
    prev: *mut c_void,
    conf: *mut c_void,
    handler: ngx_http_handler_pt,
) -> Option<()> {
    // SAFETY: both were made by `ngx_http_wsgi_create_loc_conf` and are distinct; the context of
    // `cf` is that of the block being merged.
    let (prev, conf, main, clcf) = unsafe {
        let ctx = &*(*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let mut main = ctx.http_main_conf_unchecked::<MainConf>(http_module())?;
        let mut clcf = ctx.http_location_conf_unchecked(NgxHttpCoreModule::module())?;
        let clcf: &mut ngx_http_core_loc_conf_t = clcf.as_mut();
        (&*prev.cast::<LocConf>(), &mut *conf.cast::<LocConf>(), main.as_mut(), clcf)
    };
    inherit(prev, conf);
    note_aio_pool(main, clcf);
    if let Some(wanted) = conf.status {
        main.status.add(wanted);
        // SAFETY: `cf` is the configuration being read, of which nginx's own modules have merged this
        // location.
        unsafe { status::warn_of_anybody(cf, clcf) };
    }
    // As uwsgi_pass: into `if` and `limit_except`, and into no nested location.
    // SAFETY: the location is live.
    if unsafe { bits::location::noname(clcf) } && conf.app.is_none() {
        conf.app = prev.app.clone();
        conf.app_text = prev.app_text;
    }
    if conf.app.is_none() {
        return Some(());
    }
    // SAFETY: the location is live.
    if unsafe { bits::location::lmt_excpt(clcf) } && clcf.handler.is_none() {
        clcf.handler = handler;
    }
    // SAFETY: `cf` is the configuration being read.
    unsafe { resolve(cf, main, conf).and_then(|()| spooling(cf, main, conf)) }
}

/// `wsgi_temp_path` when none is given: beside nginx's own.
const TEMP_PATH: ngx_str_t = ngx_string!(env!("WSGI_TEMP_PATH"));
/// `wsgi_max_temp_file_size` when none is given.
const MAX_TEMP_FILE_SIZE: u64 = 1 << 30;
/// How long a client may take for half of `wsgi_buffer_size` before the file is used.
const CLIENT_GRACE: Duration = Duration::from_millis(5);

/// Settles where temporary files go. Only a location with an application has nginx make the
/// directory.
///
/// # Safety
///
/// `cf` is the configuration being read.
unsafe fn spooling(cf: *mut ngx_conf_t, main: &mut MainConf, conf: &mut LocConf) -> Option<()> {
    let mut init = ngx_path_init_t { name: TEMP_PATH, level: [0; 3] };
    // SAFETY: an optional pointer that is not null has the form of a plain one. nginx leaves a path
    // that is set, or makes one; its name ends with a zero byte, and is as old as this image.
    let path = unsafe {
        let slot = (&raw mut conf.temp_path).cast();
        let error = ngx_conf_merge_path_value(cf, slot, ptr::null_mut(), &mut init);
        if !error.is_null() {
            return None;
        }
        (*conf.temp_path?.as_ptr()).name.as_bytes().to_vec()
    };
    let limit = conf.max_temp_file_size.unwrap_or(MAX_TEMP_FILE_SIZE);
    if limit > 0 {
        let dir = PathBuf::from(OsString::from_vec(path));
        let spooling = Arc::new(Spooling { dir, limit, grace: CLIENT_GRACE });
        main.balance.spoolings.push(Arc::clone(&spooling));
        conf.spooling = Some(spooling);
    }
    Some(())
}

fn inherit(prev: &LocConf, conf: &mut LocConf) {
    fn from<T: Clone>(conf: &mut Option<T>, prev: &Option<T>) {
        if conf.is_none() {
            conf.clone_from(prev);
        }
    }
    // All of them, so that the compiler asks about a new one.
    let LocConf {
        thread_pool,
        queue,
        check,
        params,
        mount,
        buffering,
        buffer_size,
        max_temp_file_size,
        temp_path,
        read_timeout,
        request_buffering,
        request_timeout,
        slow_request,
        ignore_client_abort,
        policy,
        debug,
        websocket,
        // Inherited by some blocks only, or made for each location.
        app: _,
        app_text: _,
        spooling: _,
        endpoint: _,
        status: _,
    } = prev;
    from(&mut conf.thread_pool, thread_pool);
    from(&mut conf.queue, queue);
    from(&mut conf.check, check);
    from(&mut conf.params, params);
    from(&mut conf.mount, mount);
    from(&mut conf.buffering, buffering);
    from(&mut conf.buffer_size, buffer_size);
    from(&mut conf.max_temp_file_size, max_temp_file_size);
    from(&mut conf.temp_path, temp_path);
    from(&mut conf.read_timeout, read_timeout);
    from(&mut conf.request_buffering, request_buffering);
    from(&mut conf.request_timeout, request_timeout);
    from(&mut conf.slow_request, slow_request);
    from(&mut conf.ignore_client_abort, ignore_client_abort);
    conf.policy.inherit(policy);
    from(&mut conf.debug, debug);
    conf.websocket.inherit(websocket);
}

fn note_aio_pool(main: &mut MainConf, clcf: &ngx_http_core_loc_conf_t) {
    if clcf.aio == ngx::ffi::NGX_HTTP_AIO_THREADS as isize
        && !clcf.thread_pool.is_null()
        && !main.aio_pools.contains(&clcf.thread_pool)
    {
        main.aio_pools.push(clcf.thread_pool);
    }
}

/// Gives the application and its pool their places in the main configuration.
///
/// # Safety
///
/// `cf` is the configuration being read.
unsafe fn resolve(cf: *mut ngx_conf_t, main: &mut MainConf, conf: &mut LocConf) -> Option<()> {
    let (target, location) = conf.app.clone()?;
    let (name, pool) = match &conf.thread_pool {
        Some((name, pool)) => (name.clone(), *pool),
        // SAFETY: a null name asks for the pool `default`, declared or not.
        None => (String::from("default"), unsafe { ngx_thread_pool_add(cf, ptr::null_mut()) }),
    };
    if pool.is_null() {
        return None;
    }
    let pool = main.pools.iter().position(|known| known.pool == pool).unwrap_or_else(|| {
        main.pools.push(PoolUse { pool, name, location: location.clone() });
        main.pools.len() - 1
    });
    let app = main.apps.iter().position(|(known, ..)| *known == target).unwrap_or_else(|| {
        main.apps.push((target, pool, location.clone()));
        main.apps.len() - 1
    });
    if conf.check() {
        main.checked.entry(app).or_insert_with(|| location.clone());
    }
    let named = (app, location);
    if !main.named.contains(&named) {
        main.named.push(named);
    }
    main.debug |= conf.debug();
    main.has_websockets |= conf.websocket.is_on();
    conf.endpoint = Some(Endpoint { app, pool, series: main.status.series(app, pool) });
    Some(())
}

/// What is left to do when the http block has been read.
///
/// # Safety
///
/// Called in init_main_conf.
pub unsafe fn init_main(cf: *mut ngx_conf_t, main: &mut MainConf) -> Result<(), &'static str> {
    let mut name = ngx_string!("document_root");
    // SAFETY: nginx copies the name.
    let index = unsafe { ngx_http_get_variable_index(cf, &mut name) };
    if index < 0 {
        return Err("no variable \"document_root\"");
    }
    main.document_root = index;
    Ok(())
}
