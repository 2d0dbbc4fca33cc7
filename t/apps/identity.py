"""Who it is: at its import, in a request, in a thread, in a child; and whose the body's file is."""

import json
import os
import stat
import subprocess
import sys
import threading

SHOW = "import identity, json; print(json.dumps(identity.who()))"


def who():
    return {"uid": os.getresuid(), "gid": os.getresgid(), "groups": sorted(os.getgroups())}


at_import = who()


def application(environ, start_response):
    found = {"import": at_import, "request": who()}
    thread = threading.Thread(target=lambda: found.update(thread=who()))
    thread.start()
    thread.join()
    shown = subprocess.check_output(
        [sys.executable or "python3", "-c", SHOW], cwd=os.path.dirname(__file__)
    )
    found["child"] = json.loads(shown)
    body = os.fstat(environ["wsgi.input"].fileno())
    found["body"] = {"mode": stat.S_IMODE(body.st_mode), "uid": body.st_uid}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]
