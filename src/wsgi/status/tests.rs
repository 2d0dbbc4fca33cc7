//! What the renderers promise of texts from outside, and what the findings say.

use proptest::prelude::*;

use super::counters::{Cells, Check, Done, Observed, Totals};
use super::findings::findings;
use super::records::{App, Phase, Pool, Row, State};
use super::snapshot::{Request, Series, Snapshot, Stacks, Worker};
use super::stack::Frame;
use super::{html, json, prometheus, text};

/// A status with this text wherever one can come from outside.
fn hostile(word: &str) -> Snapshot {
    let text = || word.to_owned();
    let frame = Frame { file: text(), line: 1, function: text(), source: text() };
    let app = App { state: State::Failed, error: text(), ..App::default() };
    let worker = Worker {
        pid: 7,
        pools: vec![Pool { threads: 1, busy: 1, waiting: 1, stuck: 1, room: 0 }],
        apps: vec![app],
        stacks: Stacks::Held(vec![vec![frame.clone()]]),
        ..Worker::default()
    };
    let request = |phase| Request {
        age: 60_000,
        row: Row {
            id: 1,
            phase,
            method: text(),
            host: text(),
            path: text(),
            query: text(),
            client: text(),
            ..Row::default()
        },
        stack: vec![frame.clone()],
        ..Request::default()
    };
    Snapshot {
        version: "1",
        wanted: 1,
        workers: vec![worker],
        pools: vec![text()],
        apps: vec![text()],
        requests: Phase::ALL.into_iter().map(request).collect(),
        series: vec![Series { app: text(), pool: text(), totals: Totals::default() }],
        check: Some(Check { at: 1, is_good: false, said: text() }),
        offers_stacks: true,
        has_stacks: true,
        ..Snapshot::default()
    }
}

/// Texts that mean something in some format.
fn words() -> impl Strategy<Value = String> {
    let sharp = "[<>&\"'\\\\{}\n\r\t\0\u{1b}\u{7f}\u{202e}\u{2028}=/ a-z#,!-]{1,40}";
    prop_oneof![sharp, ".{1,40}", Just(String::from("</style><script>alert(1)</script>"))]
}

/// The tags of a page, and what is in them.
fn tags(page: &str) -> Vec<String> {
    page.split('<').skip(1).map(|part| part.split('>').next().unwrap().to_owned()).collect()
}

/// What is left without the texts between quotation marks that no backslash protects.
fn shape(line: &str) -> String {
    let (mut shape, mut is_text) = (String::new(), false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => is_text = !is_text,
            '\\' if is_text => drop(chars.next()),
            c if !is_text => shape.push(c),
            _ => (),
        }
    }
    assert!(!is_text, "a text does not end: {line}");
    shape
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_adds_a_tag_or_an_attribute_to_the_page(word in words()) {
        prop_assert_eq!(tags(&html::status(&hostile(&word))), tags(&html::status(&hostile("x"))));
    }

    #[test]
    fn no_text_adds_a_line(word in words()) {
        let lines = |page: String| page.lines().count();
        let count = |render: fn(&Snapshot) -> String, word| lines(render(&hostile(word)));
        prop_assert_eq!(count(text::status, &word), count(text::status, "x"));
        prop_assert_eq!(count(json::status, &word), 1);
        prop_assert_eq!(count(prometheus::status, &word), count(prometheus::status, "x"));
        let bare = |c: char| c.is_control() && c != '\n';
        prop_assert!(!text::status(&hostile(&word)).contains(bare));
        prop_assert!(!html::status(&hostile(&word)).contains(bare));
    }

    #[test]
    fn json_says_what_there_is(word in words()) {
        let shown = json::status(&hostile(&word));
        prop_assert!(!shown.contains(['<', '>', '&']));
        prop_assert_eq!(shape(&shown), shape(&json::status(&hostile("x"))));
    }

    #[test]
    fn labels_end_where_they_are_to_end(word in words()) {
        let shapes = |page: String| page.lines().map(shape).collect::<Vec<_>>();
        let page = prometheus::status(&hostile(&word));
        prop_assert_eq!(shapes(page), shapes(prometheus::status(&hostile("x"))));
    }
}

