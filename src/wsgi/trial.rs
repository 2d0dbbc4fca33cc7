//! What the child of `wsgi_check` tells the master, a line each; its first byte says what it is.
//!
//! `nginx/check/child.rs` writes it, `nginx/check/trial.rs` reads it. The code that is imported
//! runs in the same process and can write into the same pipe whatever it likes. At most that code
//! makes its own trial pass or fail, as it could by what it does at the import: of what is told,
//! only text that is fit for the log gets out, and not more of it than anybody would read.
//! Runs on: event loop (configuration, in the master).

/// An application is imported now; its index follows.
pub const BEGIN: &str = "+";
/// It failed: the cause, then the traceback follow.
pub const CAUSE: &str = "!";
/// The same for one that is in conflict with another.
pub const CONFLICT: &str = "~";
pub const TRACEBACK: &str = "-";
/// All is said.
pub const DONE: &[u8] = b"=\n";

/// Lines for the log that are made of a traceback, or of an output, at most.
pub const MOST_LINES: usize = 1000;

/// What has been told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Index of the application that was imported last.
    pub app: Option<usize>,
    pub cause: Option<String>,
    pub traceback: Vec<String>,
    pub is_conflict: bool,
}

impl Answer {
    /// `printable` makes text of any kind lines for the log.
    pub fn read(bytes: &[u8], printable: fn(&[u8]) -> Vec<String>) -> Self {
        let mut answer = Self::default();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some((kind, text)) = line.split_first() else { continue };
            match std::str::from_utf8(&[*kind]) {
                Ok(BEGIN) => {
                    let index = std::str::from_utf8(text).ok();
                    answer.app = index.and_then(|index| index.trim_end().parse().ok());
                }
                Ok(kind @ (CAUSE | CONFLICT)) => {
                    answer.cause = Some(printable(text).into_iter().next().unwrap_or_default());
                    answer.is_conflict = kind == CONFLICT;
                }
                Ok(TRACEBACK) if answer.traceback.len() < MOST_LINES => {
                    answer.traceback.extend(printable(text));
                    if answer.traceback.len() >= MOST_LINES {
                        answer.traceback.truncate(MOST_LINES - 1);
                        answer.traceback.push(String::from("..."));
                    }
                }
                _ => (),
            }
        }
        answer
    }
}

/// Whether all is said.
pub fn is_done(answer: &[u8]) -> bool {
    answer.strip_suffix(DONE).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks what has gone through, and cuts the text as the real function does.
    fn printable(text: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(text);
        let text: Vec<_> = text.trim_end_matches('\n').chars().collect();
        text.chunks(8).map(|chunk| format!("<{}>", chunk.iter().collect::<String>())).collect()
    }

    fn read(bytes: &[u8]) -> Answer {
        Answer::read(bytes, printable)
    }

    #[test]
    fn a_failure_is_read_as_it_was_told() {
        let answer = read(b"+0\n+1\n!burnt\n-  File\n-    x\n=\n");
        assert_eq!((answer.app, answer.cause.as_deref()), (Some(1), Some("<burnt>")));
        assert_eq!(answer.traceback, ["<  File>", "<    x>"]);
        assert!(!answer.is_conflict && read(b"~two sites\n").is_conflict);
        assert_eq!(read(b"+0\n=\n"), Answer { app: Some(0), ..Answer::default() });
        assert!(is_done(b"+0\n=\n") && is_done(b"=\n") && !is_done(b"+0\nx=\n"));
    }

    #[test]
    fn all_text_that_was_written_into_the_pipe_is_made_printable() {
        let answer = read(b"!\x1b]0;owned\x07\n-\x1b[2J\n-\xff\x00\n");
        assert_eq!(answer.cause.as_deref(), Some("<\x1b]0;owne>"));
        assert_eq!(answer.traceback, ["<\x1b[2J>", "<\u{fffd}\0>"]);
        // Unknown kinds, no kind, numbers that are none.
        for bytes in [&b"?x\n"[..], b"\n", b"", b"\x1b\n", b"\xff\n", b"+\n", b"+-1\n", b"+\x1b\n"]
        {
            assert_eq!(read(bytes), Answer::default(), "{bytes:?}");
        }
    }

    #[test]
    fn a_flood_is_cut() {
        let lines = read(&b"-x\n".repeat(300_000)).traceback;
        assert_eq!((lines.len(), lines[MOST_LINES - 1].as_str()), (MOST_LINES, "..."));
        let mut long = vec![b'-'];
        long.resize(1 << 20, 0x1b);
        assert_eq!(read(&long).traceback.len(), MOST_LINES);
        long[0] = b'!';
        assert_eq!(read(&long).cause.map(|cause| cause.len()), Some(10));
    }
}
