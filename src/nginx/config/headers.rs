//! The handlers of the directives of [`HeaderPolicy`](crate::wsgi::header_policy::HeaderPolicy).
//!
//! Runs on: event loop (configuration, in the master).

use std::ffi::{c_char, c_void};
use std::rc::Rc;

use ngx::ffi::{ngx_command_t, ngx_conf_t};

use super::LocConf;
use super::args::{Args, Refusal, Text, directive, handler, set_once};
use crate::nginx::sys::log;
use crate::wsgi::header_policy::{IGNORABLE, Names};
use crate::wsgi::mailbox::Level;

/// One more name; nginx takes any, and any number of them.
fn name(args: &Args<'_>, names: &mut Option<Rc<Names>>) -> Result<(), Refusal> {
    let names = Rc::get_mut(names.get_or_insert_default())
        .ok_or_else(|| Text(String::from("configuration is shared")))?;
    names.push(args.bytes(0).to_vec());
    Ok(())
}

handler!(cmd_wsgi_hide_header, LocConf, |args, conf| name(args, &mut conf.policy.hide));

handler!(cmd_wsgi_pass_header, LocConf, |args, conf| name(args, &mut conf.policy.pass));

handler!(cmd_wsgi_ignore_headers, LocConf, |args, conf| {
    for n in 0..args.values.len() {
        let known = |name: &&str| name.as_bytes().eq_ignore_ascii_case(args.bytes(n));
        let bit = IGNORABLE.iter().position(known).ok_or_else(|| args.invalid(n))?;
        if conf.policy.ignored & 1 << bit != 0 {
            let text = args.shown(n);
            log::write_conf(args.cf, Level::Warn, format_args!("duplicate value \"{text}\""));
        }
        conf.policy.ignored |= 1 << bit;
    }
    Ok(())
});

handler!(cmd_wsgi_intercept_errors, LocConf, |args, conf| {
    set_once(&mut conf.policy.intercept_errors, || args.flag(0))
});

handler!(cmd_wsgi_force_ranges, LocConf, |args, conf| set_once(
    &mut conf.policy.force_ranges,
    || args.flag(0)
));

handler!(cmd_wsgi_pass_request_headers, LocConf, |args, conf| {
    set_once(&mut conf.policy.pass_request_headers, || args.flag(0))
});

handler!(cmd_wsgi_pass_request_body, LocConf, |args, conf| {
    set_once(&mut conf.policy.pass_request_body, || args.flag(0))
});
