"""Logs: logto, logger and the like to error_log, log-format and req-logger to access_log."""

import os
import re

from ..common.block import Raw
from .ini import shown

# What nginx's variable of the same meaning is; times in other units are named in a comment.
VARIABLES = {
    "uri": "$request_uri", "method": "$request_method", "user": "$remote_user",
    "addr": "$remote_addr", "host": "$http_host", "proto": "$server_protocol",
    "uagent": "$http_user_agent", "referer": "$http_referer", "status": "$status",
    "size": "$body_bytes_sent", "rsize": "$body_bytes_sent", "cl": "$content_length",
    "ltime": "$time_local", "ctime": "$time_local", "ftime": "$time_local", "epoch": "$msec",
    "time": "$msec", "pid": "$pid", "msecs": "$request_time", "micros": "$request_time",
    "secs": "$request_time", "tmsecs": "$msec", "tmicros": "$msec",
}
OTHER_UNIT = {"msecs": "milliseconds", "micros": "microseconds"}
# The unit that a format writes behind such a time: nginx's are in seconds.
TIME = re.compile(r"(%\((?:msecs|micros)\)\s?)"
                  r"(?:milliseconds?|msecs?|ms|microseconds?|micros|usecs?|us|µs|μs)\b")
FILES = ("logto", "logto2", "daemonize", "daemonize2")


def translated(option, settings):
    """A log-format in nginx's words."""
    lost, units = [], []

    def variable(match):
        name = match.group(1)
        if name.startswith("var."):
            bare = name[4:].lower()
            if re.fullmatch(r"http_[a-z0-9_]+", bare):
                return f"${{{bare}}}"
        if name not in VARIABLES:
            lost.append(name)
            return "-"
        if name in OTHER_UNIT:
            units.append(name)
        return "${" + VARIABLES[name][1:] + "}"

    parts = re.split(r"%\(([^()]*)\)", option.value)
    if any("$" in part for part in parts[::2]):
        settings.look(option, "nginx would take its $ for a variable")
        return None
    text = re.sub(r"%\(([^()]*)\)", variable, TIME.sub(r"\1s", option.value))
    text = re.sub(r"\$\{(\w+)\}(?!\w)", r"$\1", text)
    if lost:
        settings.look(option, "nginx has no " + ", ".join(f"%({shown(name)})" for name in lost)
                      + ": a dash stands there")
    if units:
        settings.look(option, "nginx writes times in seconds, as 0.123: "
                      + ", ".join(f"%({name})" for name in dict.fromkeys(units)))
    return text


def error_log(settings, main):
    for option in settings.take(*FILES, "logger"):
        value = option.value
        if option.key == "logger":
            kind, _, value = value.rpartition("file:")
            if kind or not value or option.value == value:
                settings.look(option, "see nginx's error_log, which also writes to syslog")
                continue
        if re.fullmatch(r"[^/]*:[0-9]+", value):
            settings.look(option, "nginx logs to no UDP address but syslog: error_log"
                          " syslog:server=ADDRESS")
            continue
        if not value:
            settings.look(option, "has no value")
            continue
        settings.writable(option, settings.start_path(value), main, "error_log")


def access_log(settings, http):
    disabled = settings.flag("disable-logging")
    written = settings.text("log-format", "logformat")
    loggers = settings.take("req-logger", "logger-req")
    if disabled:
        http.add("access_log", "off")
        for option in [*loggers, *([written] if written else [])]:
            settings.quiet(option, "disable-logging switches it off")
        return
    name = []
    if written and (text := translated(written, settings)) is not None:
        # The format is Raw for its variables: the option's own text is quoted here.
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        if len(text.encode("utf-8", "surrogateescape")) < 3800 and text.isprintable():
            http.add("log_format", "uwsgi", Raw(f'"{text}"'))
            name = ["uwsgi"]
        else:
            settings.look(written, "cannot be written as a log_format")
    written_any = False
    for option in loggers:
        kind, _, value = option.value.rpartition("file:")
        if kind or not value or value == option.value:
            settings.look(option, "see nginx's access_log, which also writes to syslog")
            continue
        path = settings.start_path(value)
        written_any |= settings.writable(option, path, http, "access_log", *name)
    if name and not written_any:
        usual = "/var/log/nginx"
        http.add("access_log", f"{usual if os.path.isdir(usual) else 'logs'}/access.log", *name)
