//! What the handlers of directives have in common: arguments, and how one is refused.
//!
//! A wrong value is `[emerg] ... in file:line`, in nginx's own words where it has some.
//! Runs on: event loop (configuration, in the master).

use std::ffi::{CStr, OsString, c_char, c_void};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use ngx::core::NGX_CONF_ERROR;
use ngx::ffi::{
    ngx_command_t, ngx_conf_full_name, ngx_conf_t, ngx_http_compile_complex_value,
    ngx_http_compile_complex_value_t, ngx_http_complex_value_t, ngx_parse_offset, ngx_parse_time,
    ngx_str_t,
};

use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{code, log};
use crate::wsgi::mailbox::Level;

/// Why a directive is refused.
pub enum Refusal {
    /// nginx puts the directive's name in front and file and line behind.
    Is(&'static CStr),
    /// A whole sentence.
    Text(String),
}

pub use Refusal::{Is, Text};

pub const DUPLICATE: Refusal = Is(c"is duplicate");

impl<T: fmt::Display> From<T> for Refusal {
    fn from(text: T) -> Self {
        Text(text.to_string())
    }
}

/// The arguments of a directive, its name left out.
pub struct Args<'a> {
    pub cf: *mut ngx_conf_t,
    /// What its table entry has for it, see `hooks.rs`.
    pub cmd: *const ngx_command_t,
    pub values: &'a [ngx_str_t],
}

impl Args<'_> {
    pub fn bytes(&self, n: usize) -> &[u8] {
        self.values.get(n).map(ngx_str_t::as_bytes).unwrap_or_default()
    }

    pub fn text(&self, n: usize) -> Result<&str, Refusal> {
        std::str::from_utf8(self.bytes(n))
            .map_err(|_| Text(format!("invalid value \"{}\": not UTF-8", self.shown(n))))
    }

    pub fn shown(&self, n: usize) -> String {
        String::from_utf8_lossy(self.bytes(n)).into_owned()
    }

    pub fn invalid(&self, n: usize) -> Refusal {
        Text(format!("invalid value \"{}\"", self.shown(n)))
    }

    /// A path, relative ones to nginx's prefix.
    pub fn path(&self, n: usize) -> Result<PathBuf, Refusal> {
        if self.bytes(n).is_empty() {
            return Err(self.invalid(n));
        }
        full_name(self.cf, Path::new(std::ffi::OsStr::from_bytes(self.bytes(n))))
    }

    /// A path to a directory that exists.
    pub fn directory(&self, n: usize) -> Result<PathBuf, Refusal> {
        let path = self.path(n)?;
        match path.metadata() {
            Ok(meta) if meta.is_dir() => Ok(path),
            Ok(_) => Err(Text(format!("\"{}\" is not a directory", path.display()))),
            Err(err) => Err(Text(format!("\"{}\": {err}", path.display()))),
        }
    }

    /// nginx's time in milliseconds.
    pub fn time(&self, n: usize) -> Result<Duration, Refusal> {
        parse_time(self.bytes(n)).ok_or_else(|| self.invalid(n))
    }

    pub fn number(&self, n: usize) -> Result<usize, Refusal> {
        number_of(self.bytes(n)).ok_or_else(|| self.invalid(n))
    }

    /// nginx's size in bytes, of files too.
    pub fn offset(&self, n: usize) -> Result<u64, Refusal> {
        // SAFETY: nginx only reads the string.
        let size = unsafe { ngx_parse_offset(&mut ngx_str(self.bytes(n))) };
        u64::try_from(size).map_err(|_| self.invalid(n))
    }

    /// As nginx's own flags, in any case.
    pub fn flag(&self, n: usize) -> Result<bool, Refusal> {
        match self.bytes(n).to_ascii_lowercase().as_slice() {
            b"on" => Ok(true),
            b"off" => Ok(false),
            _ => Err(Text(format!(
                "invalid value \"{}\", it must be \"on\" or \"off\"",
                self.shown(n)
            ))),
        }
    }
}

