//! Where a directive stands.
//!
//! Runs on: event loop (configuration, in the master).

use std::fmt;

use ngx::ffi::{ngx_conf_t, ngx_uint_t};

/// A file and a line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub file: String,
    pub line: ngx_uint_t,
}

impl Location {
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

impl fmt::Display for Location {
    /// As nginx writes it behind a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
