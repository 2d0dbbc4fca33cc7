//! Text from outside, without what would change how the text around it is shown.
//!
//! Runs on: event loop.

/// Control characters, and those that change the direction of writing, become `\u{..}`.
pub fn visible(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A time as people say it.
pub fn time(msec: u64) -> String {
    match msec {
        0..1000 => format!("{msec} ms"),
        1000..10_000 => format!("{:.1} s", msec as f64 / 1000.0),
        10_000..120_000 => format!("{} s", msec / 1000),
        120_000..7_200_000 => format!("{} min", msec / 60_000),
        7_200_000..172_800_000 => format!("{} h", msec / 3_600_000),
        _ => format!("{} d", msec / 86_400_000),
    }
}

/// A size as people say it.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
