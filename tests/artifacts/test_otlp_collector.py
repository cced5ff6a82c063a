"""The collector double takes what a collector takes, refuses what one refuses, and lists what came."""

import gzip
import http.client
import json
import pathlib
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from otlp_collector import messages, server  # noqa: E402


class Client:
    def __init__(self, port):
        self.port = port

    def ask(self, method, path, body=b"", **headers):
        """(status, headers, body), on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers={
                name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def export(self, body, path="/v1/traces", content_type="application/x-protobuf", **headers):
        return self.ask("POST", path, body, Content_Type=content_type, **headers)

    def control(self, method, name, body=None):
        status, _, text = self.ask(method, "/_double/" + name, json.dumps(body).encode() if body is not None else b"")
        assert status == 200, text
        return json.loads(text)


@pytest.fixture
def collector():
    running, _ = server.serve()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Client(running.server_address[1])
    running.shutdown()
    thread.join()
    running.server_close()


def request_of(count=1, **changes):
    """An export request with that many good spans; `changes` are laid over the last."""
    request = messages.ExportRequest()
    of_resource = request.resource_spans.add()
    name = of_resource.resource.attributes.add(key="service.name")
    name.value.string_value = "tunneld"
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name = "tunneld"
    for number in range(count):
        span = of_scope.spans.add(trace_id=b"t" * 16, span_id=bytes([number + 1] * 8), name="tunnel.request", kind=2,
                                  start_time_unix_nano=1_000, end_time_unix_nano=2_000 + number, flags=0x101)
        status = span.attributes.add(key="http.response.status_code")
        status.value.int_value = 200
    for field, value in changes.items():
        setattr(span, field, value)
    return request


def test_spans_are_taken_and_listed(collector):
    status, headers, body = collector.export(request_of(2).SerializeToString())
    assert (status, headers["Content-Type"]) == (200, "application/x-protobuf")
    assert not messages.ExportResponse.FromString(body).HasField("partial_success")
    first, second = collector.control("GET", "spans")
    assert first == {"trace_id": "74" * 16, "span_id": "01" * 8, "parent_span_id": "", "trace_state": "",
                     "name": "tunnel.request", "kind": "server", "flags": 0x101, "start": 1000, "end": 2000,
                     "attributes": {"http.response.status_code": 200}, "status": {"code": "unset", "message": ""},
                     "resource": {"service.name": "tunneld"}, "scope": {"name": "tunneld", "version": ""}}
    assert second["span_id"] == "02" * 8
    assert collector.control("GET", "complaints") == []
    assert [entry["spans"] for entry in collector.control("GET", "requests")] == [2]


def test_gzip_is_understood(collector):
    assert collector.export(gzip.compress(request_of().SerializeToString()), Content_Encoding="gzip")[0] == 200
    assert len(collector.control("GET", "spans")) == 1


@pytest.mark.parametrize("path", ["/", "/v1/metrics", "/v1/traces/", "/v1/Traces"])
def test_other_paths_are_404(collector, path):
    assert collector.export(request_of().SerializeToString(), path=path)[0] == 404
    assert collector.control("GET", "spans") == []


def test_other_methods_are_405(collector):
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        assert collector.ask(method, "/v1/traces")[0] == 405


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/protobuf"])
def test_other_content_types_are_415(collector, kind):
    assert collector.export(request_of().SerializeToString(), content_type=kind)[0] == 415
    assert collector.control("GET", "spans") == []


@pytest.mark.parametrize("body,coding", [
    (b"garbage", None), (b"\x0a\x05", None), (request_of().SerializeToString()[:-1], None),
    (request_of().SerializeToString().replace(b"tunnel.request", b"tunnel.\xff\xffquest"), None),
    (b"no gzip", "gzip"), (b"", "br")])
def test_what_cannot_be_decoded_is_400_with_a_status(collector, body, coding):
    headers = {"Content_Encoding": coding} if coding else {}
    status, headers, answer = collector.export(body, **headers)
    assert (status, headers["Content-Type"], answer[:1]) == (400, "application/x-protobuf", b"\x12")
    assert collector.control("GET", "spans") == []


@pytest.mark.parametrize("changes,complaint", [
    ({"trace_id": b"short"}, "trace_id is"), ({"trace_id": bytes(16)}, "trace_id is 0000"),
    ({"span_id": b""}, "span_id is empty"), ({"parent_span_id": b"x"}, "parent_span_id is 78"),
    ({"name": ""}, "without a name"), ({"kind": 0}, "no kind"), ({"end_time_unix_nano": 999}, "from 1000 to 999"),
    ({"start_time_unix_nano": 0}, "from 0"), ({"flags": 0x400}, "flags 0x400")])
def test_spans_that_no_backend_could_use_are_complained_of(collector, changes, complaint):
    assert collector.export(request_of(**changes).SerializeToString())[0] == 200
    assert any(complaint in found for found in collector.control("GET", "complaints"))


def test_unknown_fields_and_attributes_twice_are_complained_of(collector):
    collector.export(request_of().SerializeToString() + b"\xa0\x06\x01")  # field 100
    assert collector.control("GET", "complaints") == ["fields that opentelemetry-proto does not have"]
    collector.control("POST", "reset")
    request = request_of()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="http.response.status_code")
    collector.export(request.SerializeToString())
    assert collector.control("GET", "complaints") == [
        "span 'tunnel.request': http.response.status_code twice",
        "span 'tunnel.request': http.response.status_code without a value"]


def test_the_next_answers_are_as_the_script_says(collector):
    good = request_of(3).SerializeToString()
    collector.control("POST", "script", [
        {"status": 503, "headers": {"Retry-After": "7"}, "message": "busy", "count": 2},
        {"partial": {"rejected": 2, "message": "too old"}}, {"close": True},
        {"body": "<html>", "content_type": "text/html"}])
    for _ in range(2):
        status, headers, body = collector.export(good)
        assert (status, headers["Retry-After"], body) == (503, "7", b"\x12\x04busy")
    partial = messages.ExportResponse.FromString(collector.export(good)[2]).partial_success
    assert (partial.rejected_spans, partial.error_message) == (2, "too old")
    assert len(collector.control("GET", "spans")) == 1
    with pytest.raises(http.client.RemoteDisconnected):
        collector.export(good)
    assert collector.export(good)[2] == b"<html>"
    assert collector.export(good)[0] == 200
    assert [entry["status"] for entry in collector.control("GET", "requests")] == [503, 503, 200, 0, 200, 200]


def test_a_request_hangs_until_the_reset(collector):
    collector.control("POST", "script", {"hang": True})
    outcome = []

    def hanging():
        try:
            outcome.append(collector.export(b""))
        except http.client.RemoteDisconnected:
            outcome.append("cut")

    thread = threading.Thread(target=hanging)
    thread.start()
    while not collector.control("GET", "requests"):
        pass
    assert outcome == []
    collector.control("POST", "reset")
    thread.join()
    assert outcome == ["cut"]


def test_a_script_that_makes_no_sense_is_refused(collector):
    for body in (b"{", b'{"statsu": 503}', b'["x"]'):
        assert collector.ask("POST", "/_double/script", body)[0] == 400
    assert collector.control("GET", "steps") == []


def test_a_long_status_message_is_still_a_status():
    for size in (0, 1, 127, 128, 300, 20_000):
        body = messages.status("x" * size)
        # Any message with a text in field 2 reads it: here the answer's warning.
        partial = messages.ExportResponse().partial_success
        partial.ParseFromString(body)
        assert partial.error_message == "x" * size
