//! Memory of an exchange that has ended, for the next one that is opened in its place.
//!
//! Runs on: either.

/// Empty memory for what most responses consist of.
#[derive(Debug, Default)]
pub struct Blocks {
    pub head: Vec<u8>,
    pub chunk: Vec<u8>,
}

impl Blocks {
    /// Bytes of a block that is kept.
    const MOST: usize = 16 * 1024;

    /// Empties them, and gives back what is large.
    pub fn cleared(mut self) -> Self {
        for block in [&mut self.head, &mut self.chunk] {
            block.clear();
            if block.capacity() > Self::MOST {
                *block = Vec::new();
            }
        }
        self
    }
}
