"""The options without a directive of nginx: what to do instead, or why nothing has to be done.

QUIET need nothing. LOOK do something that the new configuration does not. A name that ends with *
stands for all that begin so; an exact name goes first, then the longest.
"""

QUIET = {
    "nginx has a master process and workers anyway": "master no-orphans reaper master-as-root",
    "nginx removes what it makes": "vacuum",
    "nginx quits at SIGTERM anyway": "die-on-term exit-on-reload",
    "each worker loads the application for itself": "lazy lazy-apps",
    "Python's threads work in the module": "enable-threads no-threads-wait",
    "nginx shares the listening sockets between its workers": "thunder-lock thunder-lock-watchdog"
        " tcp-nodelay so-keepalive no-defer-accept abstract-socket freebind",
    "is about the socket between nginx and uWSGI, which is gone": "chmod-socket chmod chown-socket"
        " http-modifier1 http-modifier2 http-socket-modifier1 http-socket-modifier2 http-to"
        " http-use-socket http-processes http-workers http-events http-buffer-size"
        " so-send-timeout socket-send-timeout so-write-timeout socket-write-timeout"
        " socket-sndbuf socket-rcvbuf http-post-buffering http-post-buffering-dir http-gracetime"
        " post-buffering-bufsize",
    "nginx names its processes itself": "procname* auto-procname",
    "the module is the plugin": "plugins-dir plugin-dir need-plugin need-plugins autoload",
    "nginx speaks HTTP/1.1 with kept connections anyway": "http-keepalive http-auto-chunked"
        " http-chunked-input http-raw-body chunked-input-limit chunked-input-timeout"
        " http-manage-expect wsgi-manage-chunked-input",
    "nginx sends files without a thread of Python": "offload-threads file-serve-mode"
        " log-sendfile wsgi-disable-file-wrapper",
    "a client that leaves is no error of the application here": "ignore-sigpipe"
        " ignore-write-errors write-errors-tolerance write-errors-exception-only"
        " disable-write-exception log-ioerror",
    "is about uWSGI's own log": "log-master* log-reopen log-truncate log-zero log-4xx log-5xx"
        " log-date logdate log-prefix log-micros log-x-forwarded-for log-slow log-big"
        " logformat-strftime log-format-strftime threaded-logger logfile-chown logfile-chmod"
        " memory-report no-initial-output log-backupname log-encoder log-req-encoder",
    "is about uWSGI's memory and processes": "max-vars vec-size max-apps ksm pcre-jit locks"
        " lock-engine ftok persistent-ipcsem cpu-affinity thread-stacksize threads-stacksize"
        " thread-stack-size threads-stack-size backtrace-depth response-headers-limit"
        " skip-atexit-teardown skip-zero no-fd-passing safe-fd fd-safe honour-stdin"
        " reload-os-env close-on-exec close-on-exec2 python-version clock page-size"
        " wsgi-env-behaviour wsgi-env-behavior early-python py-call-osafterfork"
        " py-call-uwsgi-fork-hooks wsgi-strict",
    "asks uWSGI for information": "show-config strict *-list help usage version cflags",
    "wsgi_request_timeout writes the stack of the thread to the error log": "harakiri-verbose",
    "one worker that has ended is replaced by nginx": "forkbomb-delay die-on-no-workers"
        " min-worker-lifetime",
}

COMMAND = ("run it from the unit that starts nginx (ExecStartPre=, ExecStopPost=), or do it in the"
           " application's module")
