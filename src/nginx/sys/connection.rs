//! A connection's own functions to send and receive, which know of TLS.
//!
//! Runs on: event loop.

use ngx::ffi::{ngx_connection_t, ngx_int_t};

use super::code;

/// Gives bytes to nginx's connection: how many it has taken, or its code.
///
/// # Safety
///
/// An open connection of a client.
pub unsafe fn send(c: *mut ngx_connection_t, bytes: &mut [u8]) -> ngx_int_t {
    // SAFETY: an open connection has a function for it, which only reads the bytes.
    unsafe { (*c).send.map_or(code::ERROR, |send| send(c, bytes.as_mut_ptr(), bytes.len())) }
}

/// What nginx's connection has received into the buffer, or its code.
///
/// # Safety
///
/// An open connection of a client.
pub unsafe fn receive(c: *mut ngx_connection_t, into: &mut [u8]) -> ngx_int_t {
    // SAFETY: an open connection has a function for it, which writes no more than the length.
    unsafe { (*c).recv.map_or(code::ERROR, |recv| recv(c, into.as_mut_ptr(), into.len())) }
}
