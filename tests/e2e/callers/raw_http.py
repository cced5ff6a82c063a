"""HTTP written and read byte by byte, for what no client library would send."""

import socket
import ssl


class Answer:
    def __init__(self, status, reason, fields, body, complete):
        self.status, self.reason, self.fields, self.body = status, reason, fields, body
        #: False when the connection ended before the body did
        self.complete = complete
        self.trailers = []

    def values(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def value(self, name):
        return next(iter(self.values(name)), None)

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.body[:200]!r}{'' if self.complete else ' (cut)'}>"


class RawHttp:
    """One connection. Works on plain and TLS sockets alike."""

    def __init__(self, connection):
        self.socket = connection
        self.buffer = bytearray()
        self.ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        """Sends all of it; a peer that already closed is noticed by the read that follows."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass
        return self

    def _more(self):
        try:
            piece = self.socket.recv(64 * 1024)
        except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError, BrokenPipeError):
            piece = b""
        if not piece:
            self.ended = True
        self.buffer += piece
        return bool(piece)

    def read_until(self, mark):
        while mark not in self.buffer:
            if not self._more():
                raise EOFError(f"closed before {mark!r}: {bytes(self.buffer[:300])!r}")
        return self._take(self.buffer.index(mark) + len(mark))

    def read_exactly(self, count):
        while len(self.buffer) < count:
            if not self._more():
                raise EOFError(f"closed after {len(self.buffer)} of {count} bytes")
        return self._take(count)

    def _take(self, count):
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def read_head(self):
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        lines = head[:-4].split("\r\n")
        version, status, *reason = lines[0].split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), lines[0]
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        return Answer(int(status), "".join(reason), fields, b"", True)

    def read_answer(self, method="GET"):
        """The next final answer; interim ones are in its `interim`."""
        interim = []
        answer = self.read_head()
        while 100 <= answer.status < 200 and answer.status != 101:
            interim.append(answer)
            answer = self.read_head()
        answer.interim = interim
        if method == "HEAD" or answer.status in (101, 204, 304):
            return answer
        try:
            if answer.value("Transfer-Encoding") == "chunked":
                while size := int(self.read_until(b"\r\n").split(b";")[0], 16):
                    answer.body += self.read_exactly(size)
                    assert self.read_exactly(2) == b"\r\n"
                while (line := self.read_until(b"\r\n")) != b"\r\n":
                    name, _, value = line.decode("latin-1").partition(":")
                    answer.trailers.append((name, value.strip()))
            elif answer.value("Content-Length") is not None:
                answer.body = self.read_exactly(int(answer.value("Content-Length")))
            else:
                answer.body = self.read_to_end()
        except EOFError:
            answer.complete = False
        return answer

    def read_to_end(self):
        while self._more():
            pass
        return self._take(len(self.buffer))

    def is_closed(self, seconds=10):
        """Waits for the peer to close; anything it still sends counts as not closed."""
        self.socket.settimeout(seconds)
        if self.ended:
            return True
        if self.buffer:
            return False
        try:
            return not self._more()
        except (TimeoutError, socket.timeout):
            return False


def request(method, target, *fields, token=None, host="tunnel.test", body=b""):
    """Bytes of a request; Host and Authorization first, then `fields` as given."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1") + body
