//! Bytes on their way in one direction. There is no memory for them while there are none.
//!
//! The bytes stay where they are until they have been passed on: OpenSSL wants to be given the
//! same memory again.
//! Runs on: event loop.

/// Bytes of a buffer, and of the longest head of a response.
pub const SIZE: usize = 16 * 1024;

#[derive(Debug, Default)]
pub struct Buffer {
    block: Vec<u8>,
    from: usize,
    to: usize,
}

impl Buffer {
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub fn bytes(&self) -> &[u8] {
        &self.block[self.from..self.to]
    }

    /// The same, for functions of C that do not say that they only read.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.from..self.to]
    }

    /// Where more can be put; empty if there is no room.
    pub fn room(&mut self) -> &mut [u8] {
        if self.is_empty() && self.block.len() < SIZE {
            self.block = vec![0; SIZE];
        }
        &mut self.block[self.to..]
    }

    /// So many bytes have been put there.
    pub fn filled(&mut self, len: usize) {
        self.to = (self.to + len).min(self.block.len());
    }

    /// Appends bytes that have come already, however many.
    pub fn append(&mut self, bytes: &[u8]) {
        self.block.truncate(self.to);
        self.block.extend_from_slice(bytes);
        self.to = self.block.len();
    }

    /// Takes a block of bytes over, and gives back the one before. Only when it is empty.
    pub fn exchange(&mut self, with: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let mut spare = std::mem::take(&mut self.block);
        spare.clear();
        self.block = with(spare);
        (self.from, self.to) = (0, self.block.len());
    }

    /// So many bytes need not be kept any more.
    pub fn passed(&mut self, len: usize) {
        self.from = (self.from + len).min(self.to);
        if self.is_empty() {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Nobody wants them.
    pub fn clear(&mut self) {
        self.passed(self.to);
    }

    /// Nothing comes for a while.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_place_until_all_have_been_passed() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty() && buffer.bytes().is_empty());
        assert_eq!(buffer.room().len(), SIZE);
        buffer.room()[..3].copy_from_slice(b"abc");
        buffer.filled(3);
        let place = buffer.bytes().as_ptr();
        buffer.passed(1);
        assert_eq!(buffer.bytes(), b"bc");
        assert_eq!(buffer.room().len(), SIZE - 3);
        assert_eq!(buffer.bytes_mut().as_ptr(), place.wrapping_add(1));
        buffer.passed(2);
        assert_eq!((buffer.is_empty(), buffer.room().len()), (true, SIZE));
    }

    #[test]
    fn a_block_is_taken_over() {
        let mut buffer = Buffer::default();
        buffer.exchange(|_| b"abc".to_vec());
        buffer.passed(3);
        buffer.exchange(|spare| {
            assert!(spare.is_empty() && spare.capacity() >= 3);
            b"d".to_vec()
        });
        assert_eq!(buffer.bytes(), b"d");
        buffer.append(b"e");
        assert_eq!(buffer.bytes(), b"de");
    }

    #[test]
    fn what_has_come_already_may_be_longer_than_the_buffer() {
        let mut buffer = Buffer::default();
        buffer.append(&[b'x'; SIZE + 1]);
        assert_eq!(buffer.bytes().len(), SIZE + 1);
        assert_eq!(buffer.room().len(), 0);
        buffer.passed(SIZE);
        buffer.rest();
        assert_eq!(buffer.bytes(), b"x");
        buffer.append(b"y");
        assert_eq!(buffer.bytes(), b"xy");
        buffer.clear();
        buffer.rest();
        assert_eq!(buffer.block.capacity(), 0);
    }
}
