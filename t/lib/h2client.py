"""A small HTTP/2 client with prior knowledge (or over TLS), built on the h2 package."""

import h2.config
import h2.connection
import h2.events
import h2.settings

from . import http


class H2Connection:
    def __init__(self, port, tls=False, timeout=20, window=None):
        self.raw = http.Connection(port, tls=tls, timeout=timeout, alpn=["h2"] if tls else None)
        # The answers of the server are looked at by the tests, not by the library.
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="latin-1", validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.acknowledge = window is None
        self.responses = {}
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.raw.close()

    def flush(self):
        self.raw.send(self.h2.data_to_send())

    def send(self, method, path, headers=(), body=b"", authority="localhost", end=True):
        """Send a request; its stream number."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "http"), (":path", path)]
        if authority:
            fields.append((":authority", authority))
        headers = headers.items() if isinstance(headers, dict) else headers
        fields += [(name.lower(), value) for name, value in headers]
        # As bytes: the library would make UTF-8 of them.
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        self.responses[stream] = http.Response(version="HTTP/2.0")
        self.h2.send_headers(stream, fields, end_stream=end and not body)
        self.flush()
        while body and (room := self.room(stream)):
            part, body = body[:room], body[room:]
            self.h2.send_data(stream, part, end_stream=end and not body)
            self.flush()
        return stream

    def room(self, stream):
        """How much of a body may be sent, when some may; 0 when the stream has ended before."""
        self.wait(stream, lambda _: self.h2.local_flow_control_window(stream))
        return min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)

    def reset(self, stream):
        self.h2.reset_stream(stream, error_code=8)
        self.flush()

    def pump(self):
        """Take in what the server sends next."""
        try:
            data, how = self.raw.sock.recv(1 << 16), "truncated"
        except ConnectionResetError:
            data, how = b"", "reset"
        if not data:
            for response in self.responses.values():
                if response.end == "nothing":
                    response.end = how
            return
        for event in self.h2.receive_data(data):
            self._take(event)
        self.flush()

    def _take(self, event):
        response = self.responses.get(getattr(event, "stream_id", None))
        if response is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            fields = [(str(name), str(value)) for name, value in event.headers]
            response.status = int(dict(fields)[":status"])
            response.headers = [field for field in fields if not field[0].startswith(":")]
        elif isinstance(event, h2.events.DataReceived):
            if event.data:
                response.chunks.append(event.data)
            # Bytes would be copied each time.
            response.body = response.body or bytearray()
            response.body += event.data
            if self.acknowledge and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            response.end = "stream"
            response.body = bytes(response.body)
        elif isinstance(event, h2.events.StreamReset):
            response.end = "reset"
            response.body = bytes(response.body)

    def wait(self, stream, condition=None):
        """Pump until the stream has ended, or the condition on its response holds."""
        response = self.responses[stream]
        while response.end == "nothing" and not (condition and condition(response)):
            self.pump()
        return response


def request(port, method, path, headers=(), body=b"", tls=False, **options):
    with H2Connection(port, tls=tls) as client:
        return client.wait(client.send(method, path, headers, body, **options))
