//! The handlers of the directives: each checks its arguments while nginx reads its files.
//!
//! Runs on: event loop (configuration, in the master).

use std::ffi::{OsString, c_char, c_void};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;
use std::time::Duration;

use ngx::core::NGX_CONF_ERROR;
use ngx::ffi::{
    ngx_command_t, ngx_conf_set_path_slot, ngx_conf_t, ngx_http_conf_ctx_t,
    ngx_http_core_loc_conf_t, ngx_http_handler_pt, ngx_parse_size, ngx_str_t, ngx_thread_pool_add,
};
use ngx::http::{HttpModule, HttpModuleConfExt, NgxHttpCoreModule};

use super::args::{
    Args, DUPLICATE, Is, Refusal, Text, complex_value, directive, full_name, handler, ngx_str,
    number_of, parse_time, set_once,
};
use super::{LocConf, Location, MainConf, Param, Queue};
use crate::nginx::sys::panic::protect;
use crate::nginx::sys::{bits, log};
use crate::wsgi::mailbox::Level;
use crate::wsgi::slow::SlowRequest;
use crate::wsgi::status::wanted::Wanted;
use crate::wsgi::target::Target;

handler!(cmd_wsgi_python_home, MainConf, |args, conf| {
    set_once(&mut conf.python_home, || {
        let home = args.directory(0)?;
        let lib = home.join("lib").join(concat!("python", env!("WSGI_PYTHON_VERSION")));
        match lib.symlink_metadata() {
            Ok(_) => Ok(home),
            Err(err) => Err(Text(format!(
                "\"{}\" is no virtualenv or prefix of Python {}: \"{}\": {err}",
                home.display(),
                env!("WSGI_PYTHON_VERSION"),
                lib.display()
            ))),
        }
    })
});

handler!(cmd_wsgi_python_path, MainConf, |args, conf| {
    for n in 0..args.values.len() {
        let path = args.path(n)?;
        if !conf.python_path.contains(&path) {
            conf.python_path.push(path);
        }
    }
    Ok(())
});

handler!(cmd_wsgi_chdir, MainConf, |args, conf| set_once(&mut conf.chdir, || args.directory(0)));

handler!(cmd_wsgi_env, MainConf, |args, conf| {
    let (name, value) = (args.bytes(0), args.bytes(1));
    if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
        return Err(args.invalid(0));
    }
    if value.contains(&0) {
        return Err(args.invalid(1));
    }
    let name = OsString::from_vec(name.to_vec());
    if conf.env.iter().any(|(known, _)| *known == name) {
        return Err(Text(format!("\"{}\" is duplicate", args.shown(0))));
    }
    conf.env.push((name, OsString::from_vec(value.to_vec())));
    Ok(())
});

handler!(cmd_wsgi_misplaced, MainConf, |_, _| {
    Err(Is(c"is not allowed here: all servers share one interpreter (docs/several-sites.md)"))
});

handler!(cmd_wsgi_switch_interval, MainConf, |args, conf| {
    set_once(&mut conf.switch_interval, || match args.time(0)? {
        Duration::ZERO => Err(args.invalid(0)),
        time => Ok(time),
    })
});

handler!(cmd_wsgi_stdio_level, MainConf, |args, conf| {
    set_once(&mut conf.stdio_level, || Level::named(args.bytes(0)).ok_or_else(|| args.invalid(0)))
});

handler!(cmd_wsgi_shutdown_timeout, MainConf, |args, conf| {
    set_once(&mut conf.shutdown_timeout, || args.time(0))
});

handler!(cmd_wsgi_max_requests, MainConf, |args, conf| {
    set_once(&mut conf.max_requests, || {
        let number = args.number(0)?;
        if number == 0 {
            return Err(args.invalid(0));
        }
        let jitter = match args.bytes(1).strip_prefix(b"jitter=") {
            Some(text) => number_of(text).ok_or_else(|| args.invalid(1))?,
            None if args.values.len() > 1 => {
                return Err(Text(format!("invalid parameter \"{}\"", args.shown(1))));
            }
            None => 0,
        };
        Ok((number as u64, jitter as u64))
    })
});

handler!(cmd_wsgi_max_rss, MainConf, |args, conf| {
    set_once(&mut conf.max_rss, || {
        let size = usize::try_from(args.offset(0)?).unwrap_or(usize::MAX);
        if size == 0 { Err(args.invalid(0)) } else { Ok(size) }
    })
});

handler!(cmd_wsgi_check, LocConf, |args, conf| set_once(&mut conf.check, || args.flag(0)));

