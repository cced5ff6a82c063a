"""HTTP through the tunnel: /t/<service>/… behaves as if the caller had reached the service itself."""

import asyncio
import hashlib
import json
import time

import aiohttp
import pytest
import requests

from callers.raw_http import RawHttp, request
from programs.loopback import wait_until
from programs.origin import BLOCK, stream_digest
from programs.services import services_of

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def caller(tunneld, token):
    """A session with keep-alive over TLS, as alice."""
    with requests.Session() as session:
        session.verify = str(tunneld.certificate)
        session.headers["Authorization"] = f"Bearer {token}"
        session.trust_env = False
        yield session


@pytest.fixture
def raw(tunneld):
    """Opens raw connections: raw(tls=False) for the plaintext door."""
    opened = []

    def connect(*, tls=True):
        opened.append(RawHttp(tunneld.connect(tls=tls)))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def sent_fields(answer):
    """The fields the service received, by lower-case name, from /request's answer."""
    return {name.lower(): value for name, value in answer.json()["fields"]}


# The plain cases ----------------------------------------------------------------------------------


@pytest.mark.short
def test_a_get_reaches_the_service_and_its_answer_comes_back(caller, tunneld):
    answer = caller.get(tunneld.url("/t/web/hello"))
    assert (answer.status_code, answer.text) == (200, "hello\n")
    assert answer.headers["Content-Type"] == "text/plain"


@pytest.mark.short
def test_the_plaintext_door_on_loopback_serves_the_same(caller, tunneld):
    assert caller.get(tunneld.url("/t/web/hello", tls=False)).text == "hello\n"


@pytest.mark.short
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_and_its_body_arrive_unchanged(caller, tunneld, method):
    body = b"some body \x00\xff" if method not in ("GET", "OPTIONS") else None
    seen = caller.request(method, tunneld.url("/t/web/request?a=1&b=%20"), data=body).json()
    assert (seen["method"], seen["target"]) == (method, "/request?a=1&b=%20")
    assert seen["body"].encode("latin-1") == (body or b"")


@pytest.mark.parametrize("target", ["/", "/a%2Eb", "/a;b=c", "/a:b@c", "/~x/!$&'()*+,=", "/%C3%A9", "/a?b?c=/d",
                                    "/a//b", "/?", "/a%20b?c%20d"])
def test_the_path_and_query_arrive_byte_for_byte(caller, tunneld, origin, token, raw, target):
    connection = raw()
    connection.send(request("GET", "/t/web" + target, token=token))
    connection.read_answer()
    assert origin.requests()[-1] == f"GET {target}"


def test_a_service_named_without_a_slash_is_its_root(origin, token, raw):
    connection = raw()
    connection.send(request("GET", "/t/web", token=token))
    assert connection.read_answer().status in (404, 308, 301)  # the origin has nothing at its root


def test_head_has_the_length_and_no_body(caller, tunneld):
    answer = caller.head(tunneld.url("/t/web/hello"))
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, "6", b"")


