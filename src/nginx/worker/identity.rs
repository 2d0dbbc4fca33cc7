//! What a process is known by in shared memory, so that a dead one is known as such even when its
//! pid is another process's by now.
//!
//! Runs on: event loop.

use std::fs;

use ngx::ffi::ngx_pid;

/// The number of this process.
pub fn own_pid() -> u32 {
    // SAFETY: a plain variable of nginx.
    unsafe { ngx_pid }.unsigned_abs()
}

/// What a process is known by: the pid and, below it, when it was started.
pub fn identity(pid: u32) -> u64 {
    u64::from(pid) << 32 | u64::from(stat(pid).map_or(0, |(_, start)| start))
}

/// Whether the process with this [`identity`] still runs.
pub fn is_alive(holder: u64) -> bool {
    is_there(holder, b"ZX")
}

/// Whether it runs, which a process that is stopped does not.
pub fn runs(holder: u64) -> bool {
    is_there(holder, b"ZXTt")
}

/// Whether the process is there, and in none of these states.
fn is_there(holder: u64, but_not: &[u8]) -> bool {
    let (pid, started) = ((holder >> 32) as u32, holder as u32);
    match stat(pid) {
        Some((state, start)) => start == started && !but_not.contains(&state),
        // SAFETY: signal 0 is not sent. Without /proc this is all there is to know.
        None => started == 0 && unsafe { libc::kill(pid as libc::pid_t, 0) } == 0,
    }
}

/// State and, in part, start of a process (proc(5), /proc/PID/stat).
fn stat(pid: u32) -> Option<(u8, u32)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.bytes().next()?;
    let start: u64 = fields.nth(18)?.parse().ok()?;
    Some((state, start as u32))
}