fn busy() -> Snapshot {
    let frame = |line| Frame {
        file: "/srv/shop/report.py".into(),
        line,
        function: "execute".into(),
        source: String::new(),
    };
    let request = |phase, age, line| Request {
        age,
        row: Row { id: 1, phase, client: "10.0.0.9".into(), path: "/".into(), ..Row::default() },
        stack: if phase == Phase::Queued { Vec::new() } else { vec![frame(1), frame(line)] },
        ..Request::default()
    };
    let app = App { state: State::Loaded, ..App::default() };
    Snapshot {
        wanted: 1,
        workers: vec![Worker {
            pools: vec![Pool { threads: 3, busy: 3, waiting: 2, ..Pool::default() }],
            apps: vec![app],
            ..Worker::default()
        }],
        pools: vec!["wsgi".into()],
        apps: vec!["shop".into()],
        requests: vec![
            request(Phase::Queued, 12_400, 0),
            request(Phase::Running, 2000, 88),
            request(Phase::Running, 2000, 88),
            request(Phase::Running, 100, 7),
            request(Phase::Queued, 90, 0),
        ],
        ..Snapshot::default()
    }
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let found = findings(&busy());
    assert_eq!(
        found[0].text,
        "all 3 threads of pool wsgi are busy, 2 requests wait, the oldest for 12 s; 2 of 3 in \
         shop/report.py:88 execute"
    );
    let page = text::status(&busy());
    assert!(page.starts_with("! all 3 threads"), "{page}");
    let mut well = busy();
    well.workers[0].pools[0] = Pool { threads: 3, busy: 1, ..Pool::default() };
    well.requests.clear();
    assert_eq!(findings(&well), []);
    assert!(text::status(&well).starts_with("all is well: 1 worker, 1 of 3 threads busy"));
}

#[test]
fn an_application_is_ready_when_some_worker_has_loaded_it() {
    let mut snapshot = busy();
    assert_eq!(text::ready(&snapshot), Ok("ready\n".into()));
    snapshot.workers[0].apps[0].state = State::Failed;
    assert_eq!(text::ready(&snapshot), Err("shop: failed\n".into()));
    let loaded = App { state: State::Loaded, ..App::default() };
    snapshot.workers.push(Worker { apps: vec![loaded], ..Worker::default() });
    assert!(text::ready(&snapshot).is_ok());
    snapshot.workers.clear();
    assert!(text::ready(&snapshot).is_err());
}

#[test]
fn a_histogram_is_cumulative_and_in_seconds() {
    let cells = Cells::default();
    for (duration, queued) in [(4_000, Some(1)), (1_500_000, Some(1_000)), (60_000_000, None)] {
        let done = Done {
            status: 200,
            duration,
            queued,
            is_handed_over: false,
            has_raised: true,
            cpu: Some(1_500_000),
        };
        cells.done(done);
    }
    let totals = cells.totals();
    assert_eq!(totals.duration, Observed { sum: 61_504_000, ..totals.duration });
    let (app, pool) = ("a\"b".to_owned(), "p".to_owned());
    let snapshot = Snapshot { series: vec![Series { app, pool, totals }], ..Snapshot::default() };
    let page = prometheus::status(&snapshot);
    for line in [
        "nginx_wsgi_requests_total{app=\"a\\\"b\",pool=\"p\",code=\"2xx\"} 3",
        "nginx_wsgi_request_duration_seconds_bucket{app=\"a\\\"b\",pool=\"p\",le=\"0.005\"} 1",
        "nginx_wsgi_request_duration_seconds_bucket{app=\"a\\\"b\",pool=\"p\",le=\"1\"} 1",
        "nginx_wsgi_request_duration_seconds_bucket{app=\"a\\\"b\",pool=\"p\",le=\"2.5\"} 2",
        "nginx_wsgi_request_duration_seconds_bucket{app=\"a\\\"b\",pool=\"p\",le=\"+Inf\"} 3",
        "nginx_wsgi_request_duration_seconds_sum{app=\"a\\\"b\",pool=\"p\"} 61.504",
        "nginx_wsgi_queue_duration_seconds_sum{app=\"a\\\"b\",pool=\"p\"} 0.001001",
        "nginx_wsgi_exceptions_total{app=\"a\\\"b\"} 3",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in {page}");
    }
}
