"""What strangers send: smuggling, broken heads, oversize, garbage and slowness. The rule is the same for
all: a 4xx (or 5xx for what we do not speak) and a closed connection, or a documented safe handling; the
service never sees a request that its caller did not make."""

import json
import os
import socket
import ssl

import pytest

from callers.raw_http import RawHttp, request
from programs.loopback import wait_until

SMUGGLED = "/smuggled"


class Case:
    """`sent` with TOKEN replaced by a genuine token. `expect` is one of
    "refused"      one 4xx (or 501, 505) and the connection closed: where the request ends is in doubt
    "turned away"  the same status, but the framing is clear, so the connection may serve the next request
    a set          of fine statuses
    """

    def __init__(self, name, sent, expect="refused"):
        self.name, self.expect = name, expect
        self.sent = sent if isinstance(sent, bytes) else sent.encode("latin-1")


def head(*lines, start="POST /t/web/echo HTTP/1.1", host="Host: x", token="Authorization: Bearer TOKEN", body=""):
    return "\r\n".join([start, *([host] if host else []), *([token] if token else []), *lines, "", ""]) + body


BEHIND = f"GET /t/web{SMUGGLED} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\r\n"


def corpus():
    yield from framing_cases()
    yield from field_cases()
    yield from request_line_cases()
    yield from host_cases()
    yield from chunk_cases()
    yield from control_byte_cases()


def framing_cases():
    """Every way two parsers have been known to disagree about where a request ends."""
    lengths = ["5", "0", "6", "+5", "-5", "5 5", "5,5", "5, 5", "0x5", "5.0", "5e0", "05", "", " ", "a", "5a", "٥",
               "5\x0b", "5\x00", "\x0b5", "99999999999999999999", "18446744073709551616", "9223372036854775808",
               "184467440737095516210", "1_0", "5;", "5\t5", "\"5\"", "NaN", "infinity"]
    valid = {"5", "0", "6", "05"}
    for value in lengths:
        if value in valid:
            continue
        text = value.encode("utf-8").decode("latin-1")
        yield Case(f"Content-Length {value!r}", head(f"Content-Length: {text}", body="hello" + BEHIND))
    codings = ["chunked, chunked", "identity", "gzip", "gzip, chunked", "chunked, gzip", "identity, chunked",
               "chunked, identity", "chunkedx", "xchunked", "x chunked", "chunked x", "\"chunked\"", "chunked;q=1",
               "chunked ;", ",chunked", "chunked,", ", ,chunked", "chun\tked", "chunked\x00", "\x0bchunked", "\x0cchunked",
               "chunked\x0b", "cow", "", "\x00chunked", "compress", "deflate", "\x85chunked", "\xa0chunked", "0", "trailers"]
    for value in codings:
        yield Case(f"Transfer-Encoding {value!r}",
                   head(f"Transfer-Encoding: {value}", body="5\r\nhello\r\n0\r\n\r\n" + BEHIND))
    both = ["Content-Length: 5", "Content-Length: 0", "Content-Length: 100", "content-length: 5", "Content-Length:5"]
    encodings = ["Transfer-Encoding: chunked", "transfer-encoding: CHUNKED", "Transfer-Encoding:chunked",
                 "Transfer-Encoding: identity", "Transfer-Encoding: xchunked", "Transfer-Encoding:\tchunked",
                 "Transfer-encoding: chunked"]
    for length in both:
        for encoding in encodings:
            for order in ([length, encoding], [encoding, length]):
                yield Case(f"both {order}", head(*order, body="0\r\n\r\n" + BEHIND))
    for first, second in [("5", "5"), ("5", "6"), ("5", "0"), ("0", "5"), ("5", ""), ("5", "a"), ("5", "+5")]:
        yield Case(f"Content-Length twice {first} {second}",
                   head(f"Content-Length: {first}", f"Content-Length: {second}", body="hello" + BEHIND))
        yield Case(f"Content-Length twice, apart {first} {second}",
                   head(f"Content-Length: {first}", "X-A: b", f"content-LENGTH: {second}", body="hello" + BEHIND))
    for first, second in [("chunked", "chunked"), ("chunked", "identity"), ("identity", "chunked"), ("chunked", "x"),
                          ("", "chunked"), ("chunked", "")]:
        yield Case(f"Transfer-Encoding twice {first!r} {second!r}",
                   head(f"Transfer-Encoding: {first}", f"Transfer-Encoding: {second}", body="0\r\n\r\n" + BEHIND))
    for line in ["Transfer-Encoding : chunked", " Transfer-Encoding: chunked", "Transfer-Encoding\t: chunked",
                 "Transfer-Encoding\x00: chunked", "Transfer_Encoding: chunked\r\nTransfer-Encoding : chunked",
                 "X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "X: y\r\rTransfer-Encoding: chunked",
                 "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: \r\n\tchunked", "\x00Transfer-Encoding: chunked",
                 "Transfer-Encoding\xa0: chunked", "Content-Length : 5", "Content-Length\t: 5", " Content-Length: 5",
                 "Content-Length:\r\n 5", "X: y\nContent-Length: 5", "Content-Length\x00: 5"]:
        yield Case(f"hidden {line!r}", head("Content-Length: 3", line, body="0\r\n\r\n" + BEHIND))
        yield Case(f"alone {line!r}", head(line, body="0\r\n\r\n" + BEHIND))
    yield Case("HTTP/1.0 with chunked", head("Transfer-Encoding: chunked", start="POST /t/web/echo HTTP/1.0",
                                             body="0\r\n\r\n" + BEHIND))


