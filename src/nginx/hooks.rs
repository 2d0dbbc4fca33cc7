//! What nginx calls this module by: its tables, and the callbacks that bring the folders together.
//!
//! Runs on: event loop.

use std::ffi::{CStr, c_char, c_void};
use std::mem;
use std::ptr;

use ngx::core::NGX_CONF_ERROR;
use ngx::ffi::{
    NGX_CONF_1MORE, NGX_CONF_ANY, NGX_CONF_FLAG, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE2,
    NGX_CONF_TAKE12, NGX_CONF_TAKE23, NGX_CONF_TAKE123, NGX_CONF_TAKE1234, NGX_CORE_MODULE,
    NGX_HTTP_LIF_CONF, NGX_HTTP_LMT_CONF, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_MODULE, NGX_HTTP_SRV_CONF,
    NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_command_t, ngx_conf_t, ngx_core_module_t,
    ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module_t, ngx_http_request_t, ngx_int_t,
    ngx_module_t, ngx_process, ngx_str_t, ngx_uint_t,
};
use ngx::http::{HttpModule, HttpModuleConfExt, NgxHttpCoreModule};

use super::balance;
use super::config::{LocConf, MainConf, merge, validate};
use super::config::{directives, headers, sockets, surroundings as around};
use super::handler::ngx_http_wsgi_handler;
use super::request::{in_flight, left_body, variables};
use super::status::{ngx_http_wsgi_status, stacks};
use super::sys::module::http_module;
use super::sys::panic::protect;
use super::sys::{code, log, pool, process};
use super::websocket;
use super::worker::{self, Setup, accepting, clock, counters, display, generation, hold};
use super::worker::{retire, retry, surroundings, zone};
use super::{check, exit, mail};
use crate::module::START_INTERPRETER;
use crate::wsgi::mailbox::Level;

type Handler =
    unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

/// nginx compares names up to their zero byte.
const fn text(text: &'static CStr) -> ngx_str_t {
    ngx_str_t { len: text.count_bytes(), data: text.as_ptr().cast_mut().cast() }
}

const fn command(name: &'static CStr, type_: u32, set: Handler, conf: usize) -> ngx_command_t {
    ngx_command_t {
        name: text(name),
        type_: type_ as ngx_uint_t,
        set: Some(set),
        conf,
        offset: 0,
        post: ptr::null_mut(),
    }
}

/// A directive of the interpreter: once for a worker.
const fn main(name: &'static CStr, args: u32, set: Handler) -> ngx_command_t {
    command(name, NGX_HTTP_MAIN_CONF | args, set, NGX_HTTP_MAIN_CONF_OFFSET)
}

/// The same directive where it has no place: nginx takes the first that fits the context.
const fn misplaced(name: &'static CStr) -> ngx_command_t {
    let contexts = NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF | NGX_HTTP_LMT_CONF;
    let set = directives::cmd_wsgi_misplaced;
    command(name, contexts | NGX_CONF_ANY, set, NGX_HTTP_MAIN_CONF_OFFSET)
}

/// A directive of the application.
const fn local(name: &'static CStr, contexts: u32, args: u32, set: Handler) -> ngx_command_t {
    command(name, contexts | args, set, NGX_HTTP_LOC_CONF_OFFSET)
}

const ANY: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF;

/// What `wsgi_app` makes the handler of its location.
const CONTENT_HANDLER: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t =
    ngx_http_wsgi_handler;

/// And `wsgi_status`.
const STATUS_HANDLER: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t =
    ngx_http_wsgi_status;

