//! Python stacks as text, and the frames in them.
//!
//! Python's `traceback` writes the innermost frame last, its `faulthandler`, which needs no GIL,
//! writes it first.
//! Runs on: event loop.

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub file: String,
    pub line: u64,
    pub function: String,
    /// The line itself; empty: unknown.
    pub source: String,
}

impl Frame {
    /// `report.py:88 execute`, with the last two parts of the path.
    pub fn short(&self) -> String {
        let parts: Vec<&str> = self.file.rsplit('/').take(2).collect();
        let file: Vec<&str> = parts.into_iter().rev().collect();
        format!("{}:{} {}", file.join("/"), self.line, self.function)
    }
}

/// What a worker says of its threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    /// Somebody holds the GIL: the stacks were found without it.
    pub is_held: bool,
    /// By slot and number of the request in the worker that has the client.
    pub requests: Vec<(u64, u64, Vec<Frame>)>,
    /// Threads that are at no request, if the GIL is held.
    pub threads: Vec<Vec<Frame>>,
}

impl Dump {
    /// A line each: `held`, `thread`, `request SLOT ID`, and the frames behind them.
    pub fn write(&self) -> String {
        let mut out = String::new();
        let mut line = |parts: &[&str]| {
            let parts: Vec<String> =
                parts.iter().map(|part| part.replace(['\n', '\t'], " ")).collect();
            out.push_str(&parts.join("\t"));
            out.push('\n');
        };
        if self.is_held {
            line(&["held"]);
        }
        let frames = |line: &mut dyn FnMut(&[&str]), frames: &[Frame]| {
            for Frame { file, line: number, function, source } in frames {
                line(&["frame", file, &number.to_string(), function, source]);
            }
        };
        for (slot, id, stack) in &self.requests {
            line(&["request", &slot.to_string(), &id.to_string()]);
            frames(&mut line, stack);
        }
        for stack in &self.threads {
            line(&["thread"]);
            frames(&mut line, stack);
        }
        out
    }

    /// What another worker has written; lines that are not understood are left out.
    pub fn read(text: &str) -> Self {
        let mut dump = Self::default();
        let mut is_thread = false;
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["held"] => dump.is_held = true,
                ["thread"] => {
                    is_thread = true;
                    dump.threads.push(Vec::new());
                }
                ["request", slot, id] => {
                    let (Ok(slot), Ok(id)) = (slot.parse(), id.parse()) else { continue };
                    is_thread = false;
                    dump.requests.push((slot, id, Vec::new()));
                }
                ["frame", file, number, function, source] => {
                    let Ok(line) = number.parse() else { continue };
                    let (file, function) = (file.to_owned(), function.to_owned());
                    let frame = Frame { file, line, function, source: source.to_owned() };
                    let frames = if is_thread {
                        dump.threads.last_mut()
                    } else {
                        dump.requests.last_mut().map(|(.., frames)| frames)
                    };
                    if let Some(frames) = frames {
                        frames.push(frame);
                    }
                }
                _ => (),
            }
        }
        dump
    }
}

/// The frames of a stack that `traceback` has written, the innermost last.
pub fn frames(text: &str) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for line in text.lines() {
        if let Some(frame) = frame(line) {
            frames.push(frame);
        } else if let Some(last) = frames.last_mut()
            && last.source.is_empty()
        {
            line.trim().clone_into(&mut last.source);
        }
    }
    frames
}

/// `  File "x.py", line 1, in f`, as `traceback` writes it, or without the second comma.
fn frame(line: &str) -> Option<Frame> {
    let rest = line.strip_prefix("  File \"")?;
    let (file, rest) = rest.rsplit_once("\", line ")?;
    let (number, function) = rest.split_once(" in ")?;
    let line = number.trim_end_matches(',').parse().ok()?;
    Some(Frame {
        file: file.to_owned(),
        line,
        function: function.to_owned(),
        source: String::new(),
    })
}

/// What `faulthandler` has written: the identity of each thread and its frames, the innermost last.
pub fn threads<S: AsRef<str>>(lines: &[S]) -> Vec<(u64, Vec<Frame>)> {
    let mut threads: Vec<(u64, Vec<Frame>)> = Vec::new();
    for line in lines.iter().map(AsRef::as_ref) {
        if let Some(ident) = ident(line) {
            threads.push((ident, Vec::new()));
        } else if let (Some(frame), Some((_, frames))) = (frame(line), threads.last_mut()) {
            frames.insert(0, frame);
        }
    }
    threads
}

/// `Thread 0x00007f3c (most recent call first):`, or `Current thread`, perhaps with a name.
fn ident(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("Current thread 0x").or(line.strip_prefix("Thread 0x"))?;
    let digits = rest.split(' ').next()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn stack() -> impl Strategy<Value = Vec<Frame>> {
        let text = "[^\\x00-\\x1f\\x7f-\\x9f\u{2028}\u{2029}]{0,20}";
        vec((text, any::<u64>(), text, text), 0..4).prop_map(|frames| {
            let frame = |(file, line, function, source)| Frame { file, line, function, source };
            frames.into_iter().map(frame).collect()
        })
    }

    proptest! {
        #[test]
        fn a_dump_is_read_as_it_was_written(
            is_held in any::<bool>(),
            requests in vec((any::<u64>(), any::<u64>(), stack()), 0..4),
            threads in vec(stack(), 0..3),
        ) {
            let dump = Dump { is_held, requests, threads };
            prop_assert_eq!(Dump::read(&dump.write()), dump);
        }

        #[test]
        fn any_text_is_some_dump(text in "(frame|request|thread|held|[0-9\\t\\n]|.){0,30}") {
            let dump = Dump::read(&text);
            prop_assert_eq!(Dump::read(&dump.write()), dump);
        }
    }

    #[test]
    fn both_forms_give_the_same_frames() {
        let found = frames(
            "  File \"/srv/shop/wsgi.py\", line 3, in application\n    return report(1)\n  \
             File \"/srv/shop/report.py\", line 88, in execute\n    cursor.run(\", line 7 in x\")\n",
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].source, "return report(1)");
        assert_eq!(found[1].short(), "shop/report.py:88 execute");
        let lines = [
            "Thread 0x00007f0000000010 (most recent call first):",
            "  File \"/srv/shop/report.py\", line 88 in execute",
            "  File \"/srv/shop/wsgi.py\", line 3 in application",
            "",
            "Current thread 0x00007f0000000020 [wsgi-1] (most recent call first):",
            "  <no Python frame>",
        ];
        let found = threads(&lines);
        assert_eq!((found[0].0, found[1].0), (0x7f00_0000_0010, 0x7f00_0000_0020));
        assert_eq!(found[0].1[1].short(), "shop/report.py:88 execute");
        assert!(found[1].1.is_empty());
    }
}
