//! Loading applications, and what the interpreter is like.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::interpreter::layout::Layout;
use super::{app, file, get, load, request, worker};
use crate::wsgi::lines::printable;
use crate::wsgi::request::Request;
use crate::wsgi::target::Target;

fn failure(code: &str, callable: &str) -> Vec<String> {
    let path = file(code);
    let target = format!("{}{callable}", path.display());
    assert!(load(&target).is_none(), "{code}");
    let log = worker().log(None);
    let first = format!("wsgi_app \"{}", path.display());
    let at = log.iter().position(|(_, line)| line.starts_with(&first)).unwrap();
    log[at..].iter().map(|(_, line)| line.clone()).collect()
}

#[test]
fn failed_imports_are_logged_and_end_nothing() {
    for (code, callable, want) in [
        ("raise ValueError('load one')", "", "ValueError: load one"),
        ("raise SystemExit('load two')", "", "SystemExit: load two"),
        ("import sys; sys.exit(2)", "", "SystemExit: 2"),
        ("import no_such_module_3", "", "No module named 'no_such_module_3'"),
        ("def x(:", "", "SyntaxError"),
        ("x = 1", ":missing4", "has no attribute 'missing4'"),
        ("x5 = 1", ":x5", "it is not callable: int"),
        ("def make6(): return 6", ":make6()", "what it returns is not callable: int"),
        ("def make7(): raise OSError('seven')", ":make7()", "OSError: seven"),
    ] {
        let log = failure(code, callable);
        assert!(log.iter().any(|line| line.contains(want)), "{want}: {log:?}");
        assert!(log.iter().all(|line| !line.contains("bootstrap")), "{log:?}");
    }
    let name = format!("{}/not_there.py", worker().dir.display());
    assert!(load(&name).is_none());
    assert!(load("no_such_module_8").is_none());
}

#[test]
fn a_check_tells_what_is_wrong_and_logs_nothing() {
    let check = |code: &str| {
        let target = Target::parse(file(code).to_str().unwrap()).unwrap();
        worker().attached(|| worker().interpreter.try_import(&target))
    };
    assert!(check("application = print").is_ok());
    let error = check("def inner():\n  raise ValueError('check \\x1b9\\n-')\ninner()").unwrap_err();
    assert_eq!(error.cause, "ValueError: check \\x1b9");
    assert_eq!(error.traceback[0], "Traceback (most recent call last):");
    assert_eq!(error.traceback.last().unwrap(), "-");
    assert!(worker().log(None).iter().all(|(_, line)| !line.contains("check \\x1b9")));
    assert_eq!(printable(b"a\n\x1bb"), ["a", "\\x1bb"]);
}

#[test]
fn a_failed_import_can_be_tried_again() {
    let path = file("raise ValueError");
    let target = path.to_str().unwrap();
    assert!(load(target).is_none());
    // The size differs, so no stale bytecode is taken for it.
    std::fs::write(&path, "def application(e, s): s('200 OK', []); return [b'healed']").unwrap();
    let app = load(target).unwrap();
    assert_eq!(request(&app, Request::default()).body(), "healed");
}

#[test]
fn modules_attributes_and_factories_are_found() {
    let code = "made = []
class box:
    @staticmethod
    def app(e, s): s('200 OK', []); return [b'box']
def make():
    made.append(1)
    def app(e, s): s('200 OK', []); return [b'made %d' % len(made)]
    return app";
    let path = worker().dir.join("some_module.py");
    std::fs::write(path, code).unwrap();
    let body = |app: &_| request(app, Request::default()).body();
    assert_eq!(body(&load("some_module:box.app").unwrap()), "box");
    let app = load("some_module:make()").unwrap();
    assert_eq!((body(&app), body(&app)), ("made 1".to_owned(), "made 1".to_owned()));
    // Two targets in one file share the module.
    let path = file(code);
    let made = load(&format!("{}:make()", path.display())).unwrap();
    let again = load(&format!("{}:make()", path.display())).unwrap();
    assert_eq!((body(&made), body(&again)), ("made 2".to_owned(), "made 2".to_owned()));
}

#[test]
fn a_file_is_a_module_of_its_own_and_its_directory_is_not_on_the_path() {
    let dir = worker().dir.join("elsewhere");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("own-app.py");
    std::fs::write(
        &path,
        "import os, sys, pickle
class Thing: pass
def application(e, s):
    assert sys.modules[__name__].__dict__ is globals() and __file__.endswith('own-app.py')
    assert os.path.dirname(__file__) not in sys.path
    assert type(pickle.loads(pickle.dumps(Thing()))) is Thing
    s('200 OK', []); return []",
    )
    .unwrap();
    request(&load(path.to_str().unwrap()).unwrap(), Request::default()).is_clean();
}

