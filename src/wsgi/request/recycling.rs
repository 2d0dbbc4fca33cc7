//! What requests that have ended leave for those to come: memory, see `open.rs` of the exchange.
//!
//! Runs on: event loop.

use std::cell::RefCell;
use std::sync::Arc;

use super::vars::Vars;
use crate::wsgi::exchange::{Blocks, Exchange};

/// Requests whose memory is kept at most: about as many as are under way in a busy worker.
const MOST: usize = 64;

/// The stock of one worker.
#[derive(Default)]
pub struct FreeList(RefCell<Vec<(Vars, Arc<Exchange>)>>);

impl FreeList {
    /// To be written over: see [`super::vars::VarsWriter::over`], [`Exchange::open_over`].
    pub fn take(&self) -> (Vars, Option<Arc<Exchange>>) {
        let left = self.0.borrow_mut().pop();
        left.map_or_else(Default::default, |(vars, exchange)| (vars, Some(exchange)))
    }

    /// A request has ended. What its thread still holds is freed when the thread is done.
    pub fn leave(&self, mut vars: Vars, mut exchange: Arc<Exchange>, blocks: Blocks) {
        let is_free = vars.is_free() && Exchange::leave(&mut exchange, blocks);
        let mut all = self.0.borrow_mut();
        if is_free && all.len() < MOST {
            all.push((vars, exchange));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsgi::exchange::spool::Buffering;
    use crate::wsgi::exchange::{Follows, Progress, ResponseSender, Room, Taken};
    use crate::wsgi::head::ResponseHead;
    use crate::wsgi::mailbox::Mailbox;
    use crate::wsgi::request::vars::VarsWriter;
    use crate::wsgi::segment::Segment;
    use std::time::Instant;

    fn vars(size: usize) -> Vars {
        let mut writer = VarsWriter::default();
        writer.push(b"N", &vec![b'v'; size]).unwrap();
        writer.finish()
    }

    fn exchange() -> (Arc<Exchange>, ResponseSender) {
        Exchange::open(1, Buffering::in_memory(9), Arc::new(Mailbox::new(|| ())))
    }

    fn ended() -> Arc<Exchange> {
        exchange().0
    }

    #[test]
    fn an_exchange_in_the_place_of_another_has_nothing_of_it() {
        let stock = FreeList::default();
        let (exchange, mut sender) = exchange();
        sender.begin(Taken { at: Instant::now(), runner: 3 }).unwrap();
        let head = ResponseHead::new_in(sender.take_head_block(), b"200 first").unwrap();
        sender.head(head);
        let chunk = sender.copy(b"first body");
        assert_eq!(sender.send(chunk, Follows::Later), Ok(Room::Full));
        sender.ender().interruption().open(7);
        sender.ender().interruption().raise(|_| ());
        sender.finish(Ok(()));
        drop(sender);
        let mut batch = exchange.take();
        let mut blocks = Blocks { head: batch.head.unwrap().into_block(), chunk: Vec::new() };
        if let Some(Segment::Copied(block)) = batch.chunks.pop() {
            blocks.chunk = block;
        }
        let places = (blocks.head.as_ptr(), blocks.chunk.as_ptr());
        exchange.cancel();
        stock.leave(vars(9), exchange, blocks);

        let (_, old) = stock.take();
        let (exchange, mut sender) = Exchange::open_over(old.unwrap(), 2, Buffering::in_memory(50));
        assert_eq!((exchange.id(), sender.id(), sender.piece()), (2, 2, 50));
        assert!(!exchange.is_cancelled() && exchange.interruption().thread().is_none());
        assert!(!exchange.interruption().close(), "nothing was left to take away");
        assert_eq!((exchange.progress(), exchange.taken()), (Progress::Queued, None));
        let batch = exchange.take();
        assert!(batch.head.is_none() && batch.chunks.is_empty() && batch.end.is_none());
        let block = sender.take_head_block();
        assert!(block.is_empty() && block.as_ptr() == places.0);
        let chunk = sender.copy(b"b");
        assert_eq!(chunk.bytes(), Some(&b"b"[..]));
        assert_eq!(chunk.bytes().unwrap().as_ptr(), places.1);
        assert_eq!(sender.send(chunk, Follows::Later), Ok(Room::Free));
    }

    #[test]
    fn what_somebody_still_has_is_not_kept() {
        let stock = FreeList::default();
        let is_kept = || stock.take().1.is_some();
        let (first, sender) = exchange();
        stock.leave(vars(1), first, Blocks::default());
        assert!(!is_kept(), "its sender lives");
        drop(sender);
        let held = vars(1);
        stock.leave(held.clone(), ended(), Blocks::default());
        assert!(!is_kept(), "its vars are read");
        stock.leave(vars(1 << 20), ended(), Blocks::default());
        assert!(!is_kept(), "they are large");
        let blocks = Blocks { head: Vec::new(), chunk: vec![0; 1 << 20] };
        stock.leave(held, ended(), blocks);
        let (_, old) = stock.take();
        let (_, mut sender) = Exchange::open_over(old.unwrap(), 1, Buffering::default());
        assert!(matches!(sender.copy(b"x"), Segment::Copied(block) if block.capacity() < 1000));
    }

    #[test]
    fn no_more_is_kept_than_is_of_use() {
        let stock = FreeList::default();
        for _ in 0..2 * MOST {
            stock.leave(vars(1), ended(), Blocks::default());
        }
        let kept = std::iter::from_fn(|| stock.take().1).count();
        assert_eq!(kept, MOST);
    }

    #[test]
    fn an_exchange_that_lives_is_never_opened_over() {
        let (first, mut sender) = exchange();
        let (second, _) = Exchange::open_over(first.clone(), 2, Buffering::in_memory(9));
        assert_eq!((first.id(), second.id()), (1, 2));
        sender.finish(Ok(()));
        assert_eq!(first.take().end, Some(Ok(())));
    }
}