def field_cases():
    for name in ["", " ", "X Y", "X\tY", "X(", "X)", "X<", "X@", "X,", "X;", "X\\", 'X"', "X/", "X[", "X]", "X?", "X=",
                 "X{", "X}", "X\x01", "X\x7f", "X\x80", "X\xff", "é", ":X", "X\x0b"]:
        yield Case(f"field name {name!r}", head(f"{name}: y", body=BEHIND))
    for byte in [*range(0, 9), 10, 11, 12, 13, *range(14, 32), 127]:
        yield Case(f"byte {byte} in a field value", head(f"X-A: a{chr(byte)}b", body=BEHIND))
    yield Case("no colon", head("nonsense", body=BEHIND))
    yield Case("a folded line", head("X-A: b", " c", body=BEHIND))
    yield Case("a folded line with a tab", head("X-A: b", "\tc", body=BEHIND))
    yield Case("a folded first line", head(start="POST /t/web/echo HTTP/1.1\r\n X: y", body=BEHIND))
    yield Case("101 fields", head(*[f"X-{n}: y" for n in range(101)], body=BEHIND))
    yield Case("10,000 fields", head(*[f"X-{n}: y" for n in range(10_000)], body=BEHIND))
    yield Case("a field of 8 KiB and more", head("X-A: " + "y" * 8300, body=BEHIND))
    yield Case("a field of 1 MiB", head("X-A: " + "y" * (1 << 20), body=BEHIND))
    yield Case("a field name of 64 KiB", head("X" * 65536 + ": y", body=BEHIND))
    yield Case("a head over 32 KiB", head(*[f"X-{n}: " + "y" * 1000 for n in range(40)], body=BEHIND))
    yield Case("two Authorization fields", head("Authorization: Bearer TOKEN"), "turned away")
    yield Case("an unknown Expect", head("Expect: 200-ok", body=""), {400, 417})
    yield Case("Connection names Host", head("Connection: Host", body=""), {200, 400})
    yield Case("Connection names Content-Length", head("Connection: Content-Length", "Content-Length: 5", body="hello"),
               {200, 400})
    yield Case("Connection names Authorization", head("Connection: Authorization", body=""), {200, 400, 401})
    yield Case("Connection names the fields we set", head("Connection: X-Forwarded-For, X-Correlation-ID", body=""), {200, 400})


