//! The handlers of the directives about WebSockets.
//!
//! Runs on: event loop (configuration, in the master).

use std::ffi::{c_char, c_void};
use std::time::Duration;

use ngx::ffi::{ngx_command_t, ngx_conf_t};

use super::args::{Args, Refusal, Text, directive, handler, parse_time, set_once};
use super::websocket::lock_file;
use super::{LocConf, MainConf};

handler!(cmd_wsgi_websocket, LocConf, |args, conf| {
    set_once(&mut conf.websocket.on, || args.flag(0))
});

handler!(cmd_wsgi_websocket_threads, LocConf, |args, conf| {
    set_once(&mut conf.websocket.threads, || match args.number(0)? {
        0 => Err(args.invalid(0)),
        number => Ok(number),
    })
});

handler!(cmd_wsgi_websocket_max_message, LocConf, |args, conf| {
    set_once(&mut conf.websocket.max_message, || match args.offset(0)? {
        0 => Err(args.invalid(0)),
        size => Ok(size),
    })
});

handler!(cmd_wsgi_websocket_ping, LocConf, |args, conf| {
    set_once(&mut conf.websocket.ping, || {
        let timeout = match args.bytes(1).strip_prefix(b"timeout=") {
            Some(text) => match parse_time(text) {
                Some(time) if !time.is_zero() => time,
                _ => return Err(args.invalid(1)),
            },
            None if args.values.len() > 1 => {
                return Err(Text(format!("invalid parameter \"{}\"", args.shown(1))));
            }
            None => Duration::from_secs(10),
        };
        Ok((args.time(0)?, timeout))
    })
});

handler!(cmd_wsgi_uwsgi_api, MainConf, |args, conf| {
    // In the master: its children have it from there.
    lock_file();
    set_once(&mut conf.uwsgi_api, || args.flag(0))
});
