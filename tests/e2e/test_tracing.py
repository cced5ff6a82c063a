"""Traces: what a collector receives, what the service is told, and that no request ever waits for it."""

import json
import os
import re
import signal
import time

import pytest
import requests

from callers.raw_http import RawHttp, request
from callers.websocket import receive_bytes, stream
from programs.loopback import free_port, wait_until
from programs.otlp_collector import otlp_collector, shared_otlp_collector  # noqa: F401
from programs.tunneld import Tunneld, run

REQUEST, GET_CONNECTION, SSH_FORWARD, STREAM = (
    "tunnel.forward_request", "tunnel.get_connection", "tunnel.ssh_forward", "tunnel.stream")
NO_PARENT = ""


def new_traceparent(flags="01"):
    """(traceparent, trace id, parent id) of a caller that traces."""
    trace, parent = os.urandom(16).hex(), os.urandom(8).hex()
    return f"00-{trace}-{parent}-{flags}", trace, parent


@pytest.fixture
def traced(new_tunneld, otlp_collector):
    """Starts a daemon that sends every trace to the collector; keyword arguments are laid over `tracing`."""
    def make(**tracing):
        return new_tunneld(tracing={"endpoint": otlp_collector.endpoint, "sample_percent": 100, **tracing})
    return make


def ask(daemon, target, *fields, token, method="GET"):
    """One request on a connection of its own."""
    with RawHttp(daemon.connect()) as connection:
        connection.send(request(method, target, *fields, token=token))
        return connection.read_answer(method)


def sent_on(answer):
    """The fields that the service received, by lower-case name, from /request's answer."""
    fields = {}
    for name, value in json.loads(answer.body)["fields"]:
        fields.setdefault(name.lower(), []).append(value)
    return fields


def spans_at_the_end(daemon, collector):
    """All that the collector has when the daemon has ended, which sends what it still holds."""
    daemon.stop()
    return collector.spans()


