//! A record in shared memory that one process writes and others read, whole or not at all.
//!
//! The version is odd while the record is being written (a sequence lock). A reader that meets a
//! writer tries again, and gives up on a writer that has died or was stopped in the midst of it.
//! Runs on: event loop.

use std::hint;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A writer needs some nanoseconds.
const TRIES: usize = 1000;

/// `N` words. All zero at first.
#[derive(Debug)]
#[repr(align(64))]
pub struct Cell<const N: usize> {
    version: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Default for Cell<N> {
    fn default() -> Self {
        Self { version: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> Cell<N> {
    /// Writes the first words; those behind them stay. There is one writer at a time; what another
    /// one has left half written, which has died since, is written over.
    pub fn write(&self, words: &[u64]) {
        let version = self.version.load(Ordering::Relaxed) | 1;
        self.version.store(version, Ordering::Relaxed);
        // No word is seen before the version is odd.
        fence(Ordering::Release);
        for (to, word) in self.words.iter().zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(1), Ordering::Release);
    }

    /// `None`: it is half written.
    pub fn read(&self) -> Option<[u64; N]> {
        (0..TRIES).find_map(|_| {
            let version = self.version.load(Ordering::Acquire);
            let words = std::array::from_fn(|n| self.words[n].load(Ordering::Relaxed));
            // No word is read after the version is looked at again.
            fence(Ordering::Acquire);
            if version & 1 == 0 && self.version.load(Ordering::Relaxed) == version {
                return Some(words);
            }
            hint::spin_loop();
            None
        })
    }
}

/// Puts numbers and texts into words, one behind the other.
pub struct Packer<const N: usize> {
    words: [u64; N],
    at: usize,
}

impl<const N: usize> Default for Packer<N> {
    fn default() -> Self {
        Self { words: [0; N], at: 0 }
    }
}

impl<const N: usize> Packer<N> {
    pub fn number(mut self, number: u64) -> Self {
        self.words[self.at] = number;
        self.at += 1;
        self
    }

    /// At most so many words of a text, and one for its length.
    pub fn text(self, text: &[u8], words: usize) -> Self {
        let text = &text[..text.len().min(8 * words)];
        let mut this = self.number(text.len() as u64);
        let to = &mut this.words[this.at..this.at + words];
        for (word, bytes) in to.iter_mut().zip(text.chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(eight);
        }
        this.at += words;
        this
    }

    pub fn words(self) -> [u64; N] {
        self.words
    }
}

/// Takes them out again, in the same order.
pub struct Unpacker<'a> {
    rest: &'a [u64],
}

impl<'a> Unpacker<'a> {
    pub fn new(words: &'a [u64]) -> Self {
        Self { rest: words }
    }

    pub fn number(&mut self) -> u64 {
        let Some((number, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *number
    }

    /// A text that was put in with as many words, and what is not UTF-8 of it replaced.
    pub fn text(&mut self, words: usize) -> String {
        let len = usize::try_from(self.number()).unwrap_or(usize::MAX);
        let (text, rest) = self.rest.split_at(words.min(self.rest.len()));
        self.rest = rest;
        let mut bytes: Vec<u8> = text.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(len);
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        // Where it was cut, a character may have been.
        if len == 8 * words && text.ends_with(char::REPLACEMENT_CHARACTER) {
            text.pop();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn a_reader_never_sees_half_of_a_record() {
        let (cell, done) = (Cell::<63>::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::Acquire) {
                    if let Some(words) = cell.read() {
                        assert_eq!(words, [words[0]; 63]);
                        seen += u64::from(words[0] > 0);
                    }
                }
                seen
            });
            for n in 1..=200_000 {
                cell.write(&[n; 63]);
            }
            done.store(true, Ordering::Release);
            // It may not have had a processor before.
            let _ = reader.join().unwrap();
        });
        assert_eq!(cell.read(), Some([200_000; 63]));
    }

    #[test]
    fn what_a_dead_writer_has_left_is_given_up_until_it_is_written_over() {
        let cell = Cell::<2>::default();
        cell.version.store(7, Ordering::Relaxed);
        assert_eq!(cell.read(), None);
        cell.write(&[1, 2]);
        assert_eq!(cell.read(), Some([1, 2]));
        cell.write(&[3]);
        assert_eq!(cell.read(), Some([3, 2]));
    }

    #[test]
    fn texts_are_cut_to_whole_characters() {
        let words = Packer::<8>::default().number(5).text("aäöü".as_bytes(), 0).words();
        assert_eq!(Unpacker::new(&words).number(), 5);
        let words = Packer::<8>::default().text("abcdefgä".as_bytes(), 1).text(b"x", 2).number(9);
        let words = words.words();
        let mut from = Unpacker::new(&words);
        assert_eq!((from.text(1), from.text(2), from.number()), ("abcdefg".into(), "x".into(), 9));
        let mut from = Unpacker::new(&[u64::MAX]);
        assert_eq!((from.text(3), from.number()), (String::new(), 0));
    }
}
