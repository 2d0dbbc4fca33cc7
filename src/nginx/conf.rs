//! The configuration: what the directives are kept in, and how a location inherits it.
//!
//! `directives.rs` fills the structures while nginx reads its files, `refuse.rs` makes the checks
//! that need the whole configuration, `dispatch.rs` reads [`MainConf`] when a worker starts.
//! The structures live in the configuration's pool and are dropped with it.
//! Runs on: event loop (configuration, in the master).

use std::collections::BTreeMap;
use std::ffi::{OsString, c_char, c_void};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ngx::core::NGX_CONF_ERROR;
use ngx::ffi::{
    NGX_ERROR, NGX_LOG_EMERG, ngx_conf_merge_path_value, ngx_conf_t, ngx_core_conf_t,
    ngx_core_module, ngx_cycle_t, ngx_http_complex_value_t, ngx_http_conf_ctx_t,
    ngx_http_core_loc_conf_t, ngx_http_request_t, ngx_int_t, ngx_path_init_t, ngx_path_t,
    ngx_shm_zone_t, ngx_str_t, ngx_thread_pool_add, ngx_thread_pool_t, ngx_uint_t,
};
use ngx::http::{HttpModule, HttpModuleConfExt, NgxHttpCoreModule};
use ngx::{ngx_conf_log_error, ngx_string};

use super::guard::protect;
use super::handler::ngx_http_wsgi_handler;
use super::{handover, pool, sys::bits, variables, zone};
use crate::module::http_module;
use crate::wsgi::exchange::spool::{Buffering, Spooling};
use crate::wsgi::passing::{Accel, Passing};
use crate::wsgi::target::Target;

/// `wsgi_queue`.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    pub limit: usize,
    /// `None`: as long as `wsgi_read_timeout`.
    pub timeout: Option<Duration>,
}

/// One `wsgi_param`.
pub struct Param {
    pub name: Vec<u8>,
    pub value: ngx_http_complex_value_t,
    /// `if_not_empty`.
    pub skip_empty: bool,
}

/// Where a directive stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: ngx_uint_t,
}

impl Place {
    /// # Safety
    ///
    /// `cf` is the configuration nginx is just reading.
    pub unsafe fn of(cf: *mut ngx_conf_t) -> Self {
        // SAFETY: while a directive is handled, its file is open.
        unsafe {
            let file = (*cf).conf_file;
            if file.is_null() {
                return Self { file: String::new(), line: 0 };
            }
            Self { file: (*file).file.name.to_string(), line: (*file).line }
        }
    }
}

/// A thread pool that applications run on.
pub struct PoolUse {
    pub pool: *mut ngx_thread_pool_t,
    pub name: String,
    pub place: Place,
}

/// Context http.
#[derive(Default)]
pub struct MainConf {
    pub python_home: Option<PathBuf>,
    pub python_path: Vec<PathBuf>,
    pub chdir: Option<PathBuf>,
    pub env: Vec<(OsString, OsString)>,
    pub umask: Option<libc::mode_t>,
    pub tzset: Option<bool>,
    pub switch_interval: Option<Duration>,
    pub shutdown_timeout: Option<Duration>,
    /// `wsgi_max_requests`: the number, and by how much more it may be.
    pub max_requests: Option<(u64, u64)>,
    /// Bytes.
    pub max_rss: Option<usize>,
    pub reload: Option<bool>,
    /// A location with an application has `wsgi_debug`.
    pub debug: bool,
    /// The shared memory of the workers, see `zone`; null without an application.
    pub zone: *mut ngx_shm_zone_t,
    pub check_timeout: Option<Duration>,
    /// Every application named in the configuration, once, with a pool it runs on and its first
    /// place.
    pub apps: Vec<(Target, usize, Place)>,
    /// Every place that names an application, once: its index, and file and line.
    pub named: Vec<(usize, Place)>,
    /// The applications that `wsgi_check` tries, by index, with the first place that wants it.
    pub checked: BTreeMap<usize, Place>,
    /// Every pool an application runs on, once.
    pub pools: Vec<PoolUse>,
    /// Pools of `aio threads`.
    pub aio_pools: Vec<*mut ngx_thread_pool_t>,
    /// Index of `$document_root`.
    pub document_root: isize,
}

/// What a worker needs to know of a location with an application: indexes into [`MainConf`].
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    pub app: usize,
    pub pool: usize,
}

/// Contexts http, server, location. `None`: not set here.
#[derive(Default)]
pub struct LocConf {
    pub app: Option<(Target, Place)>,
    /// `wsgi_app` as it is written, in the configuration's pool.
    pub app_text: Option<ngx_str_t>,
    pub thread_pool: Option<(String, *mut ngx_thread_pool_t)>,
    pub queue: Option<Queue>,
    pub check: Option<bool>,
    pub params: Option<Rc<Vec<Param>>>,
    pub mount: Option<Rc<[u8]>>,
    pub buffering: Option<bool>,
    pub buffer_size: Option<usize>,
    pub max_temp_file_size: Option<u64>,
    /// Written by nginx's handler for paths, for which it is a pointer that may be null.
    pub temp_path: Option<NonNull<ngx_path_t>>,
    /// The two directives above, where there is an application; none if there is no file.
    pub spooling: Option<Arc<Spooling>>,
    pub read_timeout: Option<Duration>,
    pub request_buffering: Option<bool>,
    /// Zero: off.
    pub request_timeout: Option<Duration>,
    pub ignore_client_abort: Option<bool>,
    pub passing: Passing,
    pub debug: Option<bool>,
    pub endpoint: Option<Endpoint>,
}

