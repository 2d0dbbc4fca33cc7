"""Any other application under wsgiref.validate: wsgi_param TARGET names it, module:callable."""

import functools
import gc
import importlib
from wsgiref.validate import validator


@functools.cache
def validated(target):
    module, _, name = target.partition(":")
    return validator(getattr(importlib.import_module(module), name or "application"))


def application(environ, start_response):
    return validated(environ["TARGET"])(environ, start_response)


def collect(environ, start_response):
    """The validator complains of what was not closed when it is collected."""
    gc.collect()
    # What is left are modules; the next time need not look at them.
    gc.freeze()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"collected"]
