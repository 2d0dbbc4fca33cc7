"""The error log of nginx, for applications that ngx_http_wsgi_module runs.

A worker finds this package by itself, unless one is installed where it looks before. Other
processes, `manage.py migrate` say, have to have it installed; there everything goes to stderr.
"""

import logging
import sys

try:
    import _nginx_wsgi as _server
except ImportError:
    _server = None

__all__ = ["LogHandler", "WebSocketError"]

# What environ["wsgi.websocket"] raises.
WebSocketError = getattr(_server, "WebSocketError", OSError)

_PLACE = "%(name)s (%(pathname)s:%(lineno)d): %(message)s"
# nginx has date and level of its own.
_FORMATTER = logging.Formatter(_PLACE if _server else f"%(asctime)s [%(levelname)s] {_PLACE}")


class LogHandler(logging.Handler):
    """Writes to nginx's error log, with the request that the calling thread serves.

    CRITICAL is crit there, ERROR error, WARNING warn, INFO info, and what is below it debug.
    Without a formatter a record has the name of its logger, file and line in front.
    """

    def format(self, record):
        return (self.formatter or _FORMATTER).format(record)

    def emit(self, record):
        try:
            text = self.format(record)
            if _server:
                _server.log(record.levelno, text)
            else:
                # Looked up each time, as it may be replaced.
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)
