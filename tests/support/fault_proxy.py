"""A proxy before an S3 server that breaks what it is told to break, and remembers what it was asked for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

Fault = Callable[[str, str], str]
"""Method and path of a request -> "" or what is done to it: drop, cut (the answer), wrong (a byte), or one of ANSWERS."""
ANSWERS = {"busy": (503, "SlowDown"), "deny": (403, "AccessDenied"), "none": (404, "NoSuchKey"), "lie": (200, "")}
"""What the proxy answers in place of the server: status and code."""


@dataclass
class Proxy:
    """`fault` may be set at any time; `seen` are the requests that came, as (method, path, range)."""

    url: str
    fault: Fault = lambda method, path: ""
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def count(self, method: str, part: str = "") -> int:
        return sum(request[0] == method and part in request[1] for request in self.seen)


def in_turn(*faults: str) -> Fault:
    """These faults in turn for each method and path, so that what runs side by side meets the same in any order."""
    turns: dict[tuple[str, str], Iterator[str]] = {}
    return lambda method, path: next(turns.setdefault((method, path), cycle(faults)))


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            running.seen.append((self.command, self.path, self.headers.get("Range", "")))
            fault = running.fault(self.command, self.path)
            if fault == "drop":
                self.close_connection = True
                return
            if fault in ANSWERS:
                status, code = ANSWERS[fault]
                self.give(status, {"ETag": "x"}, f"<Error><Code>{code}</Code></Error>".encode() if code else b"")
                return
            upstream = HTTPConnection(host, port)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers))
                response = upstream.getresponse()
                content = response.read()
            finally:
                upstream.close()
            if fault == "wrong":
                content = content[:-1] + bytes([content[-1] ^ 1])
            self.give(response.status, dict(response.getheaders()), content, cut=fault == "cut")

        def give(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
            self.send_response(status)
            length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            with suppress(ConnectionError):  # who asked is gone
                self.wfile.write(content[: len(content) * 2 // 3] if cut else content)
            self.close_connection = cut

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