def request_line_cases():
    for line in ["", " ", "GET", "GET /t/web/hello", "GET  /t/web/hello HTTP/1.1", "GET /t/web/hello  HTTP/1.1",
                 " GET /t/web/hello HTTP/1.1", "GET /t/web/hello HTTP/1.1 ", "GET\t/t/web/hello\tHTTP/1.1",
                 "GET /t/web/hello HTTP/1.1 x", "GET /t/web/hello http/1.1", "GET /t/web/hello HTTP/1", "GET /t/web/hello HTTP/11",
                 "GET /t/web/hello HTTP/1.12", "GET /t/web/hello HTTP/ 1.1", "GET /t/web/hello HTTP/2.0", "GET /t/web/hello HTTP/0.9",
                 "GET /t/web/hello HTTP/3.0", "GET /t/web/hello HTTP/-1.1", "GET /t/web/hello HTTPS/1.1", "GET /t/web/hello HTTP/1,1",
                 "GET /t/web/hello XTTP/1.1", "GET /t/web/hello HTTP/1.1\x00", "GET /t/web/hello \x00HTTP/1.1",
                 "G\x00T /t/web/hello HTTP/1.1", "G(T /t/web/hello HTTP/1.1", "GÉT /t/web/hello HTTP/1.1", ": /t/web/hello HTTP/1.1",
                 "PRI * HTTP/2.0", "OPTIONS * HTTP/1.1", "CONNECT 127.0.0.1:22 HTTP/1.1", "CONNECT /t/web/hello HTTP/1.1",
                 "TRACE /t/web/hello HTTP/1.1", "TRACK /t/web/hello HTTP/1.1", "DEBUG /t/web/hello HTTP/1.1",
                 "get /t/web/hello HTTP/1.1", "X" * 5000 + " /t/web/hello HTTP/1.1",
                 "GET /t/web/" + "a" * 8200 + " HTTP/1.1", "GET /t/web/" + "a" * 100_000 + " HTTP/1.1",
                 "GET http://127.0.0.1/t/web/hello HTTP/1.1", "GET t/web/hello HTTP/1.1", "GET \\t\\web\\hello HTTP/1.1",
                 "GET ?/t/web HTTP/1.1", "GET #/t/web HTTP/1.1", "GET /t/web/hello#x HTTP/1.1", "GET * HTTP/1.1",
                 "GET /t/web/a b HTTP/1.1", "GET /t/web/\x01 HTTP/1.1", "GET /t/web/\x7f HTTP/1.1", "GET /t/web/é HTTP/1.1",
                 "GET /t/web/\xff HTTP/1.1", "GET /t/\xe2\x80\xae/hello HTTP/1.1"]:
        text = line.encode("utf-8").decode("latin-1") if any(ord(c) > 255 for c in line) else line
        yield Case(f"request line {line[:60]!r} of {len(line)}", head(start=text, body=BEHIND))
    for path in ["https://evil.test/", "//evil.test/", "/t/web\\..\\x", "/t/web/%0d%0aX:y", "/t/web/%00", "/t/web/%",
                 "/t/web/%zz", "/t/web/%2", "/t/web/../hello", "/t/web/./hello", "/t/web/x/../../y", "/t/web/..",
                 "/t/web/%2e%2e/hello", "/t/web/%2E%2e%2fhello", "/t/web/.%2e/hello", "/t/web/%252e%252e%252fhello",
                 "/t/web/a%252fb", "/t/web/a%255cb", "/t/web/..%5chello", "/t/web/%5c", "/t/web/%20%0a", "/../etc/passwd",
                 "/t/web;/../hello"]:
        yield Case(f"path {path!r}", head(start=f"GET {path} HTTP/1.1"), "turned away")
    yield Case("an empty line before the request", "\r\n" + head(start="GET /t/web/hello HTTP/1.1"), {200, 400})
    yield Case("many empty lines before the request", "\r\n" * 1000 + head(start="GET /t/web/hello HTTP/1.1"))
    yield Case("line ends without CR", head(start="GET /t/web/hello HTTP/1.1").replace("\r\n", "\n"))
    yield Case("one line end without CR", head("X-A: b").replace("X-A: b\r\n", "X-A: b\n"))
    yield Case("line ends without LF", head(start="GET /t/web/hello HTTP/1.1").replace("\r\n", "\r") + "\r\n\r\n")
    yield Case("the head ends with LF LF", head("X-A: b")[:-4] + "\n\n" + BEHIND)
    yield Case("the head ends with CR LF LF", head("X-A: b")[:-2] + "\n" + BEHIND)


def host_cases():
    for host in [None, "Host:", "Host: ", "Host: a b", "Host: a\tb", "Host: x/y", "Host: x?y", "Host: x#y", "Host: x@y",
                 "Host: user:pw@x", "Host: x,y", "Host: x:port", "Host: x:99999", "Host: x:-1", "Host: [::1", "Host: ::1]", "Host: x\\y",
                 "Host: <x>", "Host: x\x00", "Host: \"x\"", "Host: é", "Host: x\r\nHost: x", "Host: x\r\nHost: y",
                 "Host: x\r\nX: y\r\nhost: x", "Host : x", " Host: x", "Host: " + "x" * 9000]:
        if host is not None and host.strip() == "Host:":
            yield Case(f"host {host!r}", head(host=host, body=BEHIND), {400})
            continue
        yield Case(f"host {host and host[:40]!r}", head(host=host, body=BEHIND))


