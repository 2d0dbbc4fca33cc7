//! Tells the crate what it is built for: features of nginx by capability, and which Python.
//!
//! nginx-sys hands its findings over as `DEP_NGINX_*`; versions of nginx are never compared here.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    nginx_capabilities()?;
    python()
}

/// `ngx_multi_headers`: repeated headers are linked through `ngx_table_elt_t.next`.
fn nginx_capabilities() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(ngx_multi_headers)");
    let include = env::var_os("DEP_NGINX_INCLUDE").ok_or("nginx-sys gave no include path")?;
    let hash_h = env::split_paths(&include)
        .map(|dir| dir.join("ngx_hash.h"))
        .find(|path| path.is_file())
        .ok_or("ngx_hash.h is not in nginx's include path")?;
    println!("cargo::rerun-if-changed={}", hash_h.display());
    let text = fs::read_to_string(hash_h)?;
    let element = text.find("ngx_table_elt_s").map_or("", |at| &text[at..]);
    let element = element.split('}').next().unwrap_or_default();
    if element.contains("*next;") {
        println!("cargo::rustc-cfg=ngx_multi_headers");
    }
    Ok(())
}

/// `WSGI_PYTHON_VERSION` (`3.11`) and `WSGI_PYTHON_PREFIX` (where its standard library lies).
fn python() -> Result<(), Box<dyn Error>> {
    pyo3_build_config::use_pyo3_cfgs();
    let config = pyo3_build_config::get();
    println!("cargo::rustc-env=WSGI_PYTHON_VERSION={}", config.version());
    let executable = config.executable().ok_or("no Python interpreter was found")?;
    let output = Command::new(PathBuf::from(executable))
        .args(["-I", "-c", "import sys; print(sys.base_prefix)"])
        .output()?;
    let prefix = String::from_utf8(output.stdout)?;
    println!("cargo::rustc-env=WSGI_PYTHON_PREFIX={}", prefix.trim());
    Ok(())
}
