//! The event loop: everything that names nginx's types, and every unsafe call into nginx.
//!
//! `sys` is nginx as the others would like it; `config` is what is written in nginx.conf, `check`
//! tries the applications of a new one in a child. `worker` is a process, its pools and its life.
//! `request` is what a request keeps, `response` is what goes to the client, `handler` is nginx's
//! content handler: from a request to a job in a queue, in time. `websocket` passes on what goes between
//! a client and an application that has taken its connection over. `mail` is what threads tell the
//! event loop, `exit` the way out of a worker, `hooks` what nginx calls.
//! Runs on: event loop, unless a file says otherwise.

pub mod sys;

pub mod config;

pub mod worker;

mod check;
pub mod request;

pub mod response;

pub mod balance;
pub mod websocket;

pub mod handler;

pub mod status;

mod mail;

mod exit;

mod hooks;
