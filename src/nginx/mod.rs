//! The event loop: everything that names nginx's types, and every unsafe call into nginx.
//!
//! `handler` takes a request whose body nginx has read (or reads, see `unbuffered`) and hands it to
//! `dispatch`, which queues it for a pool thread; `wakeup` tells that something came back, and `response` turns it into
//! nginx's `headers` and chains. `context` is what one request keeps meanwhile. `conf` is the
//! configuration, `guard` the way out of a worker, `process` what a worker changes of its process, `surroundings` what an
//! application sees of it, `children` what its children inherit;
//! `sys` is what nginx-sys leaves out or gets wrong, bit-fields above all;
//! `clock` keeps the time zone of its logs. `check` lets a
//! child try the applications of a new configuration, which is `check_child`.
//! Runs on: event loop, but for `dispatch::ngx_http_wsgi_runner`.

pub mod accel;
mod account;
mod body;
pub mod check;
mod check_child;
pub mod children;
pub mod clock;
pub mod conf;
pub mod context;
pub mod directives;
pub mod dispatch;
pub mod guard;
pub mod handler;
mod handover;
pub mod headers;
pub mod imports;
pub mod intercept;
pub mod log;
mod pool;
pub mod process;
pub mod refuse;
pub mod reload;
pub mod response;
pub mod retire;
pub mod retry;
mod shadow;
pub mod summons;
pub mod surroundings;
pub mod sys;
mod timer;
pub mod unbuffered;
pub mod variables;
pub mod vars;
pub mod wakeup;
pub mod watch;
mod zone;
