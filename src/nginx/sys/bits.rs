//! The bit-fields of nginx's structures: the only place that reads and writes them.
//!
//! nginx-sys has accessors too, and on nginx 1.30 those of a request are two bits off: bindgen
//! before 0.73 computes wrong places for bit-fields behind a member smaller than their type, there
//! `port`. Neither compiler says so. No accessor of nginx-sys is used, therefore (`scripts/lint`
//! has clippy refuse them all), and `tests/bits.rs` compares each function of this file with C.
//!
//! A module is a structure, a function a field. All take nginx-sys's pointer. A field of one bit is
//! a `bool`, a wider one a number.
//! Runs on: event loop.

use std::mem::offset_of;

use ngx::ffi;

use super::raw;

/// What a bit-field holds.
pub trait Value {
    fn from_bits(bits: u32) -> Self;
    fn into_bits(self) -> u32;
}

impl Value for bool {
    fn from_bits(bits: u32) -> Self {
        bits != 0
    }

    fn into_bits(self) -> u32 {
        u32::from(self)
    }
}

impl Value for u32 {
    fn from_bits(bits: u32) -> Self {
        bits
    }

    fn into_bits(self) -> u32 {
        self
    }
}

/// A structure for the tests: its size, and all functions of its module by name.
#[cfg(test)]
pub struct Structure {
    pub name: &'static str,
    pub size: usize,
    pub readers: &'static [(&'static str, Reader)],
    pub writers: &'static [(&'static str, Writer)],
}

#[cfg(test)]
type Reader = unsafe fn(*const u8) -> u32;
#[cfg(test)]
type Writer = unsafe fn(*mut u8, u32);

/// The two bindings agree on how large a structure is and where these fields are.
macro_rules! agree {
    ($nginx:ident $($field:ident)+) => {
        const _: () = {
            assert!(size_of::<ffi::$nginx>() == size_of::<raw::$nginx>());
            assert!(align_of::<ffi::$nginx>() == align_of::<raw::$nginx>());
            $(assert!(offset_of!(ffi::$nginx, $field) == offset_of!(raw::$nginx, $field));)+
        };
    };
}

/// Modules of functions, and for the tests a list of them all. `around` names fields between which
/// the bit-fields lie.
macro_rules! structures {
    ($all:ident; $(
        $module:ident: $nginx:ident around $($field:ident)+ {
            $(read $get:ident: $read:ty = $get_raw:ident;)*
            $(write $set:ident: $write:ty = $set_raw:ident;)*
        }
    )+) => {
        $(
            agree!($nginx $($field)+);

            pub mod $module {
                use super::{Value, ffi, raw};

                $(
                    /// # Safety
                    ///
                    /// The structure is live.
                    #[inline]
                    pub unsafe fn $get(of: *const ffi::$nginx) -> $read {
                        // SAFETY: the structure is live, as the caller says; both bindings take it
                        // for as large; no reference to it is made.
                        Value::from_bits(unsafe { raw::$nginx::$get_raw(of.cast()) })
                    }
                )*

                $(
                    /// # Safety
                    ///
                    /// The structure is live, and nobody else looks at it meanwhile.
                    #[inline]
                    pub unsafe fn $set(of: *mut ffi::$nginx, value: $write) {
                        // SAFETY: the structure is live, as the caller says; both bindings take it
                        // for as large; no reference to it is made.
                        unsafe { raw::$nginx::$set_raw(of.cast(), value.into_bits()) }
                    }
                )*
            }
        )+

        #[cfg(test)]
        pub const $all: &[Structure] = &[$(
            Structure {
                name: stringify!($module),
                size: size_of::<ffi::$nginx>(),
                readers: &[$(
                    // SAFETY: the test gives memory of the structure's size and alignment.
                    (stringify!($get), |of| unsafe { $module::$get(of.cast()) }.into_bits())
                ),*],
                writers: &[$(
                    (stringify!($set), |of, bits| {
                        // SAFETY: the test gives memory of the structure's size and alignment.
                        unsafe { $module::$set(of.cast(), Value::from_bits(bits)) }
                    })
                ),*],
            },
        )+];
    };
}