#[test]
fn what_an_import_prints_is_logged() {
    app("print('printed by an import', end='')\ndef application(e, s): pass");
    assert!(worker().log(None).iter().any(|(_, line)| line == "printed by an import"));
}

#[test]
fn the_interpreter_is_isolated_and_speaks_utf8() {
    let dir = worker().dir.display();
    get(&format!("import faulthandler, locale, os, sys, threading
def application(e, s):
    ok(s)
    assert sys.flags.utf8_mode == 1 and sys.flags.ignore_environment == 1 and sys.flags.no_user_site
    assert sys.getfilesystemencoding() == 'utf-8' and locale.getpreferredencoding() == 'UTF-8'.lower()
    assert sys.argv == [''] and sys.executable.endswith('bin/python%d.%d' % sys.version_info[:2])
    assert sys.path[:3] == ['{dir}', '{dir}/extra', '{dir}/from_pth'], sys.path
    assert '' not in sys.path and all(os.path.isabs(p) for p in sys.path)
    assert faulthandler.is_enabled() and abs(sys.getswitchinterval() - 0.007) < 1e-6
    assert threading.main_thread() is not threading.current_thread()
    return []"))
    .is_clean();
}

#[test]
fn exit_status_2_is_only_for_forked_children() {
    let got = get("import os, posix
def application(e, s):
    ok(s); assert os._exit is posix._exit
    def status(leave):
        pid = os.fork()
        if pid == 0: leave()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status(lambda: os._exit(2)) == 2 and status(lambda: os._exit(3)) == 3
    # As if the child were the worker.
    def pretend():
        import _wsgi_bootstrap
        _wsgi_bootstrap.wrap_exit(); os._exit(258)
    assert status(pretend) == 70
    return []");
    got.is_clean();
}

#[test]
fn a_forked_child_never_answers() {
    let got = get("import os
def application(e, s):
    ok(s); r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(w, 2); print('from the child'); e['wsgi.errors'].write('too\\n')
        return [b'child']
    os.close(w)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 70
    return [os.read(r, 99)]");
    got.is_clean();
    assert_eq!(got.body(), "from the child\ntoo\n");
}

#[test]
fn all_stacks_are_written_when_the_signal_is_raised() {
    // In a child, where nothing moves: faulthandler reads frames without the GIL, and may crash on
    // those of a thread that runs.
    get("import os, signal
def application(e, s):
    ok(s); pid = os.fork()
    if pid == 0: signal.raise_signal(signal.SIGUSR2); os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    return []")
    .is_clean();
    let stacks = std::fs::read_to_string(&worker().stacks).unwrap();
    assert!(stacks.contains("Current thread") && stacks.contains("in application"), "{stacks}");
}

#[test]
fn the_end_runs_the_exit_functions() {
    // The end of an interpreter is not for a process that has other tests to run.
    let test = "python::tests::load::end_in_a_process_of_its_own";
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--quiet", "--ignored", "--exact", test])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "started by the_end_runs_the_exit_functions"]
fn end_in_a_process_of_its_own() {
    app("import atexit, sys, threading
go = threading.Event()
# A thread of a pool thread is a daemon unless it says otherwise.
threading.Thread(target=lambda: (go.wait(), print('thread joined')), daemon=False).start()
threading._register_atexit(go.set)
@atexit.register
def last(): print('the end', end='')
@atexit.register
def bad(): raise SystemExit('bad function')
def application(e, s): pass");
    let grace = Instant::now() + Duration::from_secs(20);
    worker().attached(|| worker().interpreter.exit(grace));
    let log = worker().log(None);
    let at = |part: &str| log.iter().position(|(_, line)| line.contains(part));
    let [joined, bad, last] = ["thread joined", "bad function", "the end"].map(at);
    assert!(joined.is_some() && joined < bad && bad < last, "{log:?}");
}

#[test]
fn a_wrong_home_is_an_error_that_names_it() {
    let dir = worker().dir.clone();
    for (home, want) in [
        (dir.join("missing"), "No such file or directory"),
        (dir.clone(), "is not for Python"),
        (Path::new("/dev/null").to_owned(), "is not a directory"),
    ] {
        let err = Layout::find(Some(&home)).unwrap_err();
        assert!(err.contains(want) && err.contains(&home.display().to_string()), "{err}");
    }
}

#[test]
fn a_virtualenv_lends_its_packages_and_not_its_standard_library() {
    let venv = worker().dir.join("venv");
    let name = format!("lib/python{}/site-packages", env!("WSGI_PYTHON_VERSION"));
    std::fs::create_dir_all(venv.join(name)).unwrap();
    std::fs::create_dir_all(venv.join("bin")).unwrap();
    std::fs::write(venv.join("pyvenv.cfg"), "home = /nowhere\n").unwrap();
    let layout = Layout::find(Some(&venv)).unwrap();
    assert_eq!(layout.home, Path::new(env!("WSGI_PYTHON_PREFIX")));
    assert_eq!(layout.executable, venv.join("bin/python3"));
    std::os::unix::fs::symlink("/nowhere/python3", venv.join("bin/python")).unwrap();
    assert_eq!(Layout::find(Some(&venv)).unwrap().executable, venv.join("bin/python"));
}

#[test]
fn asgi_applications_are_refused_and_no_others() {
    let prelude = "import functools
class Three:
    async def __call__(self, scope, receive, send): pass
class Plain:
    def __call__(self, scope, receive, send): return Three()(scope, receive, send)
class Two:
    def __init__(self, scope): pass
    async def __call__(self, receive, send): pass
class Iterable:
    def __init__(self, environ, start): start('200 OK', [])
    def __iter__(self): return iter([b'fine'])
    async def __call__(self, receive, send): pass
class New(Two):
    def __new__(cls, environ, start): start('200 OK', []); return [b'fine']
class Static:
    @staticmethod
    def __call__(environ, scope): scope('200 OK', []); return [b'fine']
class Method:
    def asgi(self, scope, receive, send): pass
    async def coroutine(self, scope, receive, send): pass
    def wsgi(self, scope, receive): receive('200 OK', []); return [b'fine']
async def three(scope, receive, send): pass
async def generator(scope, receive, send): yield
def plain_three(scope, receive, send): return three(scope, receive, send)
def two(scope): return three
def self_scope(self, scope): scope('200 OK', []); return [b'fine']
def defaults(scope, receive, send=None): receive('200 OK', []); return [b'fine']
def any(*scope): scope[1]('200 OK', []); return [b'fine']
@functools.wraps(three)
def wrapped(environ, start): start('200 OK', []); return [b'fine']
";
    for (number, asgi) in [
        "three",
        "generator",
        "plain_three",
        "two",
        "Three()",
        "Plain()",
        "Two",
        "Three",
        "functools.partial(three)",
        "Method().asgi",
        "Method().coroutine",
    ]
    .into_iter()
    .enumerate()
    {
        let log = failure(&format!("# {number}\n{prelude}application = {asgi}"), "");
        let found = log.iter().any(|line| line.contains("it is an ASGI application"));
        assert!(found && log.iter().any(|line| line.contains("a2wsgi.ASGIMiddleware")), "{asgi}");
    }
    for wsgi in [
        "Iterable",
        "New",
        "Static()",
        "Method().wsgi",
        "self_scope",
        "defaults",
        "any",
        "wrapped",
        "functools.partial(defaults)",
    ] {
        let app = load(file(&format!("{prelude}application = {wsgi}")).to_str().unwrap()).unwrap();
        assert_eq!(request(&app, Request::default()).body(), "fine", "{wsgi}");
    }
}

#[test]
fn a_factory_gets_what_the_configuration_says() {
    let code = "def make(*args, **options):
    def app(e, s): s('200 OK', []); return [repr((args, options)).encode()]
    return app";
    let path = file(code);
    for (arguments, got) in [
        ("", "((), {})"),
        (
            r#"None, True, -1, 1.50, .5e1, "it's \u20ac", (1,), (), [2, [3]], {"a": {1: None}}"#,
            r#"((None, True, -1, 1.5, 5.0, "it's €", (1,), (), [2, [3]], {'a': {1: None}}), {})"#,
        ),
        ("'x', debug=False, path='/a:b(c)'", "(('x',), {'debug': False, 'path': '/a:b(c)'})"),
    ] {
        let app = load(&format!("{}:make({arguments})", path.display())).unwrap();
        assert_eq!(request(&app, Request::default()).body(), got);
    }
    let log = failure("def make(a): pass", ":make('x', 'y')");
    assert!(log[0].ends_with(":make('x', 'y')\" could not be loaded"), "{log:?}");
    assert!(log.iter().any(|line| line.contains("TypeError: make() takes 1")), "{log:?}");
}

#[test]
fn a_file_of_any_name_is_not_taken_for_the_one_beside_it() {
    let path = worker().dir.join("site.py");
    for (name, word) in [("site.py", "python"), ("site.wsgi", "script"), ("site", "nosuff")] {
        // Of one size, and of one second: as one compiled file they would be the same.
        let code = format!("def application(e, s): s('200 OK', []); return [b'{word}']");
        let path = path.with_file_name(name);
        std::fs::write(&path, code).unwrap();
        let app = load(path.to_str().unwrap()).unwrap();
        assert_eq!(request(&app, Request::default()).body(), word);
    }
}