@pytest.mark.short
@pytest.mark.parametrize("method,status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_a_body_leaves_the_connection_usable(raw, token, method, status):
    connection = raw()
    for _ in range(2):
        connection.send(request(method, f"/t/web/status/{status}", token=token))
        assert connection.read_answer(method).status == status
    connection.send(request("GET", "/t/web/hello", token=token))
    assert connection.read_answer().body == b"hello\n"


@pytest.mark.parametrize("status", [200, 201, 206, 301, 400, 401, 403, 404, 409, 410, 418, 429, 451, 500, 502, 503, 599])
def test_the_services_own_status_is_not_ours_to_change(caller, tunneld, status):
    answer = caller.get(tunneld.url(f"/t/web/status/{status}"), allow_redirects=False)
    assert (answer.status_code, answer.text) == (status, "body\n")


# Fields -------------------------------------------------------------------------------------------


@pytest.mark.short
def test_the_tunnels_token_and_hop_by_hop_fields_stay_behind(raw, token):
    connection = raw()
    connection.send(request("GET", "/t/web/request", "Connection: keep-alive, X-Private", "X-Private: 1",
                            "Keep-Alive: timeout=9", "TE: gzip;q=1", "Proxy-Authorization: Basic x",
                            "Proxy-Connection: keep-alive", "Cookie: a=b", "X-Mine: kept",
                            "X-Tunnel-Priority: high", "X-Tunnel-Timeout: 20", token=token))
    seen = {name.lower(): value for name, value in json.loads(connection.read_answer().body)["fields"]}
    assert seen["x-mine"] == "kept" and seen["cookie"] == "a=b"
    for name in ("authorization", "x-private", "keep-alive", "te", "proxy-authorization", "proxy-connection",
                 "x-tunnel-priority", "x-tunnel-timeout"):
        assert name not in seen, f"{name} reached the service"


def test_the_service_learns_who_called_from_forwarded_fields(raw, token):
    connection = raw()
    connection.send(request("GET", "/t/web/request", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: gopher",
                            "X-Forwarded-Host: evil.test", token=token, host="tunnel.test:3001"))
    fields = json.loads(connection.read_answer().body)["fields"]
    seen = {name.lower(): value for name, value in fields}
    assert len([name for name, _ in fields if name.lower() == "x-forwarded-for"]) == 1
    assert seen["x-forwarded-for"].split(",")[-1].strip() == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-forwarded-host"] == "tunnel.test:3001"


def test_the_answers_hop_by_hop_fields_stay_behind_too(caller, tunneld):
    answer = caller.get(tunneld.url("/t/web/request"))
    assert answer.headers["X-Kept"] == "yes"
    assert "X-Hop" not in answer.headers and "Keep-Alive" not in answer.headers


@pytest.mark.short
def test_a_good_correlation_id_is_kept_and_passed_on(caller, tunneld):
    answer = caller.get(tunneld.url("/t/web/request"), headers={"X-Correlation-ID": "order-66.a_B"})
    assert answer.headers["X-Correlation-ID"] == "order-66.a_B"
    assert sent_fields(answer)["x-correlation-id"] == "order-66.a_B"


@pytest.mark.parametrize("bad", ["", "a" * 65, "two words", "semi;colon", "é", "<script>"])
def test_a_bad_correlation_id_is_replaced(caller, tunneld, bad):
    answer = caller.get(tunneld.url("/t/web/request"), headers={"X-Correlation-ID": bad.encode()})
    made = answer.headers["X-Correlation-ID"]
    assert made and made != bad and sent_fields(answer)["x-correlation-id"] == made


def test_traceparent_is_passed_on(caller, tunneld):
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = caller.get(tunneld.url("/t/web/request"), headers={"traceparent": parent})
    assert sent_fields(answer)["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")


# Bodies of any size -------------------------------------------------------------------------------


def pieces(count):
    """The deterministic stream as an iterator: sent chunked by requests."""
    for _ in range(count // len(BLOCK)):
        yield BLOCK
    if count % len(BLOCK):
        yield BLOCK[:count % len(BLOCK)]


@pytest.mark.short
@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1])
@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_a_body_of_every_size_comes_back_the_same(caller, tunneld, size, framing):
    body = (BLOCK * (size // len(BLOCK) + 1))[:size]
    answer = caller.post(tunneld.url("/t/web/echo"), data=iter([body]) if framing == "chunked" and body else body)
    assert hashlib.sha256(answer.content).hexdigest() == hashlib.sha256(body).hexdigest()


class Memory:
    """How much larger the daemon's peak memory is than it was at the start."""

    def __init__(self, tunneld):
        self.program = tunneld.program
        self.before = self.program.forget_peak()

    def growth(self):
        return self.program.peak_resident_bytes() - self.before


@pytest.mark.slow
@pytest.mark.deadline(240)
@pytest.mark.parametrize("door", ["tls", "plain"])
def test_a_gibibyte_goes_up_without_being_held_in_memory(caller, tunneld, door):
    memory = Memory(tunneld)
    seen = caller.put(tunneld.url("/t/web/upload", tls=door == "tls"), data=pieces(GIB)).json()
    assert (seen["bytes"], seen["sha256"]) == (GIB, stream_digest(GIB))
    assert memory.growth() < 32 * MIB


@pytest.mark.slow
@pytest.mark.deadline(240)
@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_a_gibibyte_comes_down_without_being_held_in_memory(caller, tunneld, framing):
    memory = Memory(tunneld)
    digest, count = hashlib.sha256(), 0
    url = tunneld.url(f"/t/web/download?bytes={GIB}" + ("&chunked=1" if framing == "chunked" else ""))
    with caller.get(url, stream=True) as answer:
        for piece in answer.iter_content(256 * 1024):
            digest.update(piece)
            count += len(piece)
    assert (count, digest.hexdigest()) == (GIB, stream_digest(GIB))
    assert memory.growth() < 32 * MIB


@pytest.mark.short
def test_megabytes_go_up_and_down_with_the_same_checksum(caller, tunneld):
    seen = caller.put(tunneld.url("/t/web/upload"), data=pieces(16 * MIB)).json()
    assert (seen["bytes"], seen["sha256"]) == (16 * MIB, stream_digest(16 * MIB))
    answer = caller.get(tunneld.url(f"/t/web/download?bytes={16 * MIB}"))
    assert hashlib.sha256(answer.content).hexdigest() == stream_digest(16 * MIB)


@pytest.mark.short
@pytest.mark.deadline(120)
async def test_two_hundred_concurrent_requests_each_get_their_own_answer(tunneld, token):
    connector = aiohttp.TCPConnector(limit=0, ssl=tunneld.tls_context())
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {token}"}) as session:
        async def one(number):
            body = f"request {number} ".encode() * (number + 1)
            async with session.post(tunneld.url("/t/web/echo"), data=body) as answer:
                return answer.status, await answer.read() == body

        results = await asyncio.gather(*(one(number) for number in range(200)))
    assert results == [(200, True)] * 200


def test_request_trailers_reach_the_service(raw, token):
    connection = raw()
    connection.send(request("PUT", "/t/web/upload", "Transfer-Encoding: chunked", "Trailer: X-Sum", token=token,
                            body=b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n"))
    seen = json.loads(connection.read_answer().body)
    assert (seen["bytes"], seen["trailers"]) == (5, {"x-sum": "42"})


def test_answer_trailers_reach_the_caller(raw, token):
    connection = raw()
    connection.send(request("GET", "/t/web/trailers", "TE: trailers", token=token))
    answer = connection.read_answer()
    assert (answer.body, answer.trailers) == (b"hello", [("X-Checksum", "abc123")])


def test_a_trailer_cannot_name_a_framing_or_credential_field(raw, token):
    connection = raw()
    connection.send(request("PUT", "/t/web/upload", "Transfer-Encoding: chunked", token=token,
                            body=b"2\r\nhi\r\n0\r\nContent-Length: 0\r\nAuthorization: Bearer x\r\nX-Ok: 1\r\n\r\n"))
    answer = connection.read_answer()
    assert answer.status == 400 or not {"content-length", "authorization"} & set(json.loads(answer.body)["trailers"])


@pytest.mark.short
def test_the_caller_is_told_to_continue_before_it_sends_the_body(raw, token):
    connection = raw()
    connection.send(request("PUT", "/t/web/upload", "Content-Length: 5", "Expect: 100-continue", token=token))
    assert connection.read_head().status == 100
    connection.send(b"hello")
    assert json.loads(connection.read_answer().body)["bytes"] == 5


def test_a_refused_request_is_never_told_to_continue(raw):
    connection = raw()
    connection.send(request("PUT", "/t/web/upload", "Content-Length: 5", "Expect: 100-continue", token="bad"))
    assert connection.read_head().status == 401


def test_an_unknown_expectation_is_refused(raw, token):
    connection = raw()
    connection.send(request("GET", "/t/web/hello", "Expect: miracles", token=token))
    assert connection.read_answer().status in (400, 417)


def test_an_interim_answer_is_passed_on_before_the_final_one(raw, token):
    connection = raw()
    connection.send(request("GET", "/t/web/interim", token=token))
    answer = connection.read_answer()
    assert ([hint.status for hint in answer.interim], answer.body) == ([103], b"final\n")
    assert answer.interim[0].value("Link") == "</style.css>; rel=preload"


@pytest.mark.short
def test_the_service_may_answer_before_it_read_the_body(tunneld, raw, token):
    connection = raw()
    connection.send(request("POST", "/t/web/early", f"Content-Length: {64 * MIB}", token=token, body=b"x" * 1000))
    answer = connection.read_answer()
    assert (answer.status, answer.body) == (403, b"no\n")


# Answers as they come -----------------------------------------------------------------------------


@pytest.mark.short
def test_each_server_sent_event_arrives_when_it_is_sent(caller, tunneld, origin, unique):
    """The origin sends event n only after this test saw event n-1: buffering would hang here."""
    with caller.get(tunneld.url(f"/t/web/events?count=5&gate={unique}"), stream=True) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        lines = answer.iter_lines(chunk_size=1)
        for number in range(5):
            origin.open_gate(unique)
            assert [next(lines) for _ in range(3)] == [f"id: {number}".encode(), f"data: tick {number}".encode(), b""]
        assert list(lines) == []


def test_a_dripping_answer_is_whole_at_its_end(caller, tunneld):
    assert len(caller.get(tunneld.url("/t/web/drip?bytes=2000")).content) == 2000


def test_an_answer_ended_by_the_services_close_is_whole(caller, tunneld):
    assert caller.get(tunneld.url("/t/web/until-close")).text == "ends with the connection"


@pytest.mark.short
@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_an_answer_cut_by_the_service_is_seen_to_be_cut(raw, token, framing):
    connection = raw()
    connection.send(request("GET", f"/t/web/cut?framing={framing}", token=token))
    answer = connection.read_answer()
    assert answer.status == 200 and not answer.complete
    assert connection.is_closed()


@pytest.mark.parametrize("kind", [
    "status-line", "no-status", "status-two-digits", "version-2", "two-lengths", "length-and-chunked",
    "negative-length", "huge-length", "folded", "nul", "bare-cr", "space-before-colon", "no-colon",
    "unknown-coding", "many-fields", "long-field", "endless-head", "unasked-101", "binary", "nothing"])
def test_a_malformed_answer_becomes_one_error(caller, tunneld, kind):
    answer = caller.post(tunneld.url(f"/t/web/malformed/{kind}"), timeout=30)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] in ("TUNNEL_009", "TUNNEL_013")
    assert caller.get(tunneld.url("/t/web/hello")).text == "hello\n"


@pytest.mark.parametrize("kind", ["bad-chunk-size", "huge-chunk-size", "no-chunk-end"])
def test_a_broken_answer_body_is_seen_to_be_broken(raw, token, kind):
    connection = raw()
    connection.send(request("GET", f"/t/web/malformed/{kind}", token=token))
    try:
        answer = connection.read_answer()
        assert answer.status == 502 or not answer.complete
    except EOFError:
        pass  # cut before the head went out: just as clear


# Connections --------------------------------------------------------------------------------------


@pytest.mark.short
def test_one_connection_serves_many_requests_in_turn(raw, token):
    connection = raw()
    for number in range(20):
        body = f"turn {number}".encode()
        connection.send(request("POST", "/t/web/echo", f"Content-Length: {len(body)}", token=token, body=body))
        assert connection.read_answer().body == body


def test_pipelined_requests_are_answered_in_order(raw, token):
    connection = raw()
    bodies = [f"piece {number}".encode() for number in range(10)]
    connection.send(b"".join(request("POST", "/t/web/echo", f"Content-Length: {len(b)}", token=token, body=b)
                             for b in bodies))
    assert [connection.read_answer().body for _ in bodies] == bodies


def test_connection_close_is_honoured(raw, token):
    connection = raw()
    connection.send(request("GET", "/t/web/hello", "Connection: close", token=token))
    assert connection.read_answer().body == b"hello\n"
    assert connection.is_closed()


def test_an_http_1_0_caller_gets_its_answer_and_the_connection_closed(raw, token):
    connection = raw()
    connection.send(f"GET /t/web/drip?bytes=5 HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    answer = connection.read_answer()
    assert answer.value("Transfer-Encoding") is None and answer.body == b"abcde"
    assert connection.is_closed()


def test_connections_to_the_service_are_reused(caller, tunneld, origin):
    """Forty requests one after another need one channel, not forty."""
    before = tunneld.metric("tunnel_ssh_channel_opens_total", result="ok")
    for _ in range(40):
        caller.get(tunneld.url("/t/web/hello"))
    assert tunneld.metric("tunnel_ssh_channel_opens_total", result="ok") - before <= 2


def test_a_caller_that_goes_away_frees_the_services_connection(tunneld, raw, token, origin, unique):
    before = origin.open_connections()
    connection = raw()
    connection.send(request("GET", f"/t/web/slow?gate={unique}", token=token))
    wait_until(lambda: origin.requests()[-1:] == [f"GET /slow?gate={unique}"], 10, "the service has the request")
    connection.close()
    wait_until(lambda: origin.open_connections() <= before, 10, "the service's connection is closed")


@pytest.mark.deadline(120)
def test_a_slow_reader_stops_only_itself(tunneld, raw, caller, token):
    """Two callers read nothing of an endless answer; a third gets its 64 MiB beside them."""
    stalled = [raw(), raw()]
    for connection in stalled:
        connection.send(request("GET", f"/t/web/download?bytes={GIB}", token=token))
        assert connection.read_head().status == 200
    memory = Memory(tunneld)
    answer = caller.get(tunneld.url(f"/t/web/download?bytes={64 * MIB}"), timeout=60)
    assert hashlib.sha256(answer.content).hexdigest() == stream_digest(64 * MIB)
    assert memory.growth() < 48 * MIB


# nginx as the service -----------------------------------------------------------------------------


@pytest.mark.short
def test_nginx_behind_the_tunnel_serves_files_ranges_and_revalidation(caller, tunneld):
    whole = caller.get(tunneld.url("/t/nginx/hello.txt"))
    assert whole.text == "hello from nginx\n" * 20
    part = caller.get(tunneld.url("/t/nginx/hello.txt"), headers={"Range": "bytes=6-9", "Accept-Encoding": "identity"})
    assert (part.status_code, part.text) == (206, "from")
    known = {"If-None-Match": whole.headers.get("ETag", ""), "If-Modified-Since": whole.headers["Last-Modified"]}
    assert caller.get(tunneld.url("/t/nginx/hello.txt"), headers=known).status_code == 304
    assert caller.get(tunneld.url("/t/nginx/empty")).status_code == 204
    assert caller.get(tunneld.url("/t/nginx/nowhere")).status_code == 404


def test_nginx_compresses_through_the_tunnel_as_it_would_without(caller, tunneld):
    answer = caller.get(tunneld.url("/t/nginx/hello.txt"), headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip" and answer.text == "hello from nginx\n" * 20


def test_a_file_from_nginx_larger_than_any_buffer_is_intact(caller, tunneld, nginx):
    content = BLOCK * 1024
    (nginx.root / "large").write_bytes(content)
    assert hashlib.sha256(caller.get(tunneld.url("/t/nginx/large")).content).digest() == hashlib.sha256(content).digest()


def test_a_post_to_nginx_is_taken(caller, tunneld):
    assert caller.post(tunneld.url("/t/nginx/accept"), data=b"x" * 10_000).text == "taken\n"


# Errors -------------------------------------------------------------------------------------------


ERROR_FIELDS = {"code", "category", "message", "userMessage", "suggestion", "timestamp", "requestId",
                "correlationId", "docUrl"}


@pytest.mark.short
def test_a_service_that_is_down_is_one_clear_error(caller, tunneld):
    answer = caller.get(tunneld.url("/t/dead/"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["category"]) == (503, "TUNNEL_001", "network")
    assert ERROR_FIELDS <= set(error)
    assert error["correlationId"] == answer.headers["X-Correlation-ID"]
    assert answer.headers["Cache-Control"] == "no-store" and "Server" not in answer.headers
    assert error["docUrl"].endswith("TUNNEL_001.md")


@pytest.mark.parametrize("path", ["/", "/nowhere", "/t", "/t/", "/ws/", "/index.html", "/.git/config"])
def test_a_path_that_is_no_door_is_404_with_the_error_body(caller, tunneld, path):
    answer = caller.get(tunneld.url(path))
    assert answer.status_code in (403, 404)
    assert ERROR_FIELDS <= set(answer.json()["error"])


def test_the_public_health_answer_tells_nothing_but_health(tunneld):
    answer = requests.get(tunneld.url("/api/tunnel/health"), verify=str(tunneld.certificate), timeout=10)
    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "timestamp", "uptime", "version"}


# At most once -------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_post_whose_service_dies_is_executed_once_and_reported_unknown(caller, tunneld, origin, unique):
    caller.get(tunneld.url("/t/web/hello"))  # so that a pooled connection exists
    answer = caller.post(tunneld.url(f"/t/web/execute?id={unique}&then=close"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "TUNNEL_013")
    assert origin.executions(unique) == 1


def test_an_idempotent_request_is_tried_at_most_twice(caller, tunneld, origin, unique):
    caller.get(tunneld.url("/t/web/hello"))
    answer = caller.get(tunneld.url(f"/t/web/execute?id={unique}&then=close"))
    assert answer.status_code == 502
    assert 1 <= origin.executions(unique) <= 2


def test_a_post_with_an_idempotency_key_may_be_repeated_and_the_key_is_not_forwarded(caller, tunneld, origin, unique):
    answer = caller.post(tunneld.url(f"/t/web/execute?id={unique}"), headers={"Idempotency-Key": unique})
    assert (answer.status_code, origin.executions(unique)) == (200, 1)
    seen = sent_fields(caller.post(tunneld.url("/t/web/request"), headers={"Idempotency-Key": unique}))
    assert "idempotency-key" not in seen


def test_a_get_over_a_pooled_connection_the_service_closed_meanwhile_succeeds(new_tunneld, new_origin, unique):
    own = new_origin()
    daemon = new_tunneld(services=services_of(own))
    headers = {"Authorization": f"Bearer {daemon.token()}"}
    options = {"verify": str(daemon.certificate), "headers": headers, "timeout": 20}
    assert requests.get(daemon.url("/t/web/hello"), **options).status_code == 200
    own.restart()
    assert requests.get(daemon.url("/t/web/hello"), **options).status_code == 200


def test_many_posts_while_the_service_is_killed_are_each_executed_at_most_once(new_tunneld, new_origin):
    """Fifty posts wait at the service when it dies: every one fails visibly, none is repeated."""
    own = new_origin()
    daemon = new_tunneld(services=services_of(own))
    token = daemon.token()

    async def scenario():
        connector = aiohttp.TCPConnector(limit=0, ssl=daemon.tls_context())
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            async def one(number):
                async with session.post(daemon.url(f"/t/web/execute?id=p{number}&gate=never")) as answer:
                    return answer.status, (await answer.json())["error"]["code"]

            posts = [asyncio.ensure_future(one(number)) for number in range(50)]
            while sum(own.executions(f"p{n}") for n in range(50)) < 50:
                assert not any(post.done() for post in posts), "a post was answered before its time"
                await asyncio.sleep(0.02)
            counts = [own.executions(f"p{n}") for n in range(50)]
            own.restart()
            return counts, await asyncio.gather(*posts)

    counts, results = asyncio.run(scenario())
    assert counts == [1] * 50
    assert results == [(502, "TUNNEL_013")] * 50
    assert [own.executions(f"p{n}") for n in range(50)] == [0] * 50, "a post was repeated at the restarted service"


# Timeouts -----------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_service_that_does_not_answer_in_time_is_a_timeout(caller, tunneld, origin, unique):
    answer = caller.get(tunneld.url(f"/t/web/slow?gate={unique}"), headers={"X-Tunnel-Timeout": "1"}, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "TUNNEL_007")


def test_an_answer_that_stalls_midway_is_cut_at_the_timeout(raw, token, unique):
    connection = raw()
    connection.send(request("GET", f"/t/web/stall?gate={unique}", "X-Tunnel-Timeout: 1", token=token))
    answer = connection.read_answer()
    assert answer.status == 200 and not answer.complete


def test_a_streaming_answer_outlives_the_request_timeout(caller, tunneld, origin, unique):
    """Each gap is short although the whole takes longer than the timeout."""
    with caller.get(tunneld.url(f"/t/web/events?count=6&gate={unique}"), stream=True,
                    headers={"X-Tunnel-Timeout": "1"}) as answer:
        lines = answer.iter_lines(chunk_size=1)
        started = time.monotonic()
        for number in range(6):
            wait_until(lambda: time.monotonic() - started >= 0.4 * (number + 1), 5, "the next event is due")
            origin.open_gate(unique)
            assert [next(lines) for _ in range(3)][1] == f"data: tick {number}".encode()


@pytest.mark.parametrize("value", ["0", "601", "-1", "1.5", "abc", "", "99999999999999999999"])
def test_a_nonsense_timeout_is_refused(caller, tunneld, value):
    answer = caller.get(tunneld.url("/t/web/hello"), headers={"X-Tunnel-Timeout": value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "TUNNEL_010")
