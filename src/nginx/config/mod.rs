//! What is written in nginx.conf: the structures that hold it, and how they are found.
//!
//! `directives.rs`, `headers.rs`, `sockets.rs` and `surroundings.rs` fill them while nginx reads
//! its files, `merge.rs` says how a location inherits, `validate.rs` and `shadow.rs` refuse what only the
//! whole configuration shows. The structures live in the configuration's pool and are dropped with
//! it.
//! Runs on: event loop (configuration, in the master).

mod balance;
mod location;
mod pool_use;
pub mod status;
mod websocket;

mod args;
pub mod merge;
pub mod shadow;

pub mod directives;
pub mod headers;
pub mod sockets;
pub mod surroundings;
pub mod validate;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ngx::ffi::{
    ngx_core_conf_t, ngx_core_module, ngx_cycle_t, ngx_http_complex_value_t,
    ngx_http_core_loc_conf_t, ngx_http_get_variable_pt, ngx_http_request_t, ngx_path_t,
    ngx_shm_zone_t, ngx_str_t, ngx_thread_pool_t,
};
use ngx::http::{HttpModule, HttpModuleConfExt, NgxHttpCoreModule};

pub use self::balance::{Balance, Forced};
pub use self::location::Location;
pub use self::pool_use::PoolUse;
pub use self::status::Status;
pub use self::websocket::Websocket;
use super::sys::module::http_module;
use crate::wsgi::exchange::spool::{Buffering, Spooling};
use crate::wsgi::header_policy::{Accel, HeaderPolicy};
use crate::wsgi::interpreter::{Settings, UwsgiApi};
use crate::wsgi::mailbox::Level;
use crate::wsgi::slow::SlowRequest;
use crate::wsgi::status::wanted::Wanted;
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
    /// `wsgi_stdio_level`.
    pub stdio_level: Option<Level>,
    pub shutdown_timeout: Option<Duration>,
    /// `wsgi_max_requests`: the number, and by how much more it may be.
    pub max_requests: Option<(u64, u64)>,
    /// Bytes.
    pub max_rss: Option<usize>,
    pub reload: Option<bool>,
    /// `wsgi_uwsgi_api`.
    pub uwsgi_api: Option<bool>,
    /// The configuration has `$wsgi_cpu_time`.
    pub measures_cpu: bool,
    /// nginx's own handlers of `$upstream_http_` and `$upstream_cookie_`.
    pub upstream_fields: [ngx_http_get_variable_pt; 2],
    /// A location with an application has `wsgi_debug`.
    pub debug: bool,
    /// And one has `wsgi_websocket`.
    pub has_websockets: bool,
    /// The shared memory of the workers, see `zone`; null without an application.
    pub zone: *mut ngx_shm_zone_t,
    /// That of all generations of workers, see `worker/generation.rs`; null without an application.
    pub generations: *mut ngx_shm_zone_t,
    /// Which of them the workers of this configuration are.
    pub generation: u32,
    pub check_timeout: Option<Duration>,
    pub balance: Balance,
    pub status: Status,
    /// Every application named in the configuration, once, with a pool it runs on and its first
    /// place.
    pub apps: Vec<(Target, usize, Location)>,
    /// Every place that names an application, once: its index, and file and line.
    pub named: Vec<(usize, Location)>,
    /// The applications that `wsgi_check` tries, by index, with the first place that wants it.
    pub checked: BTreeMap<usize, Location>,
    /// Every pool an application runs on, once.
    pub pools: Vec<PoolUse>,
    /// Pools of `aio threads`.
    pub aio_pools: Vec<*mut ngx_thread_pool_t>,
    /// Index of `$document_root`.
    pub document_root: isize,
}

impl MainConf {
    /// That of a cycle; `None` without an http block.
    ///
    /// # Safety
    ///
    /// The modules of `cycle` have made their configurations, and it outlives the result.
    pub unsafe fn of_cycle<'a>(cycle: *mut ngx_cycle_t) -> Option<&'a Self> {
        // SAFETY: without an http block there is no context, which is `None`. What is there was
        // made by this module, and nothing writes to it once the configuration has been read.
        unsafe {
            let main = (*cycle).http_main_conf_unchecked::<Self>(http_module());
            main.map(|main| main.as_ref())
        }
    }

    /// How Python is started, in a worker and where its applications are checked. `stack_dump`: the
    /// signal that writes all stacks, and where to.
    pub fn settings(&self, stack_dump: Option<(i32, RawFd)>) -> Settings {
        Settings {
            home: self.python_home.clone(),
            path: self.python_path.clone(),
            chdir: self.chdir.clone(),
            switch_interval: self.switch_interval,
            stdio_level: self.stdio_level,
            measures_cpu: self.measures_cpu,
            keeps_zone: !self.tzset.unwrap_or(true),
            uwsgi: self.uwsgi_api.unwrap_or(false).then(|| self.uwsgi()),
            stack_dump,
            ..Settings::default()
        }
    }

    /// What the module `uwsgi` says where no worker knows better.
    fn uwsgi(&self) -> UwsgiApi {
        UwsgiApi {
            worker: 1,
            processes: 1,
            threads: self.pools.iter().map(PoolUse::threads).max().unwrap_or(1),
            has_master: true,
            lock_file: websocket::lock_file(),
        }
    }

    /// How long the import of new applications may hold up what is there.
    pub fn check_timeout(&self) -> Duration {
        self.check_timeout.unwrap_or(Duration::from_secs(60))
    }

    pub fn shutdown_timeout(&self) -> Duration {
        self.shutdown_timeout.unwrap_or(Duration::from_secs(5))
    }
}

/// What a worker needs to know of a location with an application: indexes into [`MainConf`].
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    pub app: usize,
    pub pool: usize,
    /// Of [`Status::series`].
    pub series: usize,
}

/// Contexts http, server, location. `None`: not set here.
#[derive(Default)]
pub struct LocConf {
    pub app: Option<(Target, Location)>,
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
    pub slow_request: Option<SlowRequest>,
    pub ignore_client_abort: Option<bool>,
    pub policy: HeaderPolicy,
    pub debug: Option<bool>,
    pub websocket: Websocket,
    pub endpoint: Option<Endpoint>,
    /// `wsgi_status`.
    pub status: Option<Wanted>,
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
            heeds_header: !self.policy.ignores(Accel::Buffering),
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

    /// `None`: off.
    pub fn slow_request(&self) -> Option<SlowRequest> {
        self.slow_request.filter(|slow| !slow.time.is_zero())
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
    // SAFETY: nginx gives each request the main configurations of all modules; ours was made by
    // `ngx_http_wsgi_create_main_conf`.
    unsafe {
        let conf: *mut MainConf = (*(*r).main_conf.add(http_module().ctx_index)).cast();
        &*conf
    }
}

/// The core module's configuration of the location of `r`.
///
/// # Safety
///
/// `r` is a live request.
pub unsafe fn core_of_request<'a>(r: *mut ngx_http_request_t) -> &'a ngx_http_core_loc_conf_t {
    // SAFETY: nginx gives each request the location configurations of all modules.
    unsafe { &*(*(*r).loc_conf.add(NgxHttpCoreModule::module().ctx_index)).cast() }
}

/// nginx's own configuration, outside of all blocks.
///
/// # Safety
///
/// The core module has made its configuration of `cycle`, which is live.
pub unsafe fn core_of_cycle<'a>(cycle: *mut ngx_cycle_t) -> &'a ngx_core_conf_t {
    // SAFETY: the core module's configuration is there, as the caller says.
    unsafe { &*(*(*cycle).conf_ctx.add(ngx_core_module.index)).cast() }
}