def chunk_cases():
    def chunked(body):
        # /upload answers only after the whole body, so a broken one can still be refused.
        return head("Transfer-Encoding: chunked", start="POST /t/web/upload HTTP/1.1", body=body)

    for size in ["", " ", "g", "-1", "+5", "0x5", "5 ", " 5", "5\t", "5_0", "5.", "FFFFFFFFFFFFFFFFF",
                 "10000000000000000", "5\x00", "5\x0b", "\x0b5", "00000000000000000005", "5;a=\x00", "5;\x01",
                 "5\n", "5;a=\n", "5;" + "x" * 20_000, "0" * 100_000]:
        yield Case(f"chunk size {size[:30]!r}", chunked(f"{size}\r\nhello\r\n0\r\n\r\n" + BEHIND))
    yield Case("a chunk longer than it says", chunked("3\r\nhello\r\n0\r\n\r\n" + BEHIND))
    yield Case("a chunk ended by LF", chunked("5\r\nhello\n0\r\n\r\n" + BEHIND))
    yield Case("a chunk size ended by LF", chunked("5\nhello\r\n0\r\n\r\n" + BEHIND))
    yield Case("a chunk size ended by CR", chunked("5\rhello\r\n0\r\n\r\n" + BEHIND))
    yield Case("the last chunk ended by LF", chunked("5\r\nhello\r\n0\n\n" + BEHIND))
    yield Case("a folded trailer", chunked("0\r\nX: y\r\n z\r\n\r\n" + BEHIND))
    yield Case("a trailer without colon", chunked("0\r\nnonsense\r\n\r\n" + BEHIND))
    yield Case("a trailer with a NUL", chunked("0\r\nX: \x00\r\n\r\n" + BEHIND))
    yield Case("too many trailers", chunked("0\r\n" + "X: y\r\n" * 200 + "\r\n" + BEHIND))
    yield Case("endless trailers", chunked("0\r\n" + "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 20_000))


def control_byte_cases():
    yield Case("a TLS hello in clear, or HTTP's bytes inside TLS", bytes.fromhex("16030100f8010000f40303") + os.urandom(500))
    yield Case("an SSH banner", "SSH-2.0-OpenSSH_9.2\r\n" + "\x00" * 40)
    yield Case("the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00" * 9)
    yield Case("a WebSocket frame", b"\x82\x85\x00\x00\x00\x00hello" * 10 + b"\r\n\r\n")
    yield Case("SOCKS5", b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x16\r\n\r\n")
    yield Case("a PROXY line nobody asked for", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + head(start="GET /t/web/hello HTTP/1.1"))
    yield Case("SMTP", "EHLO x\r\nMAIL FROM:<a@b>\r\n\r\n")
    yield Case("only line ends", "\r\n" * 5000)
    yield Case("random bytes with an end", bytes(range(256)) * 20 + b"\r\n\r\n")


CASES = list(corpus())


def test_the_corpus_has_at_least_three_hundred_different_cases():
    assert len({case.sent for case in CASES}) >= 300
    assert len({case.name for case in CASES}) == len(CASES)


def run_case(tunneld, token, case, tls):
    """The answers until the peer closes, as a list of statuses, and whether it closed."""
    with RawHttp(tunneld.connect(tls=tls)) as connection:
        connection.send(case.sent.replace(b"TOKEN", token.encode()))
        statuses = []
        try:
            while True:
                method = case.sent.split(b" ", 1)[0].decode("latin-1")
                statuses.append(connection.read_answer(method).status)
                if case.expect != "refused":
                    return statuses, True
        except EOFError:
            return statuses, True
        except (TimeoutError, socket.timeout):
            return statuses, False


@pytest.mark.short
@pytest.mark.deadline(400)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_every_hostile_request_is_refused_and_the_connection_closed(tunneld, token, origin, tls):
    """One test for the whole corpus, so that it costs seconds; every case that falls is named."""
    anomalies, wrong = len(origin.anomalies()), []
    for case in CASES:
        statuses, closed = run_case(tunneld, token, case, tls)
        no = bool(statuses) and (400 <= statuses[0] < 500 or statuses[0] in (501, 505))
        if case.expect == "refused":
            fine = closed and len(statuses) == 1 and no
        elif case.expect == "turned away":
            fine = no
        else:
            fine = bool(statuses) and statuses[0] in case.expect
        if not fine:
            wrong.append(f"{case.name}: answers {statuses}, {'closed' if closed else 'left open'}")
    assert not wrong, f"{len(wrong)} of {len(CASES)} cases:\n" + "\n".join(wrong)
    assert not [line for line in origin.requests() if SMUGGLED in line], "a smuggled request was executed"
    assert origin.anomalies()[anomalies:] == [], "the service received what no proxy may send"


@pytest.mark.short
def test_a_refused_request_gets_the_error_body_and_is_counted(tunneld, token):
    before = tunneld.metric("tunnel_errors_total", code="TUNNEL_010")
    with RawHttp(tunneld.connect()) as connection:
        connection.send(head("Content-Length: 5", "Transfer-Encoding: chunked").replace("TOKEN", token).encode())
        answer = connection.read_answer()
        assert connection.is_closed()
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "TUNNEL_010")
    assert answer.value("Connection") == "close"
    wait_until(lambda: tunneld.metric("tunnel_errors_total", code="TUNNEL_010") > before, 5, "the refusal is counted")


@pytest.mark.short
@pytest.mark.parametrize("prefix,fields,status", [
    ("/t/web/" + "a" * 9000, (), 414), ("/t/web/hello", ("X-A: " + "y" * 9000,), 431),
    ("/t/web/hello", tuple(f"X-{n}: y" for n in range(120)), 431)])
def test_oversize_has_its_own_status(tunneld, token, prefix, fields, status):
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", prefix, *fields, token=token))
        assert connection.read_answer().status == status


@pytest.mark.short
def test_what_just_fits_is_served(tunneld, token):
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/t/web/hello", *[f"X-{n}: y" for n in range(90)], "X-A: " + "y" * 8000, token=token))
        assert connection.read_answer().status == 200


# Half a request, and slowness ---------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_connection_cut_anywhere_in_a_request_leaves_no_trace(tunneld, token, origin, cut):
    whole = request("POST", "/t/web/upload", "Content-Length: 100", token=token, body=b"x" * 50)
    with RawHttp(tunneld.connect()) as connection:
        connection.send(whole[:len(whole) * cut // 120])
    wait_until(lambda: not any(p.startswith("tunnel_requests_in_flight") and v for p, v in tunneld.metrics().items()), 10,
               "no request is in flight")


def slow_daemon(new_tunneld, **limits):
    return new_tunneld(limits=limits)


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_a_head_that_dribbles_past_its_time_is_cut(new_tunneld, tls):
    daemon = slow_daemon(new_tunneld, header_timeout="1s")
    with RawHttp(daemon.connect(tls=tls)) as connection:
        connection.send(b"GET /t/web/hello HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        try:
            assert connection.read_answer().status == 408
        except EOFError:
            pass  # closing without a word is as good for someone who never finished a sentence
        assert connection.is_closed()


def test_a_connection_that_says_nothing_is_cut(new_tunneld):
    daemon = slow_daemon(new_tunneld, header_timeout="1s")
    with RawHttp(daemon.connect(tls=False)) as connection:
        assert connection.read_to_end() == b"" or connection.ended


def test_a_tls_handshake_that_never_ends_is_cut(new_tunneld):
    daemon = slow_daemon(new_tunneld, header_timeout="1s")
    with socket.create_connection(("127.0.0.1", daemon.port), 20) as connection:
        connection.sendall(bytes.fromhex("160301"))
        assert connection.recv(100) == b"" or connection.recv(100) == b""


def test_a_body_that_stalls_past_its_time_is_cut(new_tunneld):
    daemon = slow_daemon(new_tunneld, body_timeout="1s")
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("POST", "/t/web/upload", "Content-Length: 100", token=daemon.token(), body=b"x"))
        answer = connection.read_answer()
        assert answer.status in (408, 504), answer
        assert connection.is_closed()


def test_a_caller_that_never_reads_its_answer_is_cut(new_tunneld, origin):
    daemon = slow_daemon(new_tunneld, write_stall="2s")
    before = origin.open_connections()
    with RawHttp(daemon.connect(tls=False)) as connection:
        connection.send(request("GET", f"/t/web/download?bytes={1 << 30}", token=daemon.token()))
        assert connection.read_head().status == 200
        wait_until(lambda: origin.open_connections() <= before, 30, "the service's connection is closed")


def test_over_the_connection_limit_a_connection_is_refused_and_the_others_live_on(new_tunneld):
    daemon = new_tunneld(limits={"max_connections": 8})
    token = daemon.token()
    held = [RawHttp(daemon.connect()) for _ in range(8)]
    for connection in held:
        connection.send(request("GET", "/t/web/hello", token=token))
        assert connection.read_answer().status == 200
    refused = 0
    for _ in range(4):
        try:
            with RawHttp(daemon.connect()) as connection:
                connection.send(request("GET", "/t/web/hello", token=token))
                refused += connection.read_answer().status == 503
        except (EOFError, OSError, ssl.SSLError):
            refused += 1
    assert refused == 4
    for connection in held:
        connection.send(request("GET", "/t/web/hello", token=token))
        assert connection.read_answer().status == 200
        connection.close()

    def served_again():
        try:
            with RawHttp(daemon.connect()) as connection:
                connection.send(request("GET", "/t/web/hello", token=token))
                return connection.read_answer().status == 200
        except (EOFError, OSError, ssl.SSLError):
            return False

    wait_until(served_again, 10, "a freed slot is used again")


# Garbage at every port ----------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.deadline(120)
@pytest.mark.parametrize("port", ["port", "plain_port", "admin_port"])
def test_garbage_at_a_port_disturbs_nobody(tunneld, token, port):
    number = getattr(tunneld, port)
    blobs = [b"\0", b"\n" * 1000, b"\xff" * 10_000, os.urandom(100_000), b"GET", b"\x16\x03\x01\xff\xff" + os.urandom(60_000),
             b"\x16\x03\x01\x00\x00", b"\x15\x03\x03\x00\x02\x01\x00", b"\x17\x03\x03\x40\x00" + os.urandom(16384),
             b"A" * 1_000_000, b"\x80\x2e\x01\x03\x01", b"{}\r\n\r\n", b"\r\n\r\n" * 10]
    for blob in blobs * 3:
        with socket.create_connection(("127.0.0.1", number), 10) as connection:
            try:
                connection.sendall(blob)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/t/web/hello", token=token))
        assert connection.read_answer().body == b"hello\n"
    assert tunneld.admin("/healthz")[0] == 200


@pytest.mark.short
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_tls_below_1_3_is_refused(tunneld, version):
    context = tunneld.tls_context()
    context.maximum_version = version
    with socket.create_connection(("127.0.0.1", tunneld.port), 10) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_the_certificate_names_loopback_and_tls_is_1_3(tunneld):
    with tunneld.connect() as connection:
        assert connection.version() == "TLSv1.3"
        names = {value for _, value in connection.getpeercert()["subjectAltName"]}
    assert {"127.0.0.1", "localhost"} <= names


# A thousand idle connections ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.deadline(180)
@pytest.mark.parametrize("tls,limit", [(False, 64 * 1024), (True, 128 * 1024)], ids=["plain", "tls"])
def test_a_thousand_idle_connections_cost_little_and_harm_nobody(new_tunneld, record_property, tls, limit):
    daemon = new_tunneld(limits={"keep_alive": "10m"})
    token = daemon.token()

    def is_served():
        with RawHttp(daemon.connect()) as connection:
            connection.send(request("GET", "/t/web/hello", token=token))
            return connection.read_answer().body == b"hello\n"

    assert is_served()
    before = daemon.program.resident_bytes()
    held = []
    for _ in range(1000):
        held.append(RawHttp(daemon.connect(tls=tls)))
        held[-1].send(request("GET", "/t/web/hello", token=token))
        assert held[-1].read_answer().status == 200
    each = (daemon.program.resident_bytes() - before) / 1000
    record_property("rss_per_idle_connection_bytes", each)
    print(f"RSS per idle {'TLS' if tls else 'plain'} connection: {each / 1024:.1f} KiB")
    assert is_served()
    assert each < limit
    for connection in held:
        connection.close()
    wait_until(lambda: daemon.open_files() < 200, 20, "their descriptors are closed")