pub fn number_of(text: &[u8]) -> Option<usize> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

pub fn ngx_str(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

pub fn parse_time(text: &[u8]) -> Option<Duration> {
    // SAFETY: nginx only reads the string.
    let msec = unsafe { ngx_parse_time(&mut ngx_str(text), 0) };
    (msec != code::ERROR).then(|| Duration::from_millis(msec as u64))
}

pub fn full_name(cf: *mut ngx_conf_t, path: &Path) -> Result<PathBuf, Refusal> {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    bytes.push(0);
    let mut name = ngx_str(&bytes[..bytes.len() - 1]);
    // SAFETY: the cycle is being built; nginx replaces the name by one in its pool, or leaves it.
    unsafe {
        if ngx_conf_full_name((*cf).cycle, &mut name, 0) != code::OK {
            return Err(Text(String::from("out of memory")));
        }
    }
    Ok(PathBuf::from(OsString::from_vec(name.as_bytes().to_vec())))
}

/// Calls `set` with the block's configuration and turns its refusal into nginx's.
///
/// # Safety
///
/// Called from a directive's handler with nginx's arguments; `conf` is a `T`.
pub unsafe fn directive<T>(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
    set: impl FnOnce(&Args<'_>, &mut T) -> Result<(), Refusal>,
) -> *mut c_char {
    protect(NGX_CONF_ERROR.cast(), || {
        // SAFETY: the arguments are ngx_str_t's, the first is the directive's name; `conf` was
        // made by this module for this context and nothing else refers to it now.
        let (values, conf) = unsafe { ((*(*cf).args).as_slice(), &mut *conf.cast::<T>()) };
        let args = Args { cf, cmd, values: values.get(1..).unwrap_or_default() };
        match set(&args, conf) {
            Ok(()) => ptr::null_mut(),
            Err(Is(text)) => text.as_ptr().cast_mut(),
            Err(Text(text)) => {
                // SAFETY: nginx gives the command of the directive.
                let name = unsafe { (*cmd).name };
                log::write_conf(cf, Level::Emerg, format_args!("\"{name}\" directive: {text}"));
                NGX_CONF_ERROR.cast()
            }
        }
    })
}

/// Defines the handler of one directive for nginx's table.
macro_rules! handler {
    ($name:ident, $conf:ty, $set:expr) => {
        /// # Safety
        ///
        /// Called by nginx for the directive of this name.
        pub unsafe extern "C" fn $name(
            cf: *mut ngx_conf_t,
            cmd: *mut ngx_command_t,
            conf: *mut c_void,
        ) -> *mut c_char {
            let set: fn(&Args<'_>, &mut $conf) -> Result<(), Refusal> = $set;
            // SAFETY: the command table gives the offset of this type of configuration.
            unsafe { directive(cf, cmd, conf, set) }
        }
    };
}

pub(super) use handler;

pub fn set_once<T>(
    field: &mut Option<T>,
    value: impl FnOnce() -> Result<T, Refusal>,
) -> Result<(), Refusal> {
    if field.is_some() {
        return Err(DUPLICATE);
    }
    *field = Some(value()?);
    Ok(())
}

pub fn complex_value(
    cf: *mut ngx_conf_t,
    text: &ngx_str_t,
) -> Result<ngx_http_complex_value_t, Refusal> {
    let mut text = *text;
    // SAFETY: all-zero bytes are valid for these plain C structures; nginx compiles the value
    // into its pool and logs what is wrong with it.
    unsafe {
        let mut value: ngx_http_complex_value_t = std::mem::zeroed();
        let mut ccv: ngx_http_compile_complex_value_t = std::mem::zeroed();
        ccv.cf = cf;
        ccv.value = &mut text;
        ccv.complex_value = &mut value;
        if ngx_http_compile_complex_value(&mut ccv) != code::OK {
            return Err(Text(format!("invalid value \"{text}\"")));
        }
        Ok(value)
    }
}
