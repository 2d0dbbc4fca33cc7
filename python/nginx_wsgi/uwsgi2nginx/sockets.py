"""Where the server listens: http-socket, http, https; and socket, behind which nginx was."""

import ipaddress
import os
import re
import socket as sockets

from ..common.block import Raw
from .ini import shown

HTTP = ("http-socket", "http11-socket", "http", "httprouter")
HTTPS = ("https", "https-socket")
UWSGI = ("socket", "uwsgi-socket", "suwsgi-socket", "ssl-socket")
NO_HTTP = ("fastcgi-socket", "scgi-socket", "raw-socket", "puwsgi-socket", "fastcgi-nph-socket",
           "scgi-nph-socket", "shared-socket", "undeferred-shared-socket", "map-socket")
LONGEST_UNIX = 107


class Strange(Exception):
    """No address that nginx can listen on; says why."""


def address(text, settings):
    """uWSGI's name of a socket as the argument of listen."""
    text = text.strip()
    if not text:
        raise Strange("is no address")
    if text.startswith("fd://") or text.startswith("="):
        raise Strange("is a socket from elsewhere, which nginx cannot take")
    if ":" not in text:
        if text.startswith(("@", "\\0")):
            raise Strange("is an abstract unix socket, which nginx does not have")
        if re.fullmatch(r"[0-9.]+", text):
            raise Strange("has no port")
        path = settings.start_path(text)
        if len(os.fsencode(path)) > LONGEST_UNIX:
            raise Strange("is too long for a unix socket")
        if not os.path.isdir(os.path.dirname(path)):
            raise Strange(f"would be listen unix:{shown(path)}, but its directory is not here")
        return f"unix:{path}"
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise Strange("has no port that nginx could listen on")
    if host in ("", "*"):
        return str(int(port))
    return f"{known_host(host)}:{int(port)}"


def known_host(host):
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = ipaddress.ip_address(bare)
        return f"[{found}]" if found.version == 6 else str(found)
    except ValueError:
        pass
    if host != bare or not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise Strange("is no address")
    try:
        sockets.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        raise Strange("has a host name that is not known here") from None
    return host


class Listening:
    """The listen lines of the server, and what else it takes."""

    def __init__(self, settings, chosen):
        self.settings = settings
        self.lines = []      # arguments of listen
        self.certificate = None
        self.redirect = []   # http-to-https
        self.direct = False  # clients spoke HTTP with uWSGI itself
        plain = settings.last("protocol", "socket-protocol")
        if plain and plain.value not in ("http", "uwsgi"):
            settings.look(plain, "nginx speaks HTTP with the clients and nothing else here")
        http = HTTP + UWSGI if plain and plain.value == "http" else HTTP
        for option in settings.take(*HTTP, *HTTPS, "http-to-https", *UWSGI):
            if option.key in http:
                self.plain(option, self.lines)
            elif option.key in HTTPS:
                self.tls(option)
            elif option.key == "http-to-https":
                self.plain(option, self.redirect)
            else:
                settings.quiet(option, "was how nginx reached uWSGI; nothing stands behind nginx"
                               " any more")
        for option in settings.take(*NO_HTTP):
            settings.look(option, "has no counterpart: nginx speaks HTTP with the clients")
        if chosen:
            self.lines = [[each] for each in chosen]
            self.redirect = []

    def plain(self, option, lines):
        self.direct = True
        try:
            found = address(option.value, self.settings)
        except Strange as why:
            self.settings.look(option, str(why))
            return
        if [found] in lines:
            self.settings.quiet(option, "is there twice")
        else:
            lines.append([found])

    def tls(self, option):
        self.direct = True
        name, *rest = option.value.split(",")
        if len(rest) < 2:
            self.settings.look(option, "has no certificate and key")
            return
        try:
            found = address(name, self.settings)
        except Strange as why:
            self.settings.look(option, str(why))
            return
        self.lines.append([found, Raw("ssl")])
        if self.certificate is None:
            self.certificate = option, [self.settings.start_path(path) for path in rest[:2]]
        elif self.certificate[1] != [self.settings.start_path(path) for path in rest[:2]]:
            self.settings.look(option, "has another certificate: that takes a server block of its"
                               " own")
        for name, value in zip(("ciphers", "client CA"), rest[2:], strict=False):
            if value:
                self.settings.look(option, f"{name} {shown(value)}: see ssl_ciphers,"
                                   " ssl_client_certificate and ssl_verify_client")

    def write(self, server):
        for arguments in self.lines:
            server.add("listen", *arguments)
        if not self.lines:
            server.note("The address of the server block that had uwsgi_pass, and its server_name;"
                        " 80 is only nginx's usual port.")
            server.add("listen", "80")
        if self.certificate:
            option, paths = self.certificate
            self.settings.put(option, server, "ssl_certificate", paths[0], variables=True)
            self.settings.put(option, server, "ssl_certificate_key", paths[1], variables=True)

    def write_redirect(self, http):
        if not self.redirect:
            return
        server = http.block("server")
        for arguments in self.redirect:
            server.add("listen", *arguments)
        server.add("return", "301", Raw("https://$host$request_uri"))
        http.space()
