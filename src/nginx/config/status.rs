//! `wsgi_status`, and what the master makes for it: see `nginx/status`.
//!
//! Runs on: event loop (configuration, in the master).

use std::ptr;

use ngx::ffi::{ngx_conf_t, ngx_http_core_loc_conf_t, ngx_module_t, ngx_shm_zone_t};

use crate::nginx::sys::log;
use crate::wsgi::mailbox::Level;
use crate::wsgi::status::wanted::Wanted;

/// Context http.
pub struct Status {
    /// Some location has it.
    pub on: bool,
    /// Some location shows query strings.
    pub query: bool,
    /// The shared memory of what is counted, kept over reloads; null if it is off.
    pub counters: *mut ngx_shm_zone_t,
    /// That of what workers show of themselves; null if it is off.
    pub shown: *mut ngx_shm_zone_t,
    /// How many workers there are.
    pub slots: usize,
    /// Every application on every pool it runs on, by their indexes, once.
    pub series: Vec<(usize, usize)>,
    /// The number of each in the counters.
    pub numbers: Vec<usize>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            on: false,
            query: false,
            counters: ptr::null_mut(),
            shown: ptr::null_mut(),
            slots: 0,
            series: Vec::new(),
            numbers: Vec::new(),
        }
    }
}

impl Status {
    /// A location has this `wsgi_status`.
    pub fn add(&mut self, wanted: Wanted) {
        self.on = true;
        self.query |= wanted.query;
    }

    /// The index of an application on a pool.
    pub fn series(&mut self, app: usize, pool: usize) -> usize {
        let known = self.series.iter().position(|known| *known == (app, pool));
        known.unwrap_or_else(|| {
            self.series.push((app, pool));
            self.series.len() - 1
        })
    }
}

/// Modules that refuse clients. The configuration of a location begins, in each of them, with what
/// is null where nobody is refused: rules, a realm, the length of a URI.
const FENCES: [&[u8]; 3] =
    [b"ngx_http_access_module", b"ngx_http_auth_basic_module", b"ngx_http_auth_request_module"];

/// Warns of a location that shows the status to anybody.
///
/// # Safety
///
/// `cf` is the configuration being read; modules in front of this one have merged the location.
pub unsafe fn warn_of_anybody(cf: *mut ngx_conf_t, clcf: &ngx_http_core_loc_conf_t) {
    // SAFETY: nginx has an array of modules and one of their names; a location has the configuration
    // of each HTTP module, whose first member has the size of a pointer.
    unsafe {
        let cycle = (*cf).cycle;
        let modules = std::slice::from_raw_parts((*cycle).modules, (*cycle).modules_n);
        let is_fenced = modules.iter().copied().any(|module: *mut ngx_module_t| {
            let name = (*module).name;
            if name.is_null() || !FENCES.contains(&std::ffi::CStr::from_ptr(name).to_bytes()) {
                return false;
            }
            let conf = *clcf.loc_conf.add((*module).ctx_index);
            let first = if conf.is_null() { 0 } else { *conf.cast::<usize>() };
            first != 0 && first != usize::MAX
        });
        if !is_fenced {
            let name = clcf.name;
            let text = format_args!(
                "\"wsgi_status\" in location \"{name}\" is shown to anybody: neither \"allow\" and \
                 \"deny\" nor \"auth_basic\" or \"auth_request\" fence it in"
            );
            log::write_conf(cf, Level::Warn, text);
        }
    }
}