structures! {
    STRUCTURES;

    request: ngx_http_request_s
        around connection headers_in headers_out request_body upstream limit_rate state {
        read aio: bool = aio_raw;
        read buffered: u32 = buffered_raw;
        read chunked: bool = chunked_raw;
        read discard_body: bool = discard_body_raw;
        read filter_need_in_memory: bool = filter_need_in_memory_raw;
        read filter_need_temporary: bool = filter_need_temporary_raw;
        read header_only: bool = header_only_raw;
        read internal: bool = internal_raw;
        read main_filter_need_in_memory: bool = main_filter_need_in_memory_raw;
        read post_action: bool = post_action_raw;
        read reading_body: bool = reading_body_raw;
        write set_allow_ranges: bool = set_allow_ranges_raw;
        write set_disable_not_modified: bool = set_disable_not_modified_raw;
        write set_keepalive: bool = set_keepalive_raw;
        write set_lingering_close: bool = set_lingering_close_raw;
        write set_limit_rate_set: bool = set_limit_rate_set_raw;
        write set_request_body_no_buffering: bool = set_request_body_no_buffering_raw;
        write set_single_range: bool = set_single_range_raw;
    }

    headers_in: ngx_http_headers_in_t around content_length_n keep_alive_n {
        read chunked: bool = chunked_raw;
        write set_chunked: bool = set_chunked_raw;
    }

    buffer: ngx_buf_s around file shadow num {
        read in_file: bool = in_file_raw;
        write set_flush: bool = set_flush_raw;
        write set_in_file: bool = set_in_file_raw;
        write set_last_buf: bool = set_last_buf_raw;
        write set_last_in_chain: bool = set_last_in_chain_raw;
        write set_memory: bool = set_memory_raw;
        write set_sync: bool = set_sync_raw;
    }

    event: ngx_event_s around data handler log timer queue {
        read accept: bool = accept_raw;
        read active: bool = active_raw;
        read delayed: bool = delayed_raw;
        read pending_eof: bool = pending_eof_raw;
        read posted: bool = posted_raw;
        read ready: bool = ready_raw;
        read timedout: bool = timedout_raw;
        read timer_set: bool = timer_set_raw;
        write set_cancelable: bool = set_cancelable_raw;
        write set_instance: bool = set_instance_raw;
        write set_posted: bool = set_posted_raw;
        write set_ready: bool = set_ready_raw;
        write set_timedout: bool = set_timedout_raw;
        write set_timer_set: bool = set_timer_set_raw;
    }

    connection: ngx_connection_s around read write fd log queue number requests {
        read buffered: u32 = buffered_raw;
        read close: bool = close_raw;
        read error: bool = error_raw;
        read reusable: bool = reusable_raw;
        read timedout: bool = timedout_raw;
        write set_close: bool = set_close_raw;
        write set_error: bool = set_error_raw;
        write set_timedout: bool = set_timedout_raw;
    }

    listening: ngx_listening_s around handler connection worker {
        read open: bool = open_raw;
        read remain: bool = remain_raw;
        read reuseport: bool = reuseport_raw;
    }

    variable: ngx_variable_value_t around data {
        read not_found: bool = not_found_raw;
        write set_len: u32 = set_len_raw;
        write set_no_cacheable: bool = set_no_cacheable_raw;
        write set_not_found: bool = set_not_found_raw;
        write set_valid: bool = set_valid_raw;
    }

    location: ngx_http_core_loc_conf_s around name loc_conf handler root send_timeout {
        read lmt_excpt: bool = lmt_excpt_raw;
        read noname: bool = noname_raw;
        write set_auto_redirect: bool = set_auto_redirect_raw;
    }
}

#[cfg(ngx_feature = "ssl")]
structures! {
    TLS;

    tls: ngx_ssl_connection_s around connection last {
        write set_no_send_shutdown: bool = set_no_send_shutdown_raw;
        write set_no_wait_shutdown: bool = set_no_wait_shutdown_raw;
    }
}

// Only other fields of these are used.
agree!(ngx_cycle_s conf_ctx log modules modules_n listening connection_n connections old_cycle);
agree!(ngx_file_s fd name offset log);
agree!(ngx_http_compile_complex_value_t cf value complex_value);
agree!(ngx_http_core_srv_conf_t server_name);
agree!(ngx_http_request_body_t temp_file bufs);
agree!(ngx_listening_s fd handler type_);
agree!(ngx_temp_file_t file);
