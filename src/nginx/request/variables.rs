//! Variables for logs: `$wsgi_app`, `$wsgi_queue_time`, `$wsgi_app_time`, `$wsgi_thread`,
//! `$wsgi_worker`, `$wsgi_cpu_time`, and what the `$upstream_*` variables of nginx say of applications.
//!
//! Those of times and statuses are nginx's own, shown our states beside its own while they are
//! evaluated. The states do not stay in `r->upstream_states`: other modules take it for granted that
//! a request with states has an `r->upstream` too, and crash. It costs nothing when nobody asks.
//! Runs on: event loop.

use std::ffi::c_void;
use std::mem;
use std::ptr::NonNull;
use std::time::Duration;

use ngx::ffi::{
    NGX_HTTP_VAR_NOCACHEABLE, ngx_array_t, ngx_conf_t, ngx_cycle_t, ngx_hash_key_t,
    ngx_http_add_variable, ngx_http_conf_ctx_t, ngx_http_core_main_conf_t,
    ngx_http_get_variable_pt, ngx_http_request_t, ngx_http_upstream_state_t, ngx_http_variable_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_msec_t, ngx_palloc, ngx_str_t, ngx_uint_t,
};
use ngx::http::{HttpModule, HttpModuleConfExt, NgxHttpCoreModule};
use ngx::ngx_string;

use super::context::Context;
use crate::nginx::config::{self, LocConf, MainConf};
use crate::nginx::sys::bits;
use crate::nginx::sys::code::{ERROR, OK};
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::pool::copy;
use crate::nginx::worker::identity::own_pid;
use crate::wsgi::exchange::Taken;
use crate::wsgi::head::ResponseHead;
use crate::wsgi::head_variables;

/// By the number that nginx passes to the handler.
const OURS: [ngx_str_t; 6] = [
    ngx_string!("wsgi_app"),
    ngx_string!("wsgi_queue_time"),
    ngx_string!("wsgi_app_time"),
    ngx_string!("wsgi_thread"),
    ngx_string!("wsgi_worker"),
    ngx_string!("wsgi_cpu_time"),
];

/// Prefixes of nginx's variables that read fields of an upstream's head, and what they are here.
const FIELDS: [(&[u8], Field); 2] =
    [(b"upstream_http_", head_variables::field), (b"upstream_cookie_", head_variables::cookie)];

type Field = fn(&ResponseHead, &[u8]) -> Option<Vec<u8>>;

/// Those of nginx that read upstream states.
const NGINX: [&[u8]; 8] = [
    b"upstream_addr",
    b"upstream_status",
    b"upstream_connect_time",
    b"upstream_header_time",
    b"upstream_response_time",
    b"upstream_response_length",
    b"upstream_bytes_received",
    b"upstream_bytes_sent",
];

/// Makes our variables known.
///
/// # Safety
///
/// Called by nginx before it reads the http block.
pub unsafe fn add(cf: *mut ngx_conf_t) -> ngx_int_t {
    for (number, mut name) in OURS.into_iter().enumerate() {
        // SAFETY: nginx copies the name and gives a variable of the configuration at hand.
        unsafe {
            let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
            let var = ngx_http_add_variable(cf, &mut name, flags);
            if var.is_null() {
                return ERROR;
            }
            (*var).get_handler = Some(ngx_http_wsgi_variable);
            (*var).data = number;
        }
    }
    OK
}

/// A variable of nginx, as it was.
struct Original {
    handler: ngx_http_get_variable_pt,
    data: usize,
}