LOOK = {
    "nginx keeps the same number of workers": "cheap cheaper* idle die-on-idle",
    "wsgi_request_timeout raises an exception in the thread; it has no second stage, and does not"
    " look at the queue": "harakiri-graceful* harakiri-queue-threshold",
    "nginx has no such limit for the age of a worker": "max-worker-lifetime*",
    "there is wsgi_max_rss for resident memory, nothing for other measures": "reload-on-as"
        " reload-on-uss reload-on-pss evil-reload-on-as",
    "worker_shutdown_timeout (main) limits how long a reload waits": "reload-mercy"
        " worker-reload-mercy",
    "a reload is `nginx -s reload`, by the script that touches the file now": "touch-reload"
        " touch-workers-reload touch-chain-reload fs-reload fs-brutal-reload reload-on-fd"
        " brutal-reload-on-fd",
    "`nginx -s reopen` opens the logs afresh, see logrotate": "touch-logrotate touch-logreopen"
        " log-maxsize",
    "run it from systemd or cron": "cron* legion-cron unique-cron unique-legion-cron",
    "run it as a systemd service": "attach-daemon* attach-control-daemon smart-attach-daemon*"
        " legion-attach-daemon*",
    "a path unit of systemd runs a command when a file changes": "touch-exec",
    "nginx has no signals of uWSGI; what their handlers in the application do takes a program of"
    " its own, which systemd or cron runs": "touch-signal timer rbtimer signal* fs-signal",
    COMMAND: "exec-*",
    "write the call into the application's module": "call-*",
    "a mount unit of systemd, or /etc/fstab, does this": "mount-* umount-*",
    "is about processes that nginx does not have": "http-harakiri mule-harakiri spooler-harakiri"
        " hook-emperor* hook-as-vassal* hook-as-emperor* hook-as-on-* hook-as-mule hook-as-gateway"
        " exec-as-vassal exec-as-emperor call-as-vassal* call-as-emperor* mount-as-vassal"
        " mount-as-emperor umount-as-vassal umount-as-emperor",
    "needs a program of its own (Celery, RQ, a systemd service): nginx has no such processes":
        "spooler* mule* farm* rpc* queue* sharedarea* py-sharedarea",
    "write the import into the application's module": "import pyimport py-import python-import"
        " shared-import shared-pyimport shared-py-import shared-python-import early-pyimport"
        " early-python-import pymodule-alias post-pymodule-alias",
    "write it into the application, or as nginx's rewrite, return, if, location; basicauth is"
    " auth_basic with `wsgi_param REMOTE_USER $remote_user if_not_empty;`":
        "route* final-route* error-route* response-route*",
    "nginx's stub_status and log variables, or the application, tell such figures": "stats*"
        " metric* metrics* carbon* snmp* enable-metrics alarm* *-alarm lq-alarm udp",
    "an event loop does not run in the module: requests take threads": "async gevent* asyncio"
        " ugreen fiber coroae greenlet loop asyncio* tornado* stackless",
    "uWSGI's cache, and the module `uwsgi`, do not exist here": "cache* add-cache-item"
        " load-file-in-cache* check-cache",
    "each vassal becomes an nginx.conf of its own, or a server block if they may share an"
    " interpreter": "emperor* vassal* early-emperor imperial* zeus",
    "nginx balances load itself: see upstream": "subscri* subscribe* st zerg* legion*"
        " fastrouter* rawrouter* sslrouter* http-subscription* http-fallback http-zerg"
        " http-use-pattern http-use-base http-use-cache http-resubscribe heartbeat weight"
        " auto-weight start-unsubscribed unsubscribe-on-graceful-reload",
    "a systemd unit does this for nginx": "chroot prio unshare* setns* cap cgroup* namespace*"
        " limit-as limit-nproc never-swap drop-after-* immediate-uid immediate-gid add-gid"
        " pivot-root pivot_root rootfs tmpfs vhostsfs check-mountpoint mountpoint-check"
        " flock* privileged-* unprivileged-* rlimit*",
    "a server block for each host does this": "vhost* sni* subscriptions-use*",
    "see nginx's ngx_http_ssl_module": "ssl-* https-*",
    "see nginx's error_page; wsgi_intercept_errors makes it apply to answers of the application":
        "error-page-*",
    "nginx's client_body_timeout and send_timeout limit how long a client may be silent":
        "socket-timeout http-headers-timeout http-connect-timeout",
    "nginx has log levels and `if=` of access_log for this": "log-drain log-filter log-route"
        " log-req-route worker-logger* log-syslog log-socket syslog rsyslog",
    "see nginx's listen ... proxy_protocol": "enable-proxy-protocol http-enable-proxy-protocol"
        " log-proxy",
    "the error page is nginx's; the traceback is in the error log": "catch-exceptions"
        " reload-on-exception* exception-handler",
    "the interpreter is set up by the module": "optimize pyargv no-site py-programname"
        " py-program-name py-executable py-sys-executable py-tracebacker wsgi-accept-buffer*"
        " py-auto-reload-ignore python-worker-override profiler py-master-check-signals"
        " catch-env",
    "has no counterpart here": "pull-header collect-header response-header-collect fork-server"
        " fork-socket http-var http-auto-gzip http-stud-prefix http-manage-source"
        " http-manage-rtsp http-server-name-as-http-host http-quiet http-cheap http-stats*"
        " http-ss http-uid http-gid upload-progress body-read-warning ignore-script-name"
        " no-default-app default-app check-static-docroot dynamic-apps webdav* master-fifo"
        " perl* psgi* ruby* rack* lua* cgi* php* transformation* worker-exec* aliases"
        " no-server command-mode declare-option* custom-option blacklist whitelist end-blacklist"
        " end-whitelist fallback-config extract inject-before inject-after resolve"
        " dlopen pyshell* pyrun python py test get force-cwd chdir2 binsh cgi-mode"
        " protocol http-backend-http logger-list static-cache-paths*"
        " http-use-code-string http-subscription-server spawn-asap reload-on-fd hook-* post-app*"
        " unbit-*",
}

# What a hook does is the first word of its value.
HOOKS = {
    "wsgi_chdir is the working directory of the application": "cd chdir",
    "write it as wsgi_env NAME VALUE": "putenv",
    COMMAND: "exec safeexec mkdir chmod chown chown2 sticky create creat write writen append"
        " appendn unlink hostname mount umount",
    "systemd starts nginx when it is there: After=, RequiresMountsFor=, ExecStartPre=":
        "wait_for_fs wait_for_file wait_for_dir wait_for_socket",
    "is about uWSGI's own process": "unix_signal exit call callret callint callintret alarm rpc"
        " retryrpc spinningfifo writefifo",
    "print it in the application's module: it goes to the error log": "print log",
}


def _table():
    exact, beginnings, ends = {}, {}, {}
    for kind, reasons in (("quiet", QUIET), ("look", LOOK)):
        for why, names in reasons.items():
            for name in names.split():
                if name.endswith("*"):
                    beginnings[name[:-1]] = kind, why
                elif name.startswith("*"):
                    ends[name[1:]] = kind, why
                else:
                    exact[name] = kind, why
    return exact, beginnings, ends


EXACT, BEGINNINGS, ENDS = _table()
ACTIONS = {name: why for why, names in HOOKS.items() for name in names.split()}


def reason(key, value=""):
    """("quiet" or "look", why), or None for an option that is not known here."""
    if key in EXACT:
        return EXACT[key]
    fitting = [name for name in BEGINNINGS if key.startswith(name)]
    if fitting:
        longest = max(fitting, key=len)
        if longest == "hook-":
            action = (value.partition(" ")[2] if key == "hook-touch" else value).partition(":")[0]
            if action in ACTIONS:
                return "look", ACTIONS[action]
        return BEGINNINGS[longest]
    return next((found for end, found in ENDS.items() if key.endswith(end)), None)
