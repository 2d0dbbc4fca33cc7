//! Runners that panic, and what is counted on them.

use super::*;

/// The last answer is worth as much as the first, whatever has panicked in between.
fn serves_on_after_a_panic(function: &'static str, calls: usize, threads: usize) {
    let mut worker = Worker::new(threads);
    let app = loaded(|response| response.finish(Ok(())));
    *worker.interpreter.panics.lock().unwrap() = Some((function, calls));
    let deadline = Instant::now() + Duration::from_secs(10);
    // Some find the runner asleep, some at work.
    while worker.interpreter.panics.lock().unwrap().is_some() {
        assert!(Instant::now() < deadline, "{function} has not been called");
        for count in [1, 3] {
            let all: Vec<_> = (0..count).map(|_| worker.request(app)).collect();
            worker.responses(count);
            for exchange in all {
                assert!(matches!(exchange.take().end, Some(Ok(()) | Err(Failure::Lost))));
            }
        }
    }
    // All that panicked have left.
    while worker.runners.alive() > threads {
        thread::yield_now();
    }
    let all: Vec<_> = (0..200).map(|_| worker.request(app)).collect();
    worker.responses(200);
    assert!(all.iter().all(|exchange| exchange.take().end == Some(Ok(()))));
    let queue = Arc::clone(&worker.runners.queues()[0]);
    worker.stop();
    assert!(queue.is_at_rest(), "{function}");
}

#[test]
fn a_panic_outside_of_a_request_does_not_leave_the_queue_for_dead() {
    for function in ["attach", "detach", "sleeps", "tidy"] {
        for calls in [0, 1, 2] {
            // A second attach comes when a second runner does.
            let threads = if function == "attach" { calls + 1 } else { 1 };
            if function != "attach" || calls == 0 {
                serves_on_after_a_panic(function, calls, threads);
            }
        }
    }
    serves_on_after_a_panic("tidy", 5, 3);
}

#[test]
fn a_runner_that_panics_at_once_has_another_started() {
    let mut worker = Worker::new(1);
    *worker.interpreter.panics.lock().unwrap() = Some(("attach", 0));
    worker.start();
    while worker.runners.alive() > 0 {
        thread::yield_now();
    }
    let mails = worker.mailbox.collect(Vec::new());
    assert!(mails.contains(&Mail::Look(0)), "{mails:?}");
    assert!(mails.iter().any(|m| matches!(m, Mail::Log(r) if r.level == Level::Alert)));
}
