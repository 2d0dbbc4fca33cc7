//! The handlers of the directives about what an application sees around it.
//!
//! Runs on: event loop (configuration, in the master).

use std::ffi::{c_char, c_void};

use ngx::ffi::{ngx_command_t, ngx_conf_t};

use super::MainConf;
use super::args::{Args, Refusal, Text, directive, handler, set_once};

handler!(cmd_wsgi_tzset, MainConf, |args, conf| set_once(&mut conf.tzset, || args.flag(0)));

handler!(cmd_wsgi_umask, MainConf, |args, conf| {
    set_once(&mut conf.umask, || {
        let text = args.bytes(0);
        let is_octal =
            matches!(text.len(), 3 | 4) && text.iter().all(|c| (b'0'..=b'7').contains(c));
        let umask = text.iter().fold(0, |umask, c| umask << 3 | libc::mode_t::from(c & 7));
        if is_octal && umask <= 0o777 {
            return Ok(umask);
        }
        let shown = args.shown(0);
        Err(Text(format!("invalid value \"{shown}\", it must be octal, from \"000\" to \"0777\"")))
    })
});
