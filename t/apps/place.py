"""What the interpreter knows of its place: environment, paths, encodings, threads."""

import json
import locale
import os
import signal
import sys
import threading


def application(environ, start_response):
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        handler = "set"
    except ValueError:
        handler = "ValueError"
    found = {
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "path": sys.path,
        "argv": sys.argv,
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "fs": sys.getfilesystemencoding(),
        "preferred": locale.getpreferredencoding(False),
        "stdout": sys.stdout.encoding,
        "utf8": sys.flags.utf8_mode,
        "switch": sys.getswitchinterval(),
        "main": threading.current_thread() is threading.main_thread(),
        "signal": handler,
        "uid": os.getuid(),
        "pid": os.getpid(),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]
