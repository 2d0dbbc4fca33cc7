"""gunicorn's settings, from where gunicorn takes them: configuration file, environment, options.

The later wins, as with gunicorn: the file, GUNICORN_CMD_ARGS, the command line. The file is Python
and is run, as gunicorn runs it; nothing else is.
"""

import argparse
import os
import shlex
import types

# (options, setting, kind). Kinds: 1 takes a value, + may be repeated, 0 takes none.
OPTIONS = """
-b --bind + bind|--backlog 1 backlog|-w --workers 1 workers|-k --worker-class 1 worker_class
--threads 1 threads|--worker-connections 1 worker_connections|--max-requests 1 max_requests
--max-requests-jitter 1 max_requests_jitter|-t --timeout 1 timeout
--graceful-timeout 1 graceful_timeout|--keep-alive 1 keepalive
--limit-request-line 1 limit_request_line|--limit-request-fields 1 limit_request_fields
--limit-request-field_size 1 limit_request_field_size|--reload 0 reload
--reload-engine 1 reload_engine|--reload-extra-file + reload_extra_files|--spew 0 spew
--check-config 0 check_config|--print-config 0 print_config|--preload 0 preload_app
--no-sendfile 0 no_sendfile|--reuse-port 0 reuse_port|--chdir 1 chdir|-D --daemon 0 daemon
-e --env + raw_env|-p --pid 1 pidfile|--worker-tmp-dir 1 worker_tmp_dir|-u --user 1 user
-g --group 1 group|-m --umask 1 umask|--initgroups 0 initgroups
--forwarded-allow-ips 1 forwarded_allow_ips|--access-logfile 1 accesslog
--disable-redirect-access-to-syslog 0 disable_redirect_access_to_syslog
--access-logformat 1 access_log_format|--error-logfile --log-file 1 errorlog|--log-level 1 loglevel
--capture-output 0 capture_output|--logger-class 1 logger_class|--log-config 1 logconfig
--log-config-json 1 logconfig_json|--log-syslog-to 1 syslog_addr|--log-syslog 0 syslog
--log-syslog-prefix 1 syslog_prefix|--log-syslog-facility 1 syslog_facility
-R --enable-stdio-inheritance 0 enable_stdio_inheritance|--statsd-host 1 statsd_host
--dogstatsd-tags 1 dogstatsd_tags|--statsd-prefix 1 statsd_prefix|-n --name 1 proc_name
--pythonpath 1 pythonpath|--paste --paster 1 paste|--proxy-protocol 0 proxy_protocol
--proxy-allow-from 1 proxy_allow_ips|--keyfile 1 keyfile|--certfile 1 certfile
--ssl-version 1 ssl_version|--cert-reqs 1 cert_reqs|--ca-certs 1 ca_certs
--suppress-ragged-eofs 0 suppress_ragged_eofs|--do-handshake-on-connect 0 do_handshake_on_connect
--ciphers 1 ciphers|--strip-header-spaces 0 strip_header_spaces
--permit-obsolete-folding 0 permit_obsolete_folding
--permit-unconventional-http-method 0 permit_unconventional_http_method
--permit-unconventional-http-version 0 permit_unconventional_http_version
--header-map 1 header_map|--forwarder-headers 1 forwarder_headers
"""


class Failure(Exception):
    """What keeps the settings from being read, as a sentence."""


def options():
    for text in OPTIONS.replace("\n", "|").strip("|").split("|"):
        *flags, kind, name = text.split()
        yield flags, kind, name


def parser(prog, text):
    made = argparse.ArgumentParser(prog=prog, allow_abbrev=False)
    made.format_help = lambda: text
    made.format_usage = lambda: f"usage: {prog} [gunicorn] OPTION... [module:callable], see -h\n"
    made.add_argument("-c", "--config")
    made.add_argument("wsgi_app", nargs="*")
    kinds = {"0": {"action": "store_const", "const": True}, "+": {"action": "append"}, "1": {}}
    for flags, kind, name in options():
        made.add_argument(*flags, dest=name, **kinds[kind])
    return made


def given(parsed):
    """What a command line has set."""
    found = {name: value for name, value in vars(parsed).items()
             if value is not None and value != []}
    config = found.pop("config", None)
    if apps := found.pop("wsgi_app", None):
        found["wsgi_app"] = apps[-1]
    return found, config


def run(path):
    """What a configuration file sets, with its functions."""
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec")
        space = {"__builtins__": __builtins__, "__name__": "__config__", "__file__": path,
                 "__doc__": None, "__package__": None}
        exec(code, space)
    except Exception as error:
        raise Failure(f"{path}: {type(error).__name__}: {error}") from None
    hidden = ("__builtins__", "__name__", "__file__", "__doc__", "__package__", "__cached__",
              "__annotations__")
    return {name: value for name, value in space.items()
            if name not in hidden and not isinstance(value, types.ModuleType)}


def read(parsed, read_more):
    """All settings. read_more parses a list of arguments, for GUNICORN_CMD_ARGS."""
    command, config = given(parsed)
    environment, config_there = given(read_more(shlex.split(
        os.environ.get("GUNICORN_CMD_ARGS", ""))))
    config = config or config_there
    settings, known = {}, {name for _, _, name in options()} | KNOWN
    path = (config or "./gunicorn.conf.py").removeprefix("file:")
    if config and config.startswith("python:"):
        raise Failure(f"{config}: name its file in place of the module")
    if config or os.path.exists(path):
        settings = {name: value for name, value in run(path).items()
                    if name in known or callable(value) and name in HOOKS}
    return {**settings, **environment, **command}


HOOKS = set("""
    on_starting on_reload when_ready pre_fork post_fork post_worker_init worker_int worker_abort
    pre_exec pre_request post_request child_exit worker_exit nworkers_changed on_exit ssl_context
""".split())
# Those without an option.
KNOWN = set("""
    wsgi_app secure_scheme_headers default_proc_name tmp_upload_dir logconfig_dict sendfile
    strip_header_spaces casefold_http_method
""".split())