def only(spans, **wanted):
    """The one span whose fields are as wanted."""
    found = [span for span in spans if all(span[field] == value for field, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} spans with {wanted} among {spans}"
    return found[0]


# What the collector receives ----------------------------------------------------------------------


@pytest.mark.short
def test_a_request_is_one_trace_of_three_spans(traced, otlp_collector):
    daemon = traced()
    answer = ask(daemon, "/t/web/hello", token=daemon.token())
    assert answer.status == 200
    spans = spans_at_the_end(daemon, otlp_collector)
    whole = only(spans, name=REQUEST)
    waited = only(spans, name=GET_CONNECTION)
    forwarded = only(spans, name=SSH_FORWARD)
    assert {span["trace_id"] for span in (whole, waited, forwarded)} == {whole["trace_id"]}
    assert (whole["kind"], waited["kind"], forwarded["kind"]) == ("server", "internal", "client")
    assert whole["parent_span_id"] == NO_PARENT
    assert waited["parent_span_id"] == forwarded["parent_span_id"] == whole["span_id"]
    assert len({span["span_id"] for span in (whole, waited, forwarded)}) == 3
    for part in (waited, forwarded):
        # Ends are starts plus durations of another clock, so a step of the system's shows here.
        assert whole["start"] - 1_000_000 <= part["start"] <= part["end"] <= whole["end"] + 1_000_000
    attributes = whole["attributes"]
    assert attributes["http.request.method"] == "GET"
    assert attributes["http.response.status_code"] == 200
    assert attributes["tunnel.service"] == "web"
    assert attributes["tunnel.door"] == "http"
    assert attributes["tunnel.tier"] == "premium"
    assert attributes["tunnel.correlation_id"] == answer.value("X-Correlation-ID")
    assert whole["status"]["code"] == "unset" and "error.type" not in attributes


def test_the_collector_is_told_who_sends(traced, otlp_collector):
    daemon = traced()
    ask(daemon, "/t/web/hello", token=daemon.token())
    version = run("--version").stdout.split()
    record = daemon.log_records()[0]
    for span in spans_at_the_end(daemon, otlp_collector):
        assert span["resource"]["service.name"] == "tunneld"
        assert span["resource"]["service.version"] in version
        assert span["resource"]["service.instance.id"] == record["instanceId"]
        assert span["scope"]["name"] == "tunneld"


def test_no_span_says_what_was_asked_for_or_by_whom(traced, otlp_collector):
    daemon = traced()
    token = daemon.token("alice-in-wonderland")
    ask(daemon, "/t/web/request/looking-glass?rabbit=hole", "X-Secret: mad-hatter", "Cookie: cat=cheshire", token=token)
    ask(daemon, "/t/no-such-service/looking-glass?rabbit=hole", token=token)
    ask(daemon, "/looking-glass?rabbit=hole", token=token)
    ask(daemon, "/t/web/looking-glass", token="wrong-" + token)
    text = json.dumps(spans_at_the_end(daemon, otlp_collector))
    assert REQUEST in text
    for word in ("looking-glass", "rabbit", "mad-hatter", "cheshire", "alice", token.split(".")[2][:20]):
        assert word not in text


def test_a_failure_of_ours_is_an_error_with_its_code(traced, otlp_collector):
    daemon = traced()
    traceparent, trace, parent = new_traceparent()
    answer = ask(daemon, "/t/dead/hello", f"traceparent: {traceparent}", token=daemon.token())
    assert answer.status >= 500
    spans = spans_at_the_end(daemon, otlp_collector)
    span = only(spans, trace_id=trace, name=REQUEST)
    assert span["parent_span_id"] == parent
    assert span["status"]["code"] == "error"
    assert span["attributes"]["http.response.status_code"] == answer.status
    code = json.loads(answer.body)["error"]["code"]
    assert re.fullmatch(r"TUNNEL_\d{3}", code) and span["attributes"]["error.type"] == code
    assert only(spans, name=GET_CONNECTION)["status"]["code"] == "error"
    assert all(span["name"] != SSH_FORWARD for span in spans), "nothing was forwarded"


@pytest.mark.parametrize("target,with_token", [
    ("/t/web/hello", False),       # who are you?
    ("/t/carols/hello", True),     # not for alice
    ("/t/nothing/hello", True),    # no such service
    ("/ws/echo", False),
])
def test_who_may_not_come_in_makes_no_spans(traced, otlp_collector, target, with_token):
    # Strangers could else fill the queue, or somebody's bill for traces.
    daemon = traced()
    traceparent, _, _ = new_traceparent()
    answer = ask(daemon, target, f"traceparent: {traceparent}", token=daemon.token() if with_token else None)
    assert 400 <= answer.status < 500
    assert spans_at_the_end(daemon, otlp_collector) == []


@pytest.mark.parametrize("status", [404, 500, 503])
def test_the_services_own_errors_are_not_ours(traced, otlp_collector, status):
    daemon = traced()
    assert ask(daemon, f"/t/web/status/{status}", token=daemon.token()).status == status
    span = only(spans_at_the_end(daemon, otlp_collector), name=REQUEST)
    assert span["attributes"]["http.response.status_code"] == status
    assert not str(span["attributes"].get("error.type", "")).startswith("TUNNEL_")
    assert not span["status"]["message"].startswith("TUNNEL_")


async def test_a_stream_is_a_span_in_the_callers_trace(traced, otlp_collector):
    daemon = traced()
    traceparent, trace, parent = new_traceparent()
    async with stream(daemon, "echo", daemon.token(), headers={"traceparent": traceparent}) as ws:
        await ws.send(b"hello")
        assert await receive_bytes(ws, 5) == b"hello"
    spans = spans_at_the_end(daemon, otlp_collector)
    whole = only(spans, trace_id=trace, name=STREAM)
    assert (whole["kind"], whole["parent_span_id"]) == ("server", parent)
    assert whole["end"] > whole["start"]
    assert whole["attributes"]["tunnel.service"] == "echo"
    assert whole["attributes"]["tunnel.door"] == "websocket"
    assert whole["attributes"]["http.response.status_code"] == 101
    for name in (GET_CONNECTION, SSH_FORWARD):
        assert only(spans, name=name)["parent_span_id"] == whole["span_id"]
    assert len(spans) == 3


def test_spans_come_without_waiting_for_the_end(traced, otlp_collector):
    daemon = traced()
    ask(daemon, "/t/web/hello", token=daemon.token())
    otlp_collector.wait_for(3)
    assert daemon.metric("tunnel_trace_spans_total", result="exported") == len(otlp_collector.spans())


# Traces of others ---------------------------------------------------------------------------------


@pytest.mark.short
def test_the_callers_trace_goes_on_to_the_service(traced, otlp_collector):
    daemon = traced()
    traceparent, trace, parent = new_traceparent()
    answer = ask(daemon, "/t/web/request", f"traceparent: {traceparent}", "tracestate: vendor=a,other=b",
                 "tracestate: third=c", token=daemon.token())
    fields = sent_on(answer)
    spans = spans_at_the_end(daemon, otlp_collector)
    whole = only(spans, name=REQUEST)
    assert (whole["trace_id"], whole["parent_span_id"]) == (trace, parent)
    assert whole["flags"] & 0x300 == 0x300, "the parent is elsewhere"
    forwarded = only(spans, name=SSH_FORWARD)
    assert fields["traceparent"] == [f"00-{trace}-{forwarded['span_id']}-01"]
    assert fields["tracestate"] == ["vendor=a,other=b", "third=c"]


def test_a_trace_begins_here_when_the_caller_has_none(traced, otlp_collector):
    daemon = traced()
    answer = ask(daemon, "/t/web/request", "tracestate: vendor=a", token=daemon.token())
    fields = sent_on(answer)
    forwarded = only(spans_at_the_end(daemon, otlp_collector), name=SSH_FORWARD)
    assert fields["traceparent"] == [f"00-{forwarded['trace_id']}-{forwarded['span_id']}-01"]
    assert "tracestate" not in fields, "it belongs to a trace that nobody named"


@pytest.mark.parametrize("traceparent", [
    "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"])
def test_a_broken_traceparent_is_not_gone_on_with(traced, otlp_collector, traceparent):
    daemon = traced()
    answer = ask(daemon, "/t/web/request", f"traceparent: {traceparent}", "tracestate: vendor=a", token=daemon.token())
    assert answer.status == 200
    fields = sent_on(answer)
    whole = only(spans_at_the_end(daemon, otlp_collector), name=REQUEST)
    assert whole["parent_span_id"] == NO_PARENT
    assert whole["trace_id"] != "0af7651916cd43dd8448eb211c80319c"
    assert len(fields["traceparent"]) == 1 and fields["traceparent"][0].startswith(f"00-{whole['trace_id']}-")
    assert "tracestate" not in fields


def test_two_traceparents_are_none(traced, otlp_collector):
    daemon = traced()
    first, first_trace, _ = new_traceparent()
    second, second_trace, _ = new_traceparent()
    answer = ask(daemon, "/t/web/request", f"traceparent: {first}", f"traceparent: {second}", token=daemon.token())
    whole = only(spans_at_the_end(daemon, otlp_collector), name=REQUEST)
    assert whole["trace_id"] not in (first_trace, second_trace)
    assert len(sent_on(answer)["traceparent"]) == 1


def test_what_the_caller_does_not_sample_is_not_sampled_here(traced, otlp_collector):
    daemon = traced()
    traceparent, trace, _ = new_traceparent("00")
    answer = ask(daemon, "/t/web/request", f"traceparent: {traceparent}", "tracestate: vendor=a", token=daemon.token())
    fields = sent_on(answer)
    assert len(fields["traceparent"]) == 1
    assert re.fullmatch(f"00-{trace}-[0-9a-f]{{16}}-00", fields["traceparent"][0])
    assert fields["tracestate"] == ["vendor=a"]
    assert spans_at_the_end(daemon, otlp_collector) == []


def test_what_the_caller_samples_is_sampled_though_our_share_is_nothing(traced, otlp_collector):
    daemon = traced(sample_percent=0)
    token = daemon.token()
    traceparent, trace, _ = new_traceparent()
    for _ in range(20):
        assert ask(daemon, "/t/web/hello", token=token).status == 200
    ask(daemon, "/t/web/hello", f"traceparent: {traceparent}", token=token)
    spans = spans_at_the_end(daemon, otlp_collector)
    assert {span["name"] for span in spans} == {REQUEST, GET_CONNECTION, SSH_FORWARD}
    assert {span["trace_id"] for span in spans} == {trace}


@pytest.mark.short
def test_without_tracing_the_callers_trace_passes_untouched(tunneld, token):
    traceparent, _, _ = new_traceparent()
    for value in (traceparent, "nonsense", "cc-and-something-of-the-future"):
        fields = sent_on(ask(tunneld, "/t/web/request", f"traceparent: {value}", "tracestate: a=b", token=token))
        assert (fields["traceparent"], fields["tracestate"]) == ([value], ["a=b"])
    assert "traceparent" not in sent_on(ask(tunneld, "/t/web/request", token=token))


def test_the_share_can_be_changed_while_it_runs(traced, otlp_collector):
    daemon = traced(sample_percent=0)
    token = daemon.token()
    ask(daemon, "/t/web/hello", token=token)
    daemon.configuration = {**daemon.configuration,
                            "tracing": {**daemon.configuration["tracing"], "sample_percent": 100}}
    daemon.write_config()
    daemon.program.send(signal.SIGHUP)
    wait_until(lambda: daemon.metric("tunnel_config_reloads_total", result="ok") >= 1, 10, "the reload is done")
    ask(daemon, "/t/web/hello", token=token)
    only(spans_at_the_end(daemon, otlp_collector), name=REQUEST)


# From a number or a line to a trace ---------------------------------------------------------------


def openmetrics(daemon):
    answer = requests.get(daemon.admin_url("/metrics"), headers={"Accept": "application/openmetrics-text"}, timeout=10)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    return answer.text


def test_the_newest_sampled_trace_of_a_bucket_is_its_exemplar(traced):
    daemon = traced(sample_percent=0)
    token = daemon.token()
    ask(daemon, "/t/web/hello", token=token)
    assert "# {" not in openmetrics(daemon), "nothing is sampled yet"
    traceparent, trace, _ = new_traceparent()
    ask(daemon, "/t/web/hello", f"traceparent: {traceparent}", token=token)
    shown = re.compile(r'tunnel_request_duration_seconds_bucket\{outcome="success",le="([^"]+)"\} \S+ '
                       r'# \{trace_id="([0-9a-f]{32})"\} (\S+) (\d+\.\d{3})')
    found = wait_until(lambda: shown.findall(openmetrics(daemon)), 10, "the request is counted")
    assert [trace_id for _, trace_id, _, _ in found] == [trace]
    bound, _, value, when = found[0]
    assert float(value) <= float(bound)
    assert abs(time.time() - float(when)) < 120
    assert trace not in daemon.admin("/metrics")[1], "the plain format has no exemplars"


def test_the_access_log_names_the_trace_of_a_sampled_request(traced):
    daemon = traced(sample_percent=0)
    token = daemon.token()
    traceparent, trace, _ = new_traceparent()
    first = ask(daemon, "/t/web/hello", token=token).value("X-Correlation-ID")
    second = ask(daemon, "/t/web/hello", f"traceparent: {traceparent}", token=token).value("X-Correlation-ID")
    daemon.stop()
    lines = {record["correlation_id"]: record for record in daemon.log_records() if record["component"] == "access"}
    assert not lines[first].get("trace_id")
    assert lines[second]["trace_id"] == trace


# A collector in trouble ---------------------------------------------------------------------------


def burst(daemon, count=30):
    """Requests that must all succeed, whatever the collector does."""
    token = daemon.token()
    with RawHttp(daemon.connect()) as connection:
        for _ in range(count):
            connection.send(request("GET", "/t/web/hello", token=token))
            assert connection.read_answer().body == b"hello\n"


def counted(daemon):
    """{result: spans} so far."""
    return {result: daemon.metric("tunnel_trace_spans_total", result=result)
            for result in ("exported", "failed", "dropped")}


@pytest.mark.deadline(120)
def test_requests_do_not_notice_that_the_collector_is_away(traced):
    daemon = traced(endpoint=f"http://127.0.0.1:{free_port()}/v1/traces")
    burst(daemon)
    wait_until(lambda: counted(daemon)["failed"] >= 3, 60, "spans are given up")
    assert counted(daemon)["exported"] == 0
    burst(daemon)
    complaints = [record for record in daemon.log_records() if record["component"] == "tracing"]
    assert [record["level"] for record in complaints] == ["WARN"], "one line, not one for each request"
    assert daemon.admin("/readyz")[0] == 200


def test_requests_do_not_notice_that_the_collector_hangs(traced, otlp_collector):
    daemon = traced()
    otlp_collector.script({"hang": True, "count": 0})
    burst(daemon)
    wait_until(otlp_collector.requests, 20, "a request hangs at the collector")
    burst(daemon)
    daemon.stop()  # with status 0, though the collector still hangs
    assert otlp_collector.spans() == []


def test_a_collector_that_asks_for_patience_gets_every_span_later(traced, otlp_collector):
    daemon = traced()
    otlp_collector.script({"status": 503, "headers": {"Retry-After": "1"}},
                          {"status": 429, "headers": {"Retry-After": "0"}}, {"close": True})
    ask(daemon, "/t/web/hello", token=daemon.token())
    otlp_collector.wait_for(3, seconds=30)
    assert [entry["status"] for entry in otlp_collector.requests()[:4]] == [503, 429, 0, 200]
    wait_until(lambda: counted(daemon) == {"exported": 3, "failed": 0, "dropped": 0}, 10, "all are counted")


@pytest.mark.parametrize("step,failed", [
    ({"partial": {"rejected": 2, "message": "too old"}}, 2), ({"status": 400, "message": "no"}, 3),
    ({"status": 307, "headers": {"Location": "/v1/traces"}}, 3), ({"status": 401, "message": "who"}, 3)])
def test_spans_that_the_collector_refuses_are_counted(traced, otlp_collector, step, failed):
    daemon = traced()
    otlp_collector.script(step)
    ask(daemon, "/t/web/hello", token=daemon.token())
    wait_until(lambda: counted(daemon) == {"exported": 3 - failed, "failed": failed, "dropped": 0}, 20,
               "the spans are counted")
    assert len(otlp_collector.requests()) == 1, "nothing is sent twice, no redirect is followed"


def test_spans_are_dropped_and_counted_while_too_many_wait(traced, otlp_collector):
    daemon = traced()
    otlp_collector.script({"hang": True, "count": 0})
    while counted(daemon)["dropped"] == 0:
        burst(daemon, 200)
    otlp_collector.reset()


# Settings -----------------------------------------------------------------------------------------


def headers_file(directory, text, mode=0o600):
    directory.mkdir()
    path = directory / "headers"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_the_collector_gets_the_headers_of_the_file(traced, otlp_collector, new_directory):
    path = headers_file(new_directory("headers"), "Authorization: Bearer only-for-the-collector\nX-Scope-OrgID: lab\n")
    daemon = traced(headers_file=path)
    daemon.secret("only-for-the-collector")
    ask(daemon, "/t/web/hello", token=daemon.token())
    daemon.stop()
    headers = otlp_collector.requests()[0]["headers"]
    assert headers["authorization"] == "Bearer only-for-the-collector"
    assert headers["x-scope-orgid"] == "lab"
    assert headers["content-type"] == "application/x-protobuf"


@pytest.fixture
def serve(new_directory, otlp_collector):
    """How a daemon ends that has these settings in `tracing`."""
    def run_with(**tracing):
        daemon = Tunneld(new_directory("tunneld"), {"tracing": {"endpoint": otlp_collector.endpoint, **tracing}})
        return run("serve", "--config", daemon.config)
    return run_with


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1:4317/v1/traces", "http://127.0.0.1:4318",
                                      "http://user:hush@127.0.0.1:4318/v1/traces", "https://:4318/v1/traces"])
