//! A thread pool that applications run on, as the configuration names it.
//!
//! Runs on: event loop (configuration, in the master; the start of a worker).

use ngx::ffi::ngx_thread_pool_t;

use super::location::Location;
use crate::nginx::sys::thread_pool::ThreadPool;

/// What the name of a pool ends with in a worker, see [`PoolUse::hide`].
const HIDDEN: &str = " (wsgi_app)";

/// A thread pool of nginx's. nginx makes it for the configuration, and keeps it as long.
pub struct PoolUse {
    pub pool: *mut ngx_thread_pool_t,
    pub name: String,
    /// The first application that runs on it.
    pub location: Location,
}

impl PoolUse {
    /// nginx's structure, unless it has another layout.
    pub fn structure(&self) -> Option<ThreadPool> {
        // SAFETY: nginx has made the pool for the configuration that this value is part of.
        unsafe { ThreadPool::named(self.pool, self.name.as_bytes(), HIDDEN.as_bytes()) }
    }

    /// Number of threads, once nginx has resolved its pools.
    pub fn threads(&self) -> usize {
        self.structure().map_or(1, |known| known.threads().max(1))
    }

    /// Lets nobody find the pool by its name. The variable of an `aio threads=$pool` has no value
    /// before there is a request; what nginx would then post to such a pool waits behind the
    /// runners, which stay, and nginx waits for it. It says instead that there is no such pool.
    ///
    /// # Safety
    ///
    /// Called in init_process, before nginx makes its pool threads.
    pub unsafe fn hide(&self) {
        if let Some(known) = self.structure() {
            // SAFETY: nobody else looks at the pool yet. Its new name lives as long as the process.
            unsafe { known.rename(format!("{}{HIDDEN}", self.name).leak().as_bytes()) };
        }
    }
}
