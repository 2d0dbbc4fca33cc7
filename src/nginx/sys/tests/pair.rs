//! Both ends of a pair: what has been sent, its end, and what is left when one hangs up.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use super::pair::{Received, Sent, end, hang_up, has_bytes, pair, receive, send};

#[test]
fn bytes_go_both_ways_and_only_ours_never_waits() {
    let (ours, theirs) = pair().unwrap();
    let mut theirs = File::from(theirs);
    let mut buffer = [0; 16];
    assert_eq!(receive(&ours, &mut buffer), Received::Nothing);
    assert!(!has_bytes(ours.as_raw_fd()));
    theirs.write_all(b"abc").unwrap();
    assert!(has_bytes(ours.as_raw_fd()));
    assert_eq!(receive(&ours, &mut buffer), Received::Bytes(3));
    assert_eq!(send(&ours, b"de"), Sent::Bytes(2));
    end(&ours);
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"de");
    // The other way goes on.
    theirs.write_all(b"f").unwrap();
    drop(theirs);
    assert_eq!(receive(&ours, &mut buffer), Received::Bytes(1));
    assert_eq!(receive(&ours, &mut buffer), Received::End);
    assert_eq!(send(&ours, b"x"), Sent::Gone);
}

#[test]
fn an_end_that_receives_nothing_is_full_in_the_end() {
    let (ours, theirs) = pair().unwrap();
    let block = [0; 1 << 16];
    let mut sent = 0;
    loop {
        match send(&ours, &block) {
            Sent::Bytes(len) => sent += len,
            Sent::Full => break,
            Sent::Gone => panic!("somebody is there"),
        }
    }
    assert!(sent > 0);
    drop(theirs);
    assert_eq!(send(&ours, &block), Sent::Gone);
}

#[test]
fn the_other_end_sees_the_end_when_ours_hangs_up() {
    let (ours, theirs) = pair().unwrap();
    let mut theirs = File::from(theirs);
    theirs.write_all(b"left").unwrap();
    hang_up(ours.as_fd());
    assert_eq!(theirs.read(&mut [0; 4]).unwrap(), 0);
    assert!(theirs.write_all(b"x").is_err());
    assert!(has_bytes(ours.as_raw_fd()));
}
