//! What a runner's thread is called: `wsgi-3`, the third of the pool `wsgi` in its worker.
//!
//! The kernel keeps 15 bytes of it. Runs on: pool thread.

/// What the kernel keeps of a name.
pub const MAX: usize = 15;

/// Unique in a worker: of a name that has to be cut, the pool's index is a part.
pub fn thread_name(pool: &str, index: usize, number: usize) -> String {
    let whole = format!("{pool}-{number}");
    if whole.len() <= MAX {
        return whole;
    }
    let end = format!("~{index}-{number}");
    let room = MAX.saturating_sub(end.len());
    let ends = pool.char_indices().map(|(at, char)| at + char.len_utf8());
    let begin = ends.take_while(|end| *end <= room).last().unwrap_or(0);
    format!("{}{end}", &pool[..begin])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_unique() {
        assert_eq!(thread_name("wsgi", 0, 3), "wsgi-3");
        assert_eq!(thread_name("applications1", 1, 3), "applications1-3");
        assert_eq!(thread_name("applications1", 1, 12), "applicatio~1-12");
        assert_eq!(thread_name("applications2", 2, 12), "applicatio~2-12");
        assert_eq!(thread_name("ääääääää", 0, 1), "äääää~0-1");
    }
}
