//! Objects of a request that are used again, and those that must not be.

use std::cell::Cell;

use pyo3::prelude::*;

use super::{app, open, request, with_body, worker};
use crate::python::interpreter::ffi;
use crate::python::request::free_list::FreeList;
use crate::wsgi::application::Application;
use crate::wsgi::request::Request;
use crate::wsgi::segment::Segment;

#[pyclass(weakref)]
struct Thing;

/// A new one, counted.
fn count(made: &Cell<usize>) -> Thing {
    made.set(made.get() + 1);
    Thing
}

/// Runs an expression in which `thing` is the object.
fn eval<'py>(
    py: Python<'py>,
    code: &std::ffi::CStr,
    thing: &Bound<'py, Thing>,
) -> Bound<'py, PyAny> {
    let names = pyo3::types::PyDict::new(py);
    names.set_item("thing", thing).unwrap();
    names.set_item("weakref", py.import("weakref").unwrap()).unwrap();
    py.eval(code, None, Some(&names)).unwrap()
}

#[test]
fn an_object_is_used_again_unless_somebody_refers_to_it() {
    let _ = worker();
    Python::attach(|py| {
        let free = FreeList::<Thing>::default();
        let made = Cell::new(0);
        let take = || free.take_or_make(py, || count(&made)).unwrap();
        for (code, is_alone) in
            [(c"None", true), (c"[thing]", false), (c"weakref.ref(thing)", false)]
        {
            let thing = take();
            let held = eval(py, code, &thing);
            assert_eq!(ffi::is_alone(thing.as_any()), is_alone, "{code:?}");
            let before = made.get();
            free.leave(thing);
            drop(take());
            assert_eq!(made.get() == before, is_alone, "{code:?}");
            drop(held);
        }
        // A weak reference that is gone does not count.
        let thing = take();
        drop(eval(py, c"weakref.ref(thing)", &thing));
        assert!(ffi::is_alone(thing.as_any()));
    });
}

#[test]
fn no_more_objects_are_kept_than_are_of_use() {
    let _ = worker();
    Python::attach(|py| {
        let free = FreeList::<Thing>::default();
        let all: Vec<_> = (0..100).map(|_| Bound::new(py, Thing).unwrap()).collect();
        all.into_iter().for_each(|thing| free.leave(thing));
        let made = Cell::new(0);
        for _ in 0..100 {
            drop(free.take_or_make(py, || count(&made)).unwrap());
        }
        assert_eq!(made.get(), 100 - 32);
    });
}

#[test]
fn what_an_application_keeps_is_dead_and_no_other_request_s() {
    let app = app("kept = []
def dead(act):
    try: act()
    except ValueError: return True
def application(e, s):
    now = [e['wsgi.input'], e['wsgi.errors'], s]
    assert e['wsgi.input'].read() == b'body of it'
    for old_input, old_errors, old_start in kept:
        assert not {id(o) for o in now} & {id(o) for o in (old_input, old_errors, old_start)}
        assert dead(old_input.read) and dead(lambda: old_start('200 OK', []))
    kept.append(now)
    ok(s); return [str(len(kept)).encode()]");
    for n in 1..5 {
        let body = Segment::Copied(b"body of it".to_vec());
        let got = request(&app, with_body(vec![body]));
        got.is_clean();
        assert_eq!(got.body(), n.to_string());
    }
}

#[test]
fn a_weak_reference_never_leads_to_another_request() {
    let app = app("import weakref
weak = []
def application(e, s):
    assert not [ref for ref in weak if ref() is not None]
    weak.extend(weakref.ref(o) for o in (e['wsgi.input'], e['wsgi.errors']))
    ok(s); return [b'x']");
    for _ in 0..4 {
        request(&app, Request::default()).is_clean();
    }
}

#[test]
fn objects_used_again_have_nothing_of_their_last_request() {
    let app = app("seen = set()
def application(e, s):
    again = {id(e['wsgi.input']), id(e['wsgi.errors']), id(s)} <= seen
    seen.update({id(e['wsgi.input']), id(e['wsgi.errors']), id(s)})
    body = e['wsgi.input'].read(3)
    if body == b'bad': raise RuntimeError('bad')
    print('a line of ' + body.decode(), file=e['wsgi.errors'], end='')
    if body == b'two': return []
    write = ok(s); write(b'again ' if again else b'new ')
    return [body]");
    let ask = |body: &[u8]| request(&app, with_body(vec![Segment::Copied(body.to_vec())]));
    let one = ask(b"one more");
    assert_eq!((one.body(), one.lines()), ("new one".to_owned(), vec!["a line of one"]));
    for _ in 0..3 {
        // Broken in every way; the next one knows nothing of it.
        let two = ask(b"two");
        assert!(two.logged("a line of two") && two.head.is_none());
        assert!(ask(b"bad").logged("RuntimeError: bad"));
        let (exchange, sender) = open(1);
        exchange.cancel();
        worker().attached(|| app.call(Request::default(), sender));
        let next = ask(b"one");
        assert_eq!((next.body(), next.lines()), ("again one".to_owned(), vec!["a line of one"]));
    }
}

#[test]
fn start_response_is_dead_also_if_a_write_held_it_at_the_end() {
    let app = app("import threading
kept = []
class Result:
    def __init__(self, thread): self.thread = thread
    def __iter__(self): return iter(())
    def close(self): self.thread.join()
def late(write):
    try: write(b'more than the window holds')
    except OSError: pass
def application(e, s):
    if kept:
        for act in [lambda: kept[0]('200 OK', []), lambda: kept[1](b'')]:
            try: act()
            except ValueError as err: assert 'ended' in str(err)
            else: assert False
        ok(s); return [b'dead']
    write = ok(s)
    kept.extend([s, write])
    write(b'full')
    thread = threading.Thread(target=late, args=[write]); thread.start()
    try:
        while True: write(b'')
    except RuntimeError: pass
    return Result(thread)");
    let (exchange, sender) = open(4);
    worker().attached(|| app.call(Request::default(), sender));
    assert!(exchange.take().end.is_some_and(|end| end.is_err()));
    let next = request(&app, Request::default());
    assert_eq!(next.body(), "dead", "{:?}", next.log);
}
