"""A client with the state machine of the h2 package, which rejects what violates RFC 9113.

usage: client.py PORT FOLDER, where FOLDER is the site, which permits uploads and has the file large.bin.
It exits with code 0 if all checks pass.
"""

import hashlib
import pathlib
import socket
import sys

import h2.config
import h2.connection
import h2.events

TIMEOUT_SECONDS = 60
STREAMS = 20


class Client:
    def __init__(self, port):
        self.authority = f"127.0.0.1:{port}"
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.responses = {}
        self.flush()

    def flush(self):
        self.socket.sendall(self.connection.data_to_send())

    def begin(self, method, path, fields=(), end_stream=True):
        """Sends the head of a request and returns its stream."""
        stream = self.connection.get_next_available_stream_id()
        pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":authority", self.authority),
            (":path", path),
        ]
        self.connection.send_headers(stream, pseudo + list(fields), end_stream=end_stream)
        self.responses[stream] = {"fields": {}, "content": b"", "ended": False}
        self.flush()
        return stream

    def send_body(self, stream, body, trailers):
        """Sends a body as the windows permit, and trailers."""
        connection = self.connection
        while body:
            room = connection.local_flow_control_window(stream)
            room = min(room, connection.max_outbound_frame_size)
            if room == 0:
                self.receive()
                continue
            connection.send_data(stream, body[:room])
            body = body[room:]
            self.flush()
        connection.send_headers(stream, trailers, end_stream=True)
        self.flush()

    def receive(self):
        data = self.socket.recv(65536)
        assert data, "the server closed the connection"
        for event in self.connection.receive_data(data):
            self.on_event(event)
        self.flush()

    def on_event(self, event):
        failures = (h2.events.StreamReset, h2.events.ConnectionTerminated)
        assert not isinstance(event, failures), event
        if isinstance(event, h2.events.ResponseReceived):
            self.responses[event.stream_id]["fields"] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.responses[event.stream_id]["content"] += event.data
            length = event.flow_controlled_length
            self.connection.acknowledge_received_data(length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.responses[event.stream_id]["ended"] = True

    def response(self, stream):
        """Reads until the response of a stream is complete."""
        while not self.responses[stream]["ended"]:
            self.receive()
        response = self.responses.pop(stream)
        return response["fields"], response["content"]

    def exchange(self, method, path, fields=()):
        return self.response(self.begin(method, path, fields))


def expect(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def main(port, folder):
    large = (folder / "large.bin").read_bytes()
    client = Client(port)

    fields, content = client.exchange("GET", "/large.bin")
    expect(fields[":status"], "200")
    expect(fields["content-length"], str(len(large)))
    expect(hashlib.sha256(content).digest(), hashlib.sha256(large).digest())
    etag = fields["etag"]

    fields, content = client.exchange("HEAD", "/large.bin")
    expect((fields[":status"], fields["content-length"], content), ("200", str(len(large)), b""))
    fields, content = client.exchange("GET", "/large.bin", [("if-none-match", etag)])
    expect((fields[":status"], content), ("304", b""))
    fields, content = client.exchange("GET", "/large.bin", [("range", "bytes=1000-1999")])
    expect((fields[":status"], content), ("206", large[1000:2000]))
    fields, _ = client.exchange("GET", "/none")
    expect(fields[":status"], "404")

    streams = [client.begin("GET", "/large.bin") for _ in range(STREAMS)]
    for stream in streams:
        fields, content = client.response(stream)
        expect((fields[":status"], content == large), ("200", True))

    for length in (0, 1, 65536, len(large)):
        declared = [("content-length", str(length))]
        for number, fields in enumerate(([], declared)):
            path = f"/upload-{length}-{number}"
            stream = client.begin("PUT", path, fields, end_stream=False)
            client.send_body(stream, large[:length], [("x-checksum", "none")])
            fields, _ = client.response(stream)
            expect(fields[":status"], "201")
            expect((folder / path[1:]).read_bytes() == large[:length], True)

    client.connection.close_connection()
    client.flush()
    client.socket.shutdown(socket.SHUT_WR)
    while data := client.socket.recv(65536):
        client.connection.receive_data(data)


if __name__ == "__main__":
    main(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