impl LocConf {
    pub fn queue(&self) -> Queue {
        self.queue.unwrap_or(Queue { limit: 1024, timeout: None })
    }

    /// How long a request may wait for a thread.
    pub fn queue_timeout(&self) -> Duration {
        self.queue().timeout.unwrap_or_else(|| self.read_timeout())
    }

    pub fn buffering(&self) -> Buffering {
        Buffering {
            on: self.buffering.unwrap_or(true),
            heeds_header: !self.passing.ignores(Accel::Buffering),
            size: self.buffer_size.unwrap_or(64 * 1024),
            spooling: self.spooling.clone(),
        }
    }

    pub fn read_timeout(&self) -> Duration {
        self.read_timeout.unwrap_or(Duration::from_secs(60))
    }

    pub fn request_buffering(&self) -> bool {
        self.request_buffering.unwrap_or(true)
    }

    pub fn check(&self) -> bool {
        self.check.unwrap_or(true)
    }

    /// `None`: off.
    pub fn request_timeout(&self) -> Option<Duration> {
        self.request_timeout.filter(|timeout| !timeout.is_zero())
    }

    pub fn ignores_client_abort(&self) -> bool {
        self.ignore_client_abort.unwrap_or(false)
    }

    pub fn debug(&self) -> bool {
        self.debug.unwrap_or(false)
    }

    pub fn mount(&self) -> &[u8] {
        self.mount.as_deref().unwrap_or_default()
    }

    pub fn params(&self) -> &[Param] {
        self.params.as_ref().map_or(&[], |params| &params[..])
    }
}

/// `wsgi_shutdown_timeout` when none is given.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// The configuration of the location of `r`.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn of_request<'a>(r: *mut ngx_http_request_t) -> &'a LocConf {
    // SAFETY: nginx gives each request the location configurations of all modules; ours was made
    // by `ngx_http_wsgi_create_loc_conf`.
    unsafe {
        let conf: *mut LocConf = (*(*r).loc_conf.add(http_module().ctx_index)).cast();
        &*conf
    }
}

/// The main configuration a request is served under.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn main_of_request<'a>(r: *mut ngx_http_request_t) -> &'a MainConf {
    // SAFETY: as `of_request`.
    unsafe {
        let conf: *mut MainConf = (*(*r).main_conf.add(http_module().ctx_index)).cast();
        &*conf
    }
}

/// The main configuration of an http block.
///
/// # Safety
///
/// `ctx` is the context of an http block with the configurations of all modules.
pub unsafe fn main_of<'a>(ctx: *const ngx_http_conf_ctx_t) -> &'a MainConf {
    // SAFETY: as `of_request`.
    unsafe {
        let conf: *mut MainConf = (*(*ctx).main_conf.add(http_module().ctx_index)).cast();
        &*conf
    }
}

/// The core module's configuration of the location of `r`.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn core_of_request<'a>(r: *mut ngx_http_request_t) -> &'a ngx_http_core_loc_conf_t {
    // SAFETY: as `of_request`.
    unsafe { &*(*(*r).loc_conf.add(NgxHttpCoreModule::module().ctx_index)).cast() }
}

/// nginx's own configuration, outside of all blocks.
///
/// # Safety
///
/// The core module has made its configuration of `cycle`, which is live.
pub unsafe fn core_of_cycle<'a>(cycle: *mut ngx_cycle_t) -> &'a ngx_core_conf_t {
    // SAFETY: the caller's.
    unsafe { &*(*(*cycle).conf_ctx.add(ngx_core_module.index)).cast() }
}

/// What nginx knows things of this module by: its buffers, its shared memory.
pub fn tag() -> *mut c_void {
    ptr::from_ref(http_module()).cast_mut().cast()
}

/// # Safety
///
/// Called by nginx, once for each http block.
pub unsafe extern "C" fn ngx_http_wsgi_create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: the configuration's pool is live; it drops the value when it is destroyed.
    protect(ptr::null_mut(), || unsafe { pool::keep((*cf).pool, MainConf::default()).cast() })
}

/// # Safety
///
/// Called by nginx, once for each http, server, location, if and limit_except block.
pub unsafe extern "C" fn ngx_http_wsgi_create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: as above.
    protect(ptr::null_mut(), || unsafe { pool::keep((*cf).pool, LocConf::default()).cast() })
}

