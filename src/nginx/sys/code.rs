//! nginx's return codes and the statuses of HTTP, in the type that handlers return.
//!
//! The bindings have both as unsigned numbers.
//! Runs on: event loop.

use ngx::ffi::{self, ngx_int_t};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $nginx:ident;)+) => {
        $($(#[$doc])* pub const $name: ngx_int_t = ffi::$nginx as ngx_int_t;)+
    };
}

codes! {
    OK = NGX_OK;
    ERROR = NGX_ERROR;
    AGAIN = NGX_AGAIN;
    DONE = NGX_DONE;
    DECLINED = NGX_DECLINED;
    HTTP_OK = NGX_HTTP_OK;
    /// Statuses from this one on are nginx's to answer.
    SPECIAL_RESPONSE = NGX_HTTP_SPECIAL_RESPONSE;
    BAD_REQUEST = NGX_HTTP_BAD_REQUEST;
    UNAUTHORIZED = NGX_HTTP_UNAUTHORIZED;
    NOT_FOUND = NGX_HTTP_NOT_FOUND;
    NOT_ALLOWED = NGX_HTTP_NOT_ALLOWED;
    REQUEST_TIME_OUT = NGX_HTTP_REQUEST_TIME_OUT;
    REQUEST_ENTITY_TOO_LARGE = NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    INTERNAL_SERVER_ERROR = NGX_HTTP_INTERNAL_SERVER_ERROR;
    BAD_GATEWAY = NGX_HTTP_BAD_GATEWAY;
    SERVICE_UNAVAILABLE = NGX_HTTP_SERVICE_UNAVAILABLE;
    GATEWAY_TIME_OUT = NGX_HTTP_GATEWAY_TIME_OUT;
}
