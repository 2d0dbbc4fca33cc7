//! Tells the crate what it is built for: features of nginx by capability, and which Python.
//!
//! nginx-sys hands its findings over as `DEP_NGINX_*`; versions of nginx are never compared here.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    nginx_capabilities()?;
    linked_headers()?;
    temp_path()?;
    python()
}

/// `ngx_feature`: what nginx was configured with, as far as structures and modules depend on it.
fn nginx_capabilities() -> Result<(), Box<dyn Error>> {
    let known = env::var("DEP_NGINX_FEATURES_CHECK")?;
    println!("cargo::rustc-check-cfg=cfg(ngx_feature, values({known}))");
    let features = env::var("DEP_NGINX_FEATURES")?;
    for feature in features.split(',').map(str::trim) {
        println!("cargo::rustc-cfg=ngx_feature=\"{feature}\"");
    }
    for needed in ["http", "threads"] {
        if !features.split(',').any(|feature| feature.trim() == needed) {
            return Err(format!("nginx is configured without {needed}").into());
        }
    }
    Ok(())
}

/// `ngx_linked_headers`: headers of one name form a list (nginx 1.23 and later), not an array.
fn linked_headers() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(ngx_linked_headers)");
    let text = header("ngx_hash.h")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.windows(2).any(|pair| pair == ["ngx_table_elt_t", "*next;"]) {
        println!("cargo::rustc-cfg=ngx_linked_headers");
    }
    Ok(())
}

/// `WSGI_TEMP_PATH`: beside the directory that nginx has for uwsgi, and named like it.
fn temp_path() -> Result<(), Box<dyn Error>> {
    let text = header("ngx_auto_config.h")?;
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = lines.find_map(|words| match &words[..] {
        ["#define", "NGX_HTTP_UWSGI_TEMP_PATH", path] => Some(path.trim_matches('"').to_owned()),
        _ => None,
    });
    let uwsgi = PathBuf::from(found.unwrap_or_else(|| String::from("uwsgi_temp")));
    let name = uwsgi.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = if name.contains("uwsgi") { name.replace("uwsgi", "wsgi") } else { "wsgi".into() };
    println!("cargo::rustc-env=WSGI_TEMP_PATH={}", uwsgi.with_file_name(name).display());
    Ok(())
}

/// The text of one of nginx's headers.
fn header(name: &str) -> Result<String, Box<dyn Error>> {
    let include = env::var_os("DEP_NGINX_INCLUDE").ok_or("nginx-sys names no headers")?;
    let header = env::split_paths(&include)
        .map(|dir| dir.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| format!("{name} is not among nginx's headers"))?;
    Ok(fs::read_to_string(header)?)
}

/// `WSGI_PYTHON_VERSION` (`3.11`), `WSGI_PYTHON_PREFIX` (where its standard library lies), and the
/// way to its libpython.
fn python() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");
    pyo3_build_config::use_pyo3_cfgs();
    let config = pyo3_build_config::get();
    // Much here is only right while one thread at a time is in Python.
    if config.target_abi().kind().is_free_threaded() {
        return Err(
            "a free-threaded Python is not supported: set PYO3_PYTHON to one with a GIL".into()
        );
    }
    println!("cargo::rustc-env=WSGI_PYTHON_VERSION={}", config.version());
    let executable = config.executable().ok_or("no Python interpreter was found")?;
    let output =
        Command::new(PathBuf::from(executable)).args(["-I", "-c", PLACES]).output()?.stdout;
    let output = String::from_utf8(output)?;
    let (prefix, library) =
        output.trim().split_once('\n').ok_or("Python does not say where it is")?;
    println!("cargo::rustc-env=WSGI_PYTHON_PREFIX={prefix}");
    // The dynamic loader looks into the system's directories by itself.
    let system = ["/lib", "/usr/lib"].iter().any(|dir| Path::new(library).starts_with(dir));
    if !system {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{library}");
    }
    Ok(())
}

/// Prints the prefix, and the directory of the libpython that this Python runs on; of one that is
/// linked without, where sysconfig has it.
const PLACES: &str = r#"
import os, re, sys, sysconfig
print(sys.base_prefix)
maps = open("/proc/self/maps").read()
mapped = re.search(r"(/.*)/libpython[^/\n]*\.so[.0-9]*$", maps, re.M)
print(os.path.realpath(mapped[1] if mapped else sysconfig.get_config_var("LIBDIR")))
"#;