/// # Safety
///
/// Called by nginx after the core module has merged the same block.
pub unsafe extern "C" fn ngx_http_wsgi_merge_loc_conf(
    cf: *mut ngx_conf_t,
    prev: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx's arguments.
    let merged = protect(None, || unsafe { merge(cf, prev, conf) });
    merged.map_or(NGX_CONF_ERROR.cast(), |()| ptr::null_mut())
}

unsafe fn merge(cf: *mut ngx_conf_t, prev: *mut c_void, conf: *mut c_void) -> Option<()> {
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
    // As uwsgi_pass: into `if` and `limit_except`, and into no nested location.
    // SAFETY: the location is live.
    if unsafe { bits::location::noname(clcf) } && conf.app.is_none() {
        conf.app = prev.app.clone();
        conf.app_text = prev.app_text;
    }
    if conf.app.is_none() {
        return Some(());
    }
    // SAFETY: as above.
    if unsafe { bits::location::lmt_excpt(clcf) } && clcf.handler.is_none() {
        clcf.handler = Some(ngx_http_wsgi_handler);
    }
    // SAFETY: `cf` is the configuration being read.
    unsafe { resolve(cf, main, conf).and_then(|()| spooling(cf, conf)) }
}

/// `wsgi_temp_path` when none is given: beside nginx's own.
const TEMP_PATH: ngx_str_t = ngx_string!(env!("WSGI_TEMP_PATH"));
/// `wsgi_max_temp_file_size` when none is given.
const MAX_TEMP_FILE_SIZE: u64 = 1 << 30;
/// How long a client may take for half of `wsgi_buffer_size` before the file is used.
const PATIENCE: Duration = Duration::from_millis(5);

/// Settles where temporary files go. Only a location with an application has nginx make the
/// directory.
///
/// # Safety
///
/// `cf` is the configuration being read.
unsafe fn spooling(cf: *mut ngx_conf_t, conf: &mut LocConf) -> Option<()> {
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
        conf.spooling = Some(Arc::new(Spooling { dir, limit, patience: PATIENCE }));
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
        ignore_client_abort,
        passing,
        debug,
        // Inherited by some blocks only, or made for each location.
        app: _,
        app_text: _,
        spooling: _,
        endpoint: _,
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
    from(&mut conf.ignore_client_abort, ignore_client_abort);
    conf.passing.inherit(passing);
    from(&mut conf.debug, debug);
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
    let (target, place) = conf.app.clone()?;
    let (name, pool) = match &conf.thread_pool {
        Some((name, pool)) => (name.clone(), *pool),
        // SAFETY: a null name asks for the pool `default`, declared or not.
        None => (String::from("default"), unsafe { ngx_thread_pool_add(cf, ptr::null_mut()) }),
    };
    if pool.is_null() {
        return None;
    }
    let pool = main.pools.iter().position(|known| known.pool == pool).unwrap_or_else(|| {
        main.pools.push(PoolUse { pool, name, place: place.clone() });
        main.pools.len() - 1
    });
    let app = main.apps.iter().position(|(known, ..)| *known == target).unwrap_or_else(|| {
        main.apps.push((target, pool, place.clone()));
        main.apps.len() - 1
    });
    if conf.check() {
        main.checked.entry(app).or_insert_with(|| place.clone());
    }
    let named = (app, place);
    if !main.named.contains(&named) {
        main.named.push(named);
    }
    main.debug |= conf.debug();
    conf.endpoint = Some(Endpoint { app, pool });
    Some(())
}

/// # Safety
///
/// Called by nginx when the http block has been read.
pub unsafe extern "C" fn ngx_http_wsgi_init_main_conf(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
) -> *mut c_char {
    let mut name = ngx_string!("document_root");
    protect(NGX_CONF_ERROR.cast(), || {
        // SAFETY: nginx copies the name; the conf was made by `ngx_http_wsgi_create_main_conf`.
        unsafe {
            let index = ngx::ffi::ngx_http_get_variable_index(cf, &mut name);
            if index < 0 {
                ngx_conf_log_error!(NGX_LOG_EMERG, cf, "no variable \"document_root\"");
                return NGX_CONF_ERROR.cast();
            }
            (*conf.cast::<MainConf>()).document_root = index;
        }
        ptr::null_mut()
    })
}

/// # Safety
///
/// Called by nginx when the http block has been read and merged.
pub unsafe extern "C" fn ngx_http_wsgi_postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
    protect(ERROR, || {
        // SAFETY: the context of `cf` is that of the http block; the conf was made by
        // `ngx_http_wsgi_create_main_conf`.
        unsafe {
            let ctx = &*(*cf).ctx.cast::<ngx_http_conf_ctx_t>();
            let Some(mut main) = ctx.http_main_conf_unchecked::<MainConf>(http_module()) else {
                return ERROR;
            };
            let main = main.as_mut();
            if !main.apps.is_empty() {
                main.zone = zone::add(cf, main.apps.len());
                let cmcf = (*ctx.main_conf.add(NgxHttpCoreModule::module().ctx_index)).cast();
                if main.zone.is_null() || !handover::register(cmcf) {
                    return ERROR;
                }
            }
            variables::wrap(cf)
        }
    })
}