/// Puts [`ngx_http_wsgi_upstream_variable`] in front of nginx's variables. Without an application
/// they stay as they are.
///
/// # Safety
///
/// The http block has been read, and nginx has not resolved its variables.
pub unsafe fn wrap(cf: *mut ngx_conf_t, main: &mut MainConf) -> ngx_int_t {
    // SAFETY: the context of the http block with the configurations of all modules. The array of
    // known variables is made by the core module and dropped after the last postconfiguration.
    unsafe {
        let ctx: *mut ngx_http_conf_ctx_t = (*cf).ctx.cast();
        let cmcf: *mut ngx_http_core_main_conf_t =
            (*(*ctx).main_conf.add(NgxHttpCoreModule::module().ctx_index)).cast();
        let keys = (*(*cmcf).variables_keys).keys.as_slice::<ngx_hash_key_t>();
        for key in keys.iter().filter(|key| NGINX.contains(&key.key.as_bytes())) {
            let var: *mut ngx_http_variable_t = key.value.cast();
            let original: *mut Original = ngx_palloc((*cf).pool, mem::size_of::<Original>()).cast();
            if original.is_null() {
                return ERROR;
            }
            original.write(Original { handler: (*var).get_handler, data: (*var).data });
            (*var).get_handler = Some(ngx_http_wsgi_upstream_variable);
            (*var).data = original as usize;
        }
        // nginx passes the name of the variable in place of their data.
        let handlers: [unsafe extern "C" fn(_, _, _) -> _; 2] =
            [ngx_http_wsgi_upstream_field::<0>, ngx_http_wsgi_upstream_field::<1>];
        for var in (*cmcf).prefix_variables.as_slice_mut::<ngx_http_variable_t>() {
            let number = FIELDS.iter().position(|(prefix, _)| var.name.as_bytes() == *prefix);
            if let Some(number) = number {
                main.upstream_fields[number] = var.get_handler.replace(handlers[number]);
            }
        }
    }
    OK
}

/// Whether the configuration that has been read has `$wsgi_cpu_time`.
///
/// # Safety
///
/// nginx has read the http block of the cycle.
pub unsafe fn measures_cpu(cycle: *mut ngx_cycle_t) -> bool {
    // SAFETY: the cycle's http block has been read: what it names is in the array of indexed
    // variables.
    unsafe {
        let cmcf: Option<NonNull<ngx_http_core_main_conf_t>> =
            (*cycle).http_main_conf_unchecked(NgxHttpCoreModule::module());
        cmcf.is_some_and(|cmcf| {
            let indexed = cmcf.as_ref().variables.as_slice::<ngx_http_variable_t>();
            indexed.iter().any(|var| var.name.as_bytes() == b"wsgi_cpu_time")
        })
    }
}

/// `$upstream_http_NAME`, or `$upstream_cookie_NAME`: of the last upstream or application that the
/// request was given to.
unsafe extern "C" fn ngx_http_wsgi_upstream_field<const N: usize>(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    protect(ERROR, || {
        // SAFETY: nginx's request and value; the data of a variable with a prefix is its name. A
        // context is as old as the request, and nobody writes to it meanwhile.
        unsafe {
            let context = Context::all_of(r).first().map(|context| &**context);
            let states = (*r).upstream_states.as_ref().map_or(0, |states| states.nelts);
            let ours = context.filter(|context| {
                (*r).upstream.is_null() || states <= context.timings.states_before
            });
            let Some(context) = ours else {
                return match config::main_of_request(r).upstream_fields[N] {
                    Some(handler) => handler(r, v, data),
                    None => ERROR,
                };
            };
            let (prefix, find) = FIELDS[N];
            let name = (*(data as *const ngx_str_t)).as_bytes();
            let name = name.get(prefix.len()..).unwrap_or_default();
            set(r, v, context.head.as_ref().and_then(|head| find(head, name)))
        }
    })
}

/// Gives a variable its value, or none.
///
/// # Safety
///
/// `r` is a live request and `v` a variable's value of it.
unsafe fn set(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    text: Option<Vec<u8>>,
) -> ngx_int_t {
    // SAFETY: the request is live, as the caller says; the text is copied into its pool.
    unsafe {
        bits::variable::set_valid(v, false);
        bits::variable::set_no_cacheable(v, false);
        let Some(text) = text else {
            bits::variable::set_not_found(v, true);
            return OK;
        };
        let Some(text) = copy((*r).pool, &text) else {
            return ERROR;
        };
        bits::variable::set_valid(v, true);
        bits::variable::set_not_found(v, false);
        bits::variable::set_len(v, u32::try_from(text.len).unwrap_or_default());
        (*v).data = text.data;
        OK
    }
}

