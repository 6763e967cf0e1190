"""HTTP servers behind a gateway, in threads of the test, and a gateway's node before them."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import http.client

from servers import Althing, free_port


class Backend:
    """Answers with its name and what it was asked; can be told to fail, to drag, or to hang."""

    def __init__(self, name, port=None):
        self.name, self.port = name, port or free_port()
        self.seen = []  # (method, path, headers, bytes of body)
        self.status, self.delay, self.headers, self.body = 200, 0.0, {}, None
        self.hung = threading.Event()
        self.hung.set()  # set: it goes on
        self.under_way = self.under_way_max = 0
        self.connections = []
        self.lock = threading.Lock()
        self.server = None
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def read_body(self):
                if "chunked" in self.headers.get("transfer-encoding", ""):
                    total = 0
                    while n := int(self.rfile.readline().split(b";")[0], 16):
                        total += len(self.rfile.read(n))
                        self.rfile.readline()
                    while self.rfile.readline().strip():
                        pass
                    return total
                left = total = int(self.headers.get("content-length", 0))
                while left:
                    left -= len(self.rfile.read(min(left, 1 << 20)))
                return total

            def answer(self):
                with backend.lock:
                    backend.under_way += 1
                    backend.under_way_max = max(backend.under_way_max, backend.under_way)
                try:
                    got = self.read_body()
                    backend.seen.append((self.command, self.path, dict(self.headers.items()), got))
                    backend.hung.wait()
                    if backend.delay:
                        time.sleep(backend.delay)
                    if self.path.startswith("/stream/"):
                        return self.stream(int(self.path.split("/")[2]))
                    body = backend.body
                    if body is None:
                        body = json.dumps({"name": backend.name, "path": self.path, "got": got}).encode()
                    self.send_response(304 if self.headers.get("if-none-match") == '"same"' else backend.status)
                    if self.headers.get("if-none-match") == '"same"':
                        body = b""
                    for name, value in backend.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(body)
                except OSError:
                    self.close_connection = True
                finally:
                    with backend.lock:
                        backend.under_way -= 1

            def stream(self, megabytes):
                self.send_response(200)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                block = b"x" * (1 << 20)
                for _ in range(megabytes):
                    self.wfile.write(b"100000\r\n" + block + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                got = super().get_request()
                backend.connections.append(got[0])
                return got

            request_queue_size = 256

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def count(self, path=None):
        return sum(1 for seen in self.seen if path is None or seen[1] == path)

    def kill(self):
        """As if the process had been killed: connections end, and new ones are refused."""
        if self.server:
            self.hung.set()
            self.server.shutdown()
            self.server.server_close()
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.server = None


class Node(Althing):
    """A node with a gateway."""

    def __init__(self, number, directory, routes):
        self.gateway_port = free_port()
        super().__init__(number, directory, {})
        self.routes = Path(directory) / "routes.toml"
        self.routes.write_text(routes)

    def write_config(self):
        super().write_config()
        config = self.directory / "althing.toml"
        text = config.read_text() + f'gateway = "127.0.0.1:{self.gateway_port}"\n'
        config.write_text(text + f"[gateway]\nroutes = {json.dumps(str(self.routes))}\n")

    def report(self):
        code, body = self.http("/v1/gateway")
        assert code == 200, body
        return json.loads(body)

    def route(self, name):
        return next(route for route in self.report()["routes"] if route["name"] == name)

    def server_of(self, upstream, place=0):
        found = next(u for u in self.report()["upstreams"] if u["name"] == upstream)
        return found["servers"][place]

    def ask(self, method="GET", path="/", headers=None, body=None, timeout=10):
        """(status, headers, body) on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway_port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def name_of(self, *arguments, **options):
        """Which backend answered."""
        code, _, body = self.ask(*arguments, **options)
        assert code == 200, (code, body)
        return json.loads(body)["name"]

    def raw(self, text, timeout=5):
        """All bytes that come for these bytes, until the gateway closes or says nothing more."""
        with socket.create_connection(("127.0.0.1", self.gateway_port), timeout=timeout) as sock:
            sock.sendall(text if isinstance(text, bytes) else text.encode())
            got = b""
            try:
                while chunk := sock.recv(65536):
                    got += chunk
            except (TimeoutError, ConnectionResetError):
                pass
            return got
