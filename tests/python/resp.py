"""A Redis client of a few lines that sends exactly what a test wants to send and shows each answer as it came.

An answer is a Python value: bulk strings are bytes, statuses are str, refusals are `Refused`, nothing is
None; of the newer protocol, maps are dict, sets are set, pushes are `Push`, verbatim strings `Verbatim`.
"""

import socket


class Refused(str):
    """A refusal; not raised."""


class Push(list):
    """A message that was not asked for."""


class Verbatim(bytes):
    """Text for people, with its format in front."""


class Closed(Exception):
    """The server closed the connection."""


def encode(*arguments):
    """The bytes of a request."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Resp:
    def __init__(self, endpoint, timeout=10.0, buffer=None):
        self.sock = socket.socket()
        self.sock.settimeout(timeout)
        if buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.connect(endpoint)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def send_bytes(self, data):
        self.sock.sendall(data)

    def send(self, *arguments):
        self.send_bytes(encode(*arguments))

    def call(self, *arguments):
        self.send(*arguments)
        return self.read()

    def _exactly(self, count):
        data = self.file.read(count)
        if len(data) < count:
            raise Closed()
        return data

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise Closed()
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest.decode()
            case b"-":
                return Refused(rest.decode())
            case b":":
                return int(rest)
            case b",":
                return float(rest)
            case b"#":
                return {b"t": True, b"f": False}[rest]
            case b"_":
                return None
            case b"$" | b"=":
                if rest == b"-1":
                    return None
                data = self._exactly(int(rest) + 2)[:-2]
                return data if kind == b"$" else Verbatim(data)
            case b"*":
                return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
            case b">":
                return Push(self.read() for _ in range(int(rest)))
            case b"~":
                return {self.read() for _ in range(int(rest))}
            case b"%":
                return {self.read(): self.read() for _ in range(int(rest))}
            case _:
                raise AssertionError(f"no answer begins like this: {line[:80]!r}")

    def is_closed(self):
        """True when the server closes without a further byte."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True