static mut COMMANDS: [ngx_command_t; 48] = [
    main(c"wsgi_python_home", NGX_CONF_TAKE1, directives::cmd_wsgi_python_home),
    main(c"wsgi_python_path", NGX_CONF_1MORE, directives::cmd_wsgi_python_path),
    main(c"wsgi_chdir", NGX_CONF_TAKE1, directives::cmd_wsgi_chdir),
    main(c"wsgi_env", NGX_CONF_TAKE2, directives::cmd_wsgi_env),
    misplaced(c"wsgi_python_home"),
    misplaced(c"wsgi_python_path"),
    misplaced(c"wsgi_chdir"),
    misplaced(c"wsgi_env"),
    main(c"wsgi_tzset", NGX_CONF_FLAG, around::cmd_wsgi_tzset),
    main(c"wsgi_umask", NGX_CONF_TAKE1, around::cmd_wsgi_umask),
    main(c"wsgi_switch_interval", NGX_CONF_TAKE1, directives::cmd_wsgi_switch_interval),
    main(c"wsgi_stdio_level", NGX_CONF_TAKE1, directives::cmd_wsgi_stdio_level),
    main(c"wsgi_shutdown_timeout", NGX_CONF_TAKE1, directives::cmd_wsgi_shutdown_timeout),
    main(c"wsgi_max_requests", NGX_CONF_TAKE12, directives::cmd_wsgi_max_requests),
    main(c"wsgi_max_rss", NGX_CONF_TAKE1, directives::cmd_wsgi_max_rss),
    main(c"wsgi_check_timeout", NGX_CONF_TAKE1, directives::cmd_wsgi_check_timeout),
    main(c"wsgi_balance", NGX_CONF_FLAG, directives::cmd_wsgi_balance),
    main(c"wsgi_reload", NGX_CONF_FLAG, directives::cmd_wsgi_reload),
    main(c"wsgi_uwsgi_api", NGX_CONF_FLAG, sockets::cmd_wsgi_uwsgi_api),
    ngx_command_t {
        post: CONTENT_HANDLER as *mut c_void,
        ..local(
            c"wsgi_app",
            NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF | NGX_HTTP_LMT_CONF,
            NGX_CONF_TAKE1,
            directives::cmd_wsgi_app,
        )
    },
    ngx_command_t {
        post: STATUS_HANDLER as *mut c_void,
        ..local(
            c"wsgi_status",
            NGX_HTTP_LOC_CONF,
            NGX_CONF_NOARGS | NGX_CONF_TAKE123,
            directives::cmd_wsgi_status,
        )
    },
    local(c"wsgi_thread_pool", ANY, NGX_CONF_TAKE1, directives::cmd_wsgi_thread_pool),
    local(c"wsgi_queue", ANY, NGX_CONF_TAKE12, directives::cmd_wsgi_queue),
    local(c"wsgi_check", ANY, NGX_CONF_FLAG, directives::cmd_wsgi_check),
    local(c"wsgi_param", ANY | NGX_HTTP_LIF_CONF, NGX_CONF_TAKE23, directives::cmd_wsgi_param),
    local(c"wsgi_mount", ANY, NGX_CONF_TAKE1, directives::cmd_wsgi_mount),
    local(c"wsgi_buffering", ANY, NGX_CONF_FLAG, directives::cmd_wsgi_buffering),
    local(c"wsgi_buffer_size", ANY, NGX_CONF_TAKE1, directives::cmd_wsgi_buffer_size),
    local(c"wsgi_max_temp_file_size", ANY, NGX_CONF_TAKE1, directives::cmd_wsgi_max_temp_file_size),
    ngx_command_t {
        offset: mem::offset_of!(LocConf, temp_path),
        ..local(c"wsgi_temp_path", ANY, NGX_CONF_TAKE1234, directives::cmd_wsgi_temp_path)
    },
    local(c"wsgi_read_timeout", ANY, NGX_CONF_TAKE1, directives::cmd_wsgi_read_timeout),
    local(c"wsgi_request_buffering", ANY, NGX_CONF_FLAG, directives::cmd_wsgi_request_buffering),
    local(c"wsgi_hide_header", ANY, NGX_CONF_TAKE1, headers::cmd_wsgi_hide_header),
    local(c"wsgi_pass_header", ANY, NGX_CONF_TAKE1, headers::cmd_wsgi_pass_header),
    local(c"wsgi_ignore_headers", ANY, NGX_CONF_1MORE, headers::cmd_wsgi_ignore_headers),
    local(c"wsgi_intercept_errors", ANY, NGX_CONF_FLAG, headers::cmd_wsgi_intercept_errors),
    local(c"wsgi_force_ranges", ANY, NGX_CONF_FLAG, headers::cmd_wsgi_force_ranges),
    local(c"wsgi_pass_request_headers", ANY, NGX_CONF_FLAG, headers::cmd_wsgi_pass_request_headers),
    local(c"wsgi_pass_request_body", ANY, NGX_CONF_FLAG, headers::cmd_wsgi_pass_request_body),
    local(c"wsgi_request_timeout", ANY, NGX_CONF_TAKE1, directives::cmd_wsgi_request_timeout),
    local(c"wsgi_slow_request", ANY, NGX_CONF_TAKE123, directives::cmd_wsgi_slow_request),
    local(
        c"wsgi_ignore_client_abort",
        ANY,
        NGX_CONF_FLAG,
        directives::cmd_wsgi_ignore_client_abort,
    ),
    local(c"wsgi_debug", ANY, NGX_CONF_FLAG, directives::cmd_wsgi_debug),
    local(c"wsgi_websocket", ANY, NGX_CONF_FLAG, sockets::cmd_wsgi_websocket),
    local(c"wsgi_websocket_threads", ANY, NGX_CONF_TAKE1, sockets::cmd_wsgi_websocket_threads),
    local(
        c"wsgi_websocket_max_message",
        ANY,
        NGX_CONF_TAKE1,
        sockets::cmd_wsgi_websocket_max_message,
    ),
    local(c"wsgi_websocket_ping", ANY, NGX_CONF_TAKE12, sockets::cmd_wsgi_websocket_ping),
    ngx_command_t::empty(),
];

