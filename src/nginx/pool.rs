//! Rust's values in nginx's pools.
//!
//! Called by `conf`. Runs on: event loop.

use std::ffi::c_void;
use std::ptr;

use ngx::ffi::{NGX_ALIGNMENT, ngx_pool_cleanup_add, ngx_pool_t};

use super::guard::protect;

/// Puts a value into a pool, which drops it when it is destroyed; null without memory.
///
/// # Safety
///
/// `pool` is live.
pub unsafe fn keep<T>(pool: *mut ngx_pool_t, value: T) -> *mut T {
    const { assert!(align_of::<T>() <= NGX_ALIGNMENT) };
    // SAFETY: the caller's pool. The cleanup has room for one value, and is not run before it has a
    // handler.
    unsafe {
        let cleanup = ngx_pool_cleanup_add(pool, size_of::<T>());
        if cleanup.is_null() {
            return ptr::null_mut();
        }
        let place: *mut T = (*cleanup).data.cast();
        place.write(value);
        (*cleanup).handler = Some(ngx_http_wsgi_drop::<T>);
        place
    }
}

/// The pool is destroyed.
unsafe extern "C" fn ngx_http_wsgi_drop<T>(data: *mut c_void) {
    protect((), || {
        // SAFETY: written by `keep`; nginx runs a cleanup once.
        unsafe { data.cast::<T>().drop_in_place() }
    });
}