handler!(cmd_wsgi_check_timeout, MainConf, |args, conf| {
    set_once(&mut conf.check_timeout, || match args.time(0)? {
        Duration::ZERO => Err(args.invalid(0)),
        time => Ok(time),
    })
});

handler!(cmd_wsgi_reload, MainConf, |args, conf| set_once(&mut conf.reload, || args.flag(0)));

handler!(cmd_wsgi_balance, MainConf, |args, conf| {
    set_once(&mut conf.balance.on, || args.flag(0))
});

handler!(cmd_wsgi_debug, LocConf, |args, conf| {
    set_once(&mut conf.debug, || args.flag(0))?;
    if conf.debug() {
        let text = "\"wsgi_debug\" is on: source code is shown to clients";
        log::write_conf(args.cf, Level::Warn, format_args!("{text}"));
    }
    Ok(())
});

/// The content handler, which the entry of the directive in the table of commands carries.
fn content_handler(args: &Args<'_>) -> ngx_http_handler_pt {
    // SAFETY: `hooks.rs` puts a function of this type there, or nothing; a pointer to a function
    // has the size of any other.
    unsafe { std::mem::transmute::<*mut c_void, ngx_http_handler_pt>((*args.cmd).post) }
}

handler!(cmd_wsgi_status, LocConf, |args, conf| {
    if conf.app.is_some() {
        return Err(Is(c"and \"wsgi_app\" do not go together"));
    }
    set_once(&mut conf.status, || {
        let mut wanted = Wanted::default();
        match (0..args.values.len()).find(|n| !wanted.take(args.bytes(*n))) {
            Some(n) => Err(Text(format!("invalid parameter \"{}\"", args.shown(n)))),
            None => Ok(wanted),
        }
    })?;
    // SAFETY: nginx reads a location; its core module's configuration is there.
    unsafe {
        let ctx = &*(*args.cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let Some(mut clcf) = ctx.http_location_conf_unchecked(NgxHttpCoreModule::module()) else {
            return Err(Text(String::from("no location")));
        };
        let clcf: &mut ngx_http_core_loc_conf_t = clcf.as_mut();
        clcf.handler = content_handler(args);
    }
    Ok(())
});

handler!(cmd_wsgi_app, LocConf, |args, conf| {
    if conf.app.is_some() {
        return Err(DUPLICATE);
    }
    if conf.status.is_some() {
        return Err(Is(c"and \"wsgi_status\" do not go together"));
    }
    let mut target = Target::parse(args.text(0)?)
        .map_err(|err| Text(format!("invalid value \"{}\": {err}", args.shown(0))))?;
    if let Some(path) = target.source.file() {
        *path = full_name(args.cf, path)?;
        match path.metadata() {
            Ok(meta) if meta.is_file() => (),
            Ok(_) => return Err(Text(format!("\"{}\" is not a file", path.display()))),
            Err(err) => return Err(Text(format!("\"{}\": {err}", path.display()))),
        }
    }
    // SAFETY: nginx is reading a location; the core module's configuration of it is made first.
    unsafe {
        let ctx = &*(*args.cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let Some(mut clcf) = ctx.http_location_conf_unchecked(NgxHttpCoreModule::module()) else {
            return Err(Text(String::from("no location")));
        };
        let clcf: &mut ngx_http_core_loc_conf_t = clcf.as_mut();
        clcf.handler = content_handler(args);
        if clcf.name.as_bytes().last() == Some(&b'/') {
            bits::location::set_auto_redirect(clcf, true);
        }
        conf.app = Some((target, Location::of(args.cf)));
        conf.app_text = args.values.first().copied();
    }
    Ok(())
});

handler!(cmd_wsgi_thread_pool, LocConf, |args, conf| {
    if conf.thread_pool.is_some() {
        return Err(DUPLICATE);
    }
    if args.bytes(0).is_empty() {
        return Err(args.invalid(0));
    }
    let mut name = ngx_str(args.bytes(0));
    // SAFETY: the argument lives in the configuration's pool, as the pool's name must. A pool
    // that is declared nowhere is refused by nginx with this file and line.
    let pool = unsafe { ngx_thread_pool_add(args.cf, &mut name) };
    if pool.is_null() {
        return Err(Text(String::from("out of memory")));
    }
    conf.thread_pool = Some((args.shown(0), pool));
    Ok(())
});

handler!(cmd_wsgi_queue, LocConf, |args, conf| {
    set_once(&mut conf.queue, || {
        let limit = args.number(0)?;
        let timeout = match args.bytes(1).strip_prefix(b"timeout=") {
            Some(text) => match parse_time(text) {
                Some(time) if !time.is_zero() => Some(time),
                _ => return Err(args.invalid(1)),
            },
            None if args.values.len() > 1 => {
                return Err(Text(format!("invalid parameter \"{}\"", args.shown(1))));
            }
            None => None,
        };
        Ok(Queue { limit, timeout })
    })
});

handler!(cmd_wsgi_param, LocConf, |args, conf| {
    let name = args.bytes(0).to_vec();
    if name.is_empty() || name.len() > usize::from(u16::MAX) {
        return Err(Text(String::from("invalid name")));
    }
    if name.starts_with(b"wsgi.") {
        return Err(Text(format!("\"{}\" is not a variable of the request", args.shown(0))));
    }
    let skip_empty = match args.bytes(2) {
        b"if_not_empty" => true,
        b"" if args.values.len() < 3 => false,
        _ => return Err(Text(format!("invalid parameter \"{}\"", args.shown(2)))),
    };
    let value = complex_value(args.cf, &args.values[1])?;
    let params = Rc::get_mut(conf.params.get_or_insert_default())
        .ok_or_else(|| Text(String::from("configuration is shared")))?;
    params.push(Param { name, value, skip_empty });
    Ok(())
});

handler!(cmd_wsgi_mount, LocConf, |args, conf| {
    set_once(&mut conf.mount, || {
        let prefix = args.bytes(0);
        // Whole segments and no slash at the end; the root is no prefix.
        let good = prefix.first() == Some(&b'/')
            && prefix.last() != Some(&b'/')
            && !prefix.windows(2).any(|pair| pair == b"//")
            && !prefix.contains(&b'$')
            && !prefix.contains(&b'?');
        if good { Ok(Rc::from(prefix)) } else { Err(args.invalid(0)) }
    })
});

handler!(cmd_wsgi_buffering, LocConf, |args, conf| {
    set_once(&mut conf.buffering, || args.flag(0))
});

handler!(cmd_wsgi_buffer_size, LocConf, |args, conf| {
    set_once(&mut conf.buffer_size, || {
        // SAFETY: nginx only reads the string.
        let size = unsafe { ngx_parse_size(&mut ngx_str(args.bytes(0))) };
        usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| args.invalid(0))
    })
});

handler!(cmd_wsgi_max_temp_file_size, LocConf, |args, conf| {
    set_once(&mut conf.max_temp_file_size, || args.offset(0))
});

/// As nginx's own paths for temporary files. nginx makes the directory.
///
/// # Safety
///
/// Called by nginx for the directive of this name.
pub unsafe extern "C" fn cmd_wsgi_temp_path(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    protect(NGX_CONF_ERROR.cast(), || {
        // SAFETY: nginx's arguments; the command has the offset of the field, see `LocConf`.
        unsafe {
            match (*(*cf).args).as_slice::<ngx_str_t>() {
                // nginx would look for a slash in front of it.
                [_, path, ..] if path.len == 0 => c"has an empty path".as_ptr().cast_mut(),
                _ => ngx_conf_set_path_slot(cf, cmd, conf),
            }
        }
    })
}

handler!(cmd_wsgi_read_timeout, LocConf, |args, conf| {
    set_once(&mut conf.read_timeout, || match args.time(0)? {
        Duration::ZERO => Err(args.invalid(0)),
        time => Ok(time),
    })
});

handler!(cmd_wsgi_request_buffering, LocConf, |args, conf| {
    set_once(&mut conf.request_buffering, || args.flag(0))
});

handler!(cmd_wsgi_request_timeout, LocConf, |args, conf| {
    set_once(&mut conf.request_timeout, || args.time(0))
});

/// Frames of a stack that are logged when nothing else is said.
const STACK_DEPTH: u32 = 64;

handler!(cmd_wsgi_slow_request, LocConf, |args, conf| {
    set_once(&mut conf.slow_request, || {
        let mut slow = SlowRequest { time: args.time(0)?, repeat: None, depth: STACK_DEPTH };
        for n in 1..args.values.len() {
            if let Some(text) = args.bytes(n).strip_prefix(b"repeat=") {
                let time = parse_time(text).filter(|time| !time.is_zero());
                slow.repeat = Some(time.ok_or_else(|| args.invalid(n))?);
            } else if let Some(text) = args.bytes(n).strip_prefix(b"depth=") {
                let depth = number_of(text).and_then(|depth| u32::try_from(depth).ok());
                slow.depth = depth.filter(|depth| *depth > 0).ok_or_else(|| args.invalid(n))?;
            } else {
                return Err(Text(format!("invalid parameter \"{}\"", args.shown(n))));
            }
        }
        Ok(slow)
    })
});

handler!(cmd_wsgi_ignore_client_abort, LocConf, |args, conf| {
    set_once(&mut conf.ignore_client_abort, || args.flag(0))
});