def test_an_endpoint_that_is_none_stops_the_start(serve, endpoint):
    done = serve(endpoint=endpoint)
    assert done.returncode == 78, done
    assert "tracing.endpoint" in done.stderr + done.stdout
    assert "hush" not in done.stderr + done.stdout


@pytest.mark.parametrize("text,mode,status,says", [
    ("Authorization: Bearer hush\n", 0o644, 77, "0644"), ("Bearer hush\n", 0o600, 78, "headers:1"),
    ("# one\nContent-Type: hush\n", 0o600, 78, "headers:2"), ("A: b\nX: hu\x01sh\n", 0o600, 78, "headers:2")])
def test_a_headers_file_that_cannot_be_used_stops_the_start(serve, new_directory, text, mode, status, says):
    done = serve(headers_file=headers_file(new_directory("headers"), text, mode))
    assert done.returncode == status, done
    assert "tracing.headers_file" in done.stderr + done.stdout and says in done.stderr + done.stdout
    assert "hush" not in done.stderr + done.stdout


def test_a_headers_file_that_is_missing_stops_the_start(serve):
    done = serve(headers_file="/nowhere/headers")
    assert done.returncode == 78, done
    assert "/nowhere/headers" in done.stderr + done.stdout


def test_headers_do_not_go_over_the_wire_in_the_clear(serve, new_directory):
    path = headers_file(new_directory("headers"), "Authorization: Bearer hush\n")
    done = serve(endpoint="http://192.0.2.1:4318/v1/traces", headers_file=path)
    assert done.returncode == 78 and "https" in done.stderr + done.stdout