static HTTP_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(ngx_http_wsgi_preconfiguration),
    postconfiguration: Some(ngx_http_wsgi_postconfiguration),
    create_main_conf: Some(ngx_http_wsgi_create_main_conf),
    init_main_conf: Some(ngx_http_wsgi_init_main_conf),
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(ngx_http_wsgi_create_loc_conf),
    merge_loc_conf: Some(ngx_http_wsgi_merge_loc_conf),
};

/// nginx only reads contexts, but its structures cannot say so.
#[repr(transparent)]
struct CoreContext(ngx_core_module_t);

// SAFETY: a table of constants; the string it points to is static.
unsafe impl Sync for CoreContext {}

static GUARD_CONTEXT: CoreContext = CoreContext(ngx_core_module_t {
    name: text(c"wsgi_guard"),
    create_conf: None,
    init_conf: Some(ngx_http_wsgi_init_conf),
});

/// The core module in front of nginx's thread pools.
#[unsafe(no_mangle)]
pub static mut ngx_http_wsgi_guard_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const GUARD_CONTEXT).cast_mut().cast(),
    type_: NGX_CORE_MODULE as ngx_uint_t,
    init_process: Some(ngx_http_wsgi_guard_init_process),
    exit_process: Some(ngx_http_wsgi_guard_exit_process),
    ..ngx_module_t::default()
};

/// The HTTP module.
#[unsafe(no_mangle)]
pub static mut ngx_http_wsgi_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const HTTP_CONTEXT).cast_mut().cast(),
    commands: &raw mut COMMANDS as *mut ngx_command_t,
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(ngx_http_wsgi_init_module),
    init_process: Some(ngx_http_wsgi_init_process),
    ..ngx_module_t::default()
};

/// The tables by which nginx takes modules out of a file. nginx's own configure writes them itself.
#[cfg(not(feature = "configure"))]
pub mod file {
    use std::ffi::c_char;
    use std::ptr;

    use ngx::ffi::ngx_module_t;

    /// A list of pointers to constants.
    #[repr(transparent)]
    pub struct Exported<const N: usize, T>([*const T; N]);

    // SAFETY: nginx reads the lists and writes only to the modules they name, from its main thread.
    unsafe impl<const N: usize, T> Sync for Exported<N, T> {}

    const GUARD_NAME: *const c_char = c"ngx_http_wsgi_guard_module".as_ptr();

    #[unsafe(no_mangle)]
    pub static ngx_modules: Exported<3, ngx_module_t> = Exported([
        &raw const super::ngx_http_wsgi_guard_module,
        &raw const super::ngx_http_wsgi_module,
        ptr::null(),
    ]);

    #[unsafe(no_mangle)]
    pub static ngx_module_names: Exported<3, c_char> =
        Exported([GUARD_NAME, c"ngx_http_wsgi_module".as_ptr(), ptr::null()]);

