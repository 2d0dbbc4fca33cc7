//! Accounts of chunks: how far an application is ahead, and what it need not wait for.
//!
//! Runs on: either.

use crate::wsgi::segment::Segment;

/// Chunks that nginx has passed on, or that are on their way; `bytes` are those in memory,
/// `spooled` those in the temporary file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    pub chunks: usize,
    pub bytes: usize,
    pub spooled: u64,
}

impl InFlight {
    pub fn of(chunk: &Segment) -> Self {
        let spooled = if matches!(chunk, Segment::Spooled { .. }) { chunk.len() } else { 0 };
        Self { chunks: 1, bytes: chunk.held(), spooled }
    }

    /// The sum, which another process cannot make overflow.
    pub fn plus(self, other: Self) -> Self {
        Self {
            chunks: self.chunks.saturating_add(other.chunks),
            bytes: self.bytes.saturating_add(other.bytes),
            spooled: self.spooled.saturating_add(other.spooled),
        }
    }

    /// What is left, if all of `other` is in there.
    pub fn checked_minus(self, other: Self) -> Option<Self> {
        Some(Self {
            chunks: self.chunks.checked_sub(other.chunks)?,
            bytes: self.bytes.checked_sub(other.bytes)?,
            spooled: self.spooled.checked_sub(other.spooled)?,
        })
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            chunks: self.chunks.saturating_sub(other.chunks),
            bytes: self.bytes.saturating_sub(other.bytes),
            spooled: self.spooled.saturating_sub(other.spooled),
        }
    }
}

/// Chunks that count as consumed before nginx has passed them on, the oldest first. Event loop.
#[derive(Debug, Default)]
pub struct HeldBack(InFlight);

impl HeldBack {
    /// nginx has passed on `passed`; returns what of it is still to be consumed.
    pub fn settle(&mut self, passed: InFlight) -> InFlight {
        let rest = passed.minus(self.0);
        self.0 = self.0.minus(passed);
        rest
    }

    /// All of `held` counts as consumed; returns what of it is new.
    pub fn raise_to(&mut self, held: InFlight) -> InFlight {
        let new = held.minus(self.0);
        self.0 = held;
        new
    }
}
