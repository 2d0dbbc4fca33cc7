//! Tells the crate what it is built for: features of nginx by capability, and which Python.
//!
//! nginx-sys hands its findings over as `DEP_NGINX_*`; versions of nginx are never compared here.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bindgen::FieldVisibilityKind;
use bindgen::callbacks::{FieldInfo, ParseCallbacks};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    nginx_capabilities()?;
    structures()?;
    test_library()?;
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

/// `nginx.rs` in OUT_DIR: the structures that `src/nginx/sys` needs from another bindgen than
/// nginx-sys has, see there. And what their parser comes upon:
///
/// * `ngx_linked_headers`: headers of one name form a list (nginx 1.23 and later), not an array.
/// * `WSGI_TEMP_PATH`: beside the directory that nginx has for uwsgi, and named like it.
fn structures() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(ngx_linked_headers)");
    let found = Arc::new(Mutex::new(Found::default()));
    let bindings = bindgen::builder()
        .header("src/nginx/sys/nginx.h")
        .clang_args(include_dirs()?.iter().map(|dir| format!("-I{}", dir.display())))
        .clang_args(defines())
        .allowlist_type(STRUCTURES)
        .generate_comments(false)
        .derive_copy(false)
        .derive_debug(false)
        .use_core()
        .rust_target(env::var("CARGO_PKG_RUST_VERSION")?.parse()?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::None)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .parse_callbacks(Box::new(Finder(Arc::clone(&found))))
        .generate()?;
    bindings.write_to_file(out_dir()?.join("nginx.rs"))?;

    let found = found.lock().map_err(|_| "bindgen has panicked")?;
    if found.linked_headers {
        println!("cargo::rustc-cfg=ngx_linked_headers");
    }
    let uwsgi = PathBuf::from(found.uwsgi_temp_path.as_deref().unwrap_or("uwsgi_temp"));
    let name = uwsgi.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = if name.contains("uwsgi") { name.replace("uwsgi", "wsgi") } else { "wsgi".into() };
    println!("cargo::rustc-env=WSGI_TEMP_PATH={}", uwsgi.with_file_name(name).display());
    Ok(())
}

/// What is used of nginx and has bit-fields, and what its headers leave out.
const STRUCTURES: &str = "ngx_(http_request|http_core_loc_conf|buf|event|(ssl_)?connection\
                          |cycle|file|listening|thread_pool)_s\
                          |ngx_(http_(core_srv_conf|headers_in|request_body|compile_complex_value)\
                          |variable_value|temp_file)_t\
                          |declared_thread_pool_s|ngx_http_wsgi_event_e";

#[derive(Debug, Default)]
struct Found {
    linked_headers: bool,
    uwsgi_temp_path: Option<String>,
}

/// Hears of each field and each macro.
#[derive(Debug)]
struct Finder(Arc<Mutex<Found>>);

impl ParseCallbacks for Finder {
    fn field_visibility(&self, field: FieldInfo<'_>) -> Option<FieldVisibilityKind> {
        if field.type_name == "ngx_table_elt_s" && field.field_name == "next" {
            self.0.lock().ok()?.linked_headers = true;
        }
        None
    }

    fn str_macro(&self, name: &str, value: &[u8]) {
        if name == "NGX_HTTP_UWSGI_TEMP_PATH"
            && let Ok(mut found) = self.0.lock()
        {
            found.uwsgi_temp_path = Some(String::from_utf8_lossy(value).into_owned());
        }
    }
}

/// `libbits.a` in OUT_DIR: the C side of the tests of `src/nginx/sys`. Only they name it.
fn test_library() -> Result<(), Box<dyn Error>> {
    let mut build = cc::Build::new();
    build.file("src/nginx/sys/tests/bits.c").includes(include_dirs()?).warnings(false);
    for define in defines() {
        build.flag(define);
    }
    build.cargo_metadata(false).try_compile("bits")?;
    println!("cargo::rerun-if-changed=src/nginx/sys/tests/bits.c");
    println!("cargo::rustc-link-search=native={}", out_dir()?.display());
    Ok(())
}

fn out_dir() -> Result<PathBuf, Box<dyn Error>> {
    Ok(env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?.into())
}

/// Where nginx's headers are.
fn include_dirs() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let include = env::var_os("DEP_NGINX_INCLUDE").ok_or("nginx-sys names no headers")?;
    Ok(env::split_paths(&include).collect())
}

/// The -D options that nginx is compiled with.
fn defines() -> Vec<String> {
    // nginx-sys 0.5.0 tells them in cargo's older way, in which "metadata" is a name.
    let flags = env::var("DEP_NGINX_CFLAGS").or_else(|_| env::var("DEP_NGINX_METADATA"));
    let flags = flags.unwrap_or_default();
    flags.trim_start_matches("cflags=").split_whitespace().map(str::to_owned).collect()
}

/// `WSGI_PYTHON_VERSION` (`3.11`), `WSGI_PYTHON_PREFIX` (where its standard library lies), and the
/// way to its libpython. A file in PYO3_CONFIG_FILE may name a version and no executable: then the
/// module has no prefix, is linked with no libpython, and fits wherever that Python lies.
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
    let Some(executable) = config.executable() else {
        return match env::var_os("PYO3_CONFIG_FILE") {
            Some(_) => Ok(()),
            None => Err("no Python interpreter was found".into()),
        };
    };
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