    /// The guard goes in front of the thread pools; the HTTP module, not named here, to the end.
    #[unsafe(no_mangle)]
    pub static ngx_module_order: Exported<3, c_char> =
        Exported([GUARD_NAME, c"ngx_thread_pool_module".as_ptr(), ptr::null()]);
}

/// Before nginx reads the http block.
unsafe extern "C" fn ngx_http_wsgi_preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx's configuration, whose http block has not been read.
    protect(code::ERROR, || unsafe { variables::add(cf) })
}

/// Once for each http block.
unsafe extern "C" fn ngx_http_wsgi_create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: the configuration's pool is live; it drops the value when it is destroyed.
    protect(ptr::null_mut(), || unsafe { pool::keep((*cf).pool, MainConf::default()).cast() })
}

/// Once for each http, server, location, if and limit_except block.
unsafe extern "C" fn ngx_http_wsgi_create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: the configuration's pool is live; it drops the value when it is destroyed.
    protect(ptr::null_mut(), || unsafe { pool::keep((*cf).pool, LocConf::default()).cast() })
}

/// When the http block has been read.
unsafe extern "C" fn ngx_http_wsgi_init_main_conf(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
) -> *mut c_char {
    protect(NGX_CONF_ERROR.cast(), || {
        // SAFETY: made by `ngx_http_wsgi_create_main_conf`, and nobody else refers to it now.
        let main = unsafe { &mut *conf.cast::<MainConf>() };
        // SAFETY: nginx's configuration, whose http block has been read.
        match unsafe { merge::init_main(cf, main) } {
            Ok(()) => ptr::null_mut(),
            Err(text) => {
                log::write_conf(cf, Level::Emerg, format_args!("{text}"));
                NGX_CONF_ERROR.cast()
            }
        }
    })
}

/// After the core module has merged the same block.
unsafe extern "C" fn ngx_http_wsgi_merge_loc_conf(
    cf: *mut ngx_conf_t,
    prev: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx's arguments.
    let merged = protect(None, || unsafe { merge::merge(cf, prev, conf, Some(CONTENT_HANDLER)) });
    merged.map_or(NGX_CONF_ERROR.cast(), |()| ptr::null_mut())
}

/// When the http block has been read and merged.
unsafe extern "C" fn ngx_http_wsgi_postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    protect(code::ERROR, || {
        // SAFETY: the context of `cf` is that of the http block; the conf was made by
        // `ngx_http_wsgi_create_main_conf`.
        unsafe {
            let ctx = &*(*cf).ctx.cast::<ngx_http_conf_ctx_t>();
            let Some(mut main) = ctx.http_main_conf_unchecked::<MainConf>(http_module()) else {
                return code::ERROR;
            };
            let main = main.as_mut();
            if main.apps.is_empty() {
                return code::OK;
            }
            main.zone = zone::add(cf, main.apps.len());
            let cmcf = (*ctx.main_conf.add(NgxHttpCoreModule::module().ctx_index)).cast();
            if main.balance.is_on() && !balance::zone::add(cf, main) {
                return code::ERROR;
            }
            if main.status.on && !(counters::add(cf, main) && display::add(cf, main)) {
                return code::ERROR;
            }
            if main.zone.is_null() || !generation::add(cf, main) || !left_body::register(cmcf) {
                return code::ERROR;
            }
            variables::wrap(cf, main)
        }
    })
}

/// The guard module's init_conf: nginx has read its configuration. All refusals are made here; the
/// applications are tried last.
unsafe extern "C" fn ngx_http_wsgi_init_conf(
    cycle: *mut ngx_cycle_t,
    _conf: *mut c_void,
) -> *mut c_char {
    protect(NGX_CONF_ERROR.cast(), || {
        // SAFETY: the cycle is complete but for the init_conf of later modules.
        let accepted = unsafe {
            let main = MainConf::of_cycle(cycle);
            let Some(main) =
                main.filter(|main| !main.apps.is_empty() || worker::worker().is_some())
            else {
                return ptr::null_mut();
            };
            if let Some(mut main) = (*cycle).http_main_conf_unchecked::<MainConf>(http_module()) {
                main.as_mut().measures_cpu = variables::measures_cpu(cycle);
                balance::zone::resize(cycle, main.as_mut());
                display::resize(cycle, main.as_mut());
            }
            match validate::validate(cycle, main) {
                Ok(()) => check::accepts(cycle, main, START_INTERPRETER),
                Err(text) => {
                    log::write((*cycle).log, Level::Emerg, format_args!("{text}"));
                    false
                }
            }
        };
        if accepted { ptr::null_mut() } else { NGX_CONF_ERROR.cast() }
    })
}

