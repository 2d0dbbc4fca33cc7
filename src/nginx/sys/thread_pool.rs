//! The structure of a thread pool, which nginx keeps to itself.
//!
//! It comes from nginx's own source where the module is built with that, and else from
//! `thread_pool.h`. Then nothing but the name of the pool tells whether it is the right one.
//! Runs on: event loop.

use ngx::ffi::ngx_thread_pool_t;

use super::raw;

/// A pool whose structure is known.
#[derive(Clone, Copy)]
pub struct ThreadPool(*mut raw::ngx_thread_pool_s);

impl ThreadPool {
    /// The pool that nginx has found or made for `name`, unless nginx has laid it out in another
    /// way. In a worker the name may have got `suffix`.
    ///
    /// # Safety
    ///
    /// `pool` is a pool of a configuration that outlives the result.
    pub unsafe fn named(pool: *mut ngx_thread_pool_t, name: &[u8], suffix: &[u8]) -> Option<Self> {
        let pool: *mut raw::ngx_thread_pool_s = pool.cast();
        // SAFETY: nginx's structure is at least as large. The name is compared by length first, so
        // that another layout is found out before its pointer is followed.
        unsafe {
            let more = (*pool).name.len.wrapping_sub(name.len());
            if more != 0 && more != suffix.len() {
                return None;
            }
            let found = std::slice::from_raw_parts((*pool).name.data, name.len());
            (found == name).then_some(Self(pool))
        }
    }

    /// Number of threads, 0 for a pool that is not declared.
    pub fn threads(self) -> usize {
        // SAFETY: the pool is live and laid out as we think, or there were no such value.
        unsafe { (*self.0).threads }
    }

    /// How many tasks may wait.
    pub fn max_queue(self) -> isize {
        // SAFETY: the pool is live and laid out as we think, or there were no such value.
        unsafe { (*self.0).max_queue }
    }

    /// Gives the pool another name.
    ///
    /// # Safety
    ///
    /// Nobody else looks at the pool meanwhile.
    pub unsafe fn rename(self, name: &'static [u8]) {
        // SAFETY: the pool is live and laid out as we think; nobody else looks, and nginx does not
        // write into names.
        unsafe {
            (*self.0).name.len = name.len();
            (*self.0).name.data = name.as_ptr().cast_mut();
        }
    }
}
