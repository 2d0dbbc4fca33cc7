//! The request body, against its bytes in one piece.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;

use super::cases;
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::segment::Segment;

/// An unlinked file.
fn file(content: &[u8]) -> File {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("wsgi-body-{}-any-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, content).unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

/// Bytes in memory, or in a file with others around them.
#[derive(Debug, Clone)]
enum Piece {
    Memory(Vec<u8>),
    File { before: Vec<u8>, content: Vec<u8>, after: Vec<u8> },
}

impl Piece {
    fn content(&self) -> &[u8] {
        match self {
            Self::Memory(content) | Self::File { content, .. } => content,
        }
    }

    fn segment(&self) -> Segment {
        match self {
            Self::Memory(content) => Segment::Memory(Bytes::copy_from_slice(content)),
            Self::File { before, content, after } => Segment::File {
                file: file(&[&before[..], content, after].concat()),
                offset: before.len() as u64,
                len: content.len() as u64,
            },
        }
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    let bytes = super::bytes;
    prop_oneof![
        bytes(60).prop_map(Piece::Memory),
        (bytes(9), bytes(60), bytes(9)).prop_map(|(before, content, after)| Piece::File {
            before,
            content,
            after
        }),
    ]
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn reading_anywhere_gives_the_bytes_of_all_segments(
        pieces in vec(piece(), 0..6),
        reads in vec((any::<Index>(), prop_oneof![0..9usize, 0..400usize, Just(5000)]), 30),
        far in any::<u64>(),
    ) {
        let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.content()).copied().collect();
        let body = RequestBody::new(pieces.iter().map(Piece::segment).collect());
        assert_eq!((body.len(), body.is_empty()), (whole.len() as u64, whole.is_empty()));
        for (place, len) in reads {
            // The end, and some places behind it, too.
            let start = place.index(whole.len() + 4);
            let want: Vec<u8> = whole.iter().skip(start).take(len).copied().collect();
            let mut buf = vec![0xEE; len];
            let n = body.read_at(&mut buf, start as u64).unwrap();
            assert_eq!(&buf[..n], want);
            assert!(buf[n..].iter().all(|b| *b == 0xEE), "written behind the end");
        }
        let far = far.max(whole.len() as u64);
        assert_eq!(body.read_at(&mut [0; 9], far).unwrap(), 0);
        assert_eq!(body.read_at(&mut [0; 9], u64::MAX).unwrap(), 0);
    }
}
