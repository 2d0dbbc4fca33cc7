//! This module itself, as nginx knows it.
//!
//! The table is `hooks.rs`'s; here it is only declared, since all that looks something up in a
//! request or a configuration does so by the module's index.
//! Runs on: event loop.

use std::ffi::c_void;
use std::ptr;

use ngx::ffi::ngx_module_t;

unsafe extern "C" {
    static mut ngx_http_wsgi_module: ngx_module_t;
}

/// The HTTP module, whose indexes nginx sets while it reads its configuration.
pub fn http_module() -> &'static ngx_module_t {
    let module = &raw const ngx_http_wsgi_module;
    // SAFETY: written by nginx's main thread while it loads modules, only read afterwards.
    unsafe { &*module }
}

/// What nginx knows things of this module by: its buffers, its shared memory.
pub fn tag() -> *mut c_void {
    ptr::from_ref(http_module()).cast_mut().cast()
}
