//! Memory of nginx's pools: Rust's values, and strings.
//!
//! Runs on: event loop.

use std::ffi::c_void;
use std::ptr;

use ngx::ffi::{NGX_ALIGNMENT, ngx_pnalloc, ngx_pool_cleanup_add, ngx_pool_t, ngx_str_t};

use super::panic::protect;

/// Puts a value into a pool, which drops it when it is destroyed; null without memory.
///
/// # Safety
///
/// `pool` is live.
pub unsafe fn keep<T>(pool: *mut ngx_pool_t, value: T) -> *mut T {
    const { assert!(align_of::<T>() <= NGX_ALIGNMENT) };
    // SAFETY: the pool is live, as the caller says. The cleanup has room for one value, and is not
    // run before it has a handler.
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

/// Copies a string into a pool; `None` without memory.
///
/// # Safety
///
/// `pool` is live.
pub unsafe fn copy(pool: *mut ngx_pool_t, bytes: &[u8]) -> Option<ngx_str_t> {
    // SAFETY: one byte more for the zero that some of nginx's parsers rely on.
    unsafe {
        let data: *mut u8 = ngx_pnalloc(pool, bytes.len() + 1).cast();
        if data.is_null() {
            return None;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
        *data.add(bytes.len()) = 0;
        Some(ngx_str_t { len: bytes.len(), data })
    }
}