/// One of nginx's variables.
unsafe extern "C" fn ngx_http_wsgi_upstream_variable(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    protect(ERROR, || {
        // SAFETY: nginx's request; the original is in the pool of its configuration. nginx's
        // handler copies what it finds into the request's pool and keeps no pointer to the states.
        unsafe {
            let Original { handler: Some(handler), data } = *(data as *const Original) else {
                return ERROR;
            };
            let mut states = states(r);
            if states.is_empty() {
                return handler(r, v, data);
            }
            let mut array = ngx_array_t {
                elts: states.as_mut_ptr().cast::<c_void>(),
                nelts: states.len(),
                size: mem::size_of::<ngx_http_upstream_state_t>(),
                nalloc: states.len(),
                pool: (*r).pool,
            };
            let own = mem::replace(&mut (*r).upstream_states, &mut array);
            let rc = handler(r, v, data);
            (*r).upstream_states = own;
            rc
        }
    })
}

/// The states of all upstreams and applications that `r` was given to, in their order, with
/// nginx's separator, an empty one, between them. Empty if there was no application.
unsafe fn states(r: *mut ngx_http_request_t) -> Vec<ngx_http_upstream_state_t> {
    // SAFETY: a live request and its contexts; its array is null or one of states.
    unsafe {
        let contexts = Context::all_of(r);
        if contexts.is_empty() {
            return Vec::new();
        }
        let nginx: &[ngx_http_upstream_state_t] = match (*r).upstream_states.as_ref() {
            Some(states) => states.as_slice(),
            None => &[],
        };
        let mut all: Vec<ngx_http_upstream_state_t> = Vec::new();
        let mut shown = 0;
        let more = |all: &mut Vec<_>, from: usize, to: usize| {
            let Some(states @ [_, ..]) = nginx.get(from..to) else { return };
            // It separates its own from each other, and does not know of ours.
            if from == 0 && !all.is_empty() {
                all.push(mem::zeroed());
            }
            all.extend_from_slice(states);
        };
        for context in contexts.into_iter().rev() {
            let context = &*context;
            let timings = &context.timings;
            more(&mut all, shown, timings.states_before);
            shown = timings.states_before;
            if !all.is_empty() {
                all.push(mem::zeroed());
            }
            all.push(timings.state(context.exchange.taken(), context.conf()));
        }
        more(&mut all, shown, nginx.len());
        all
    }
}

/// One of ours, of the last application that the request was given to.
unsafe extern "C" fn ngx_http_wsgi_variable(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    protect(ERROR, || {
        // SAFETY: nginx's request and value; the text is in the request's pool.
        unsafe {
            let context = Context::all_of(r).first().map(|context| &**context);
            let conf = context.map_or_else(|| config::of_request(r), Context::conf);
            let taken = context.and_then(|context| context.exchange.taken());
            let timings = context.map(|context| &context.timings);
            let text = match data {
                0 => conf.app_text.map(|text| text.as_bytes().to_vec()),
                1 => timings.and_then(|timings| timings.queue_time(taken)).map(seconds),
                2 => timings.and_then(|timings| timings.app_time(taken)).map(seconds),
                3 => taken.and_then(|taken| thread(r, conf, taken)),
                4 => context.filter(|_| taken.is_some()).map(processes),
                _ => context.and_then(|context| context.exchange.cpu()).map(precise),
            };
            set(r, v, text)
        }
    })
}

/// The process that has the client and, if it is another one, the process that runs the request.
fn processes(context: &Context) -> Vec<u8> {
    let own = own_pid();
    match context.exchange.handed_over() {
        Some(other) => format!("{own}, {other}"),
        None => own.to_string(),
    }
    .into_bytes()
}

/// As `$request_time`.
fn seconds(msec: ngx_msec_t) -> Vec<u8> {
    format!("{}.{:03}", msec / 1000, msec % 1000).into_bytes()
}

/// In seconds with microseconds.
fn precise(time: Duration) -> Vec<u8> {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros()).into_bytes()
}

/// `pool:number`.
unsafe fn thread(r: *mut ngx_http_request_t, conf: &LocConf, taken: Taken) -> Option<Vec<u8>> {
    // SAFETY: a live request.
    let pools = unsafe { &config::main_of_request(r).pools };
    let name = &pools.get(conf.endpoint?.pool)?.name;
    // 0: another worker has taken it, and not said yet by which thread.
    (taken.runner > 0).then(|| format!("{name}:{}", taken.runner).into_bytes())
}