/// In the master, when nothing of a start or a reload can fail any more.
unsafe extern "C" fn ngx_http_wsgi_init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    protect((), || {
        // SAFETY: the cycle is complete; nobody else looks at its configuration meanwhile.
        unsafe {
            if let Some(mut main) = (*cycle).http_main_conf_unchecked::<MainConf>(http_module()) {
                generation::raise(cycle, main.as_mut());
                counters::register(main.as_mut());
            }
        }
    });
    code::OK
}

/// The guard module's, in each process that nginx starts, before nginx makes its pool threads.
unsafe extern "C" fn ngx_http_wsgi_guard_init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    protect((), || {
        process::ensure_stack_size();
        // SAFETY: the cycle is that of the process that starts.
        for pool in unsafe { MainConf::of_cycle(cycle) }.into_iter().flat_map(|main| &main.pools) {
            // SAFETY: nginx has not made its pool threads.
            unsafe { pool.hide() };
        }
    });
    code::OK
}

/// The guard module's, when a process leaves, before nginx waits for its pool threads.
unsafe extern "C" fn ngx_http_wsgi_guard_exit_process(cycle: *mut ngx_cycle_t) {
    protect((), || {
        generation::leaves();
        display::leaves();
        if let Some(worker) = worker::take() {
            balance::close();
            // SAFETY: the cycle is the leaving worker's, whose event loop has ended.
            unsafe { exit::stop(worker, cycle) };
        }
    });
}

/// Starts Python in a worker. Never fails: a worker that cannot start again and again would take
/// the whole server down, so the locations answer 500, the log says why, and the worker is replaced
/// before long.
unsafe extern "C" fn ngx_http_wsgi_init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    protect((), || {
        // SAFETY: nginx calls this in each process it starts, with its cycle.
        unsafe {
            // Cache manager and loader come here too.
            if ngx_process != NGX_PROCESS_WORKER as ngx_uint_t
                && ngx_process != NGX_PROCESS_SINGLE as ngx_uint_t
            {
                return;
            }
            let Some(main) = MainConf::of_cycle(cycle).filter(|main| !main.apps.is_empty()) else {
                return;
            };
            retire::start(main, (*cycle).log, websocket::cut_all);
            if let Some(member) = generation::start(main) {
                accepting::start(cycle, main, member);
                hold::start(cycle, main);
            }
            display::start(main, main.generation, (*cycle).log, in_flight::show);
            let put_off = retry::start(cycle, main);
            match start_worker(cycle, main, put_off) {
                Ok(()) => {
                    balance::start(cycle, main, mail::read);
                    stacks::start((*cycle).log);
                    in_flight::show();
                    retry::python_started();
                }
                Err(text) => {
                    log::write((*cycle).log, Level::Error, format_args!("{text}"));
                    retry::python_failed();
                    retire::settled();
                    accepting::settled();
                }
            }
        }
    });
    code::OK
}

/// # Safety
///
/// Called in init_process of a worker or single process, `main` is of its cycle.
unsafe fn start_worker(
    cycle: *mut ngx_cycle_t,
    main: &MainConf,
    put_off: Option<usize>,
) -> Result<(), String> {
    process::pin_image();
    process::keep_freed_memory();
    process::release_sigchld();
    process::ignore_signals();
    process::wrap_exit();
    // SAFETY: init_process; Python is started below.
    unsafe { clock::keep_zone() };
    surroundings::enter(main)?;
    let setup = Setup { start_interpreter: START_INTERPRETER, read_mail: mail::read, put_off };
    // SAFETY: nginx calls init_process of HTTP modules after that of its thread pools.
    unsafe { worker::start(cycle, main, setup) }
}
