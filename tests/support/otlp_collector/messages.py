"""OTLP's messages, compiled from the official definitions in proto/ when they are first needed."""

import atexit
import pathlib
import shutil
import subprocess
import sys
import tempfile

PROTO = pathlib.Path(__file__).with_name("proto")
_SERVICE = "opentelemetry/proto/collector/trace/v1/trace_service.proto"


def _compiled():
    folder = tempfile.mkdtemp(prefix="otlp-messages-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run(["protoc", "-I", str(PROTO), "--python_out", folder,
                    *(str(path.relative_to(PROTO)) for path in sorted(PROTO.rglob("*.proto")))], check=True, cwd=PROTO)
    sys.path.insert(0, folder)
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    finally:
        sys.path.remove(folder)
    return trace_service_pb2


_service = _compiled()
ExportRequest = _service.ExportTraceServiceRequest
ExportResponse = _service.ExportTraceServiceResponse


def status(message):
    """The bytes of a google.rpc.Status, which OTLP wants as the body of every error: field 2 is its message."""
    text, length = message.encode(), b""
    left = len(text)
    while left > 0x7F:
        length += bytes([left & 0x7F | 0x80])
        left >>= 7
    return b"\x12" + length + bytes([left]) + text


def _value(value):
    """An AnyValue as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _value(item.value) for item in value.kvlist_value.values}
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind else None


def _attributes(listed):
    return {item.key: _value(item.value) for item in listed}


def flattened(request):
    """Every span of the request with its resource and scope, as JSON can hold it."""
    spans = []
    for of_resource in request.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                spans.append({
                    "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex(),
                    "parent_span_id": span.parent_span_id.hex(), "trace_state": span.trace_state,
                    "name": span.name, "kind": _kind(span), "flags": span.flags,
                    "start": span.start_time_unix_nano, "end": span.end_time_unix_nano,
                    "attributes": _attributes(span.attributes),
                    "status": {"code": ("unset", "ok", "error")[span.status.code], "message": span.status.message},
                    "resource": _attributes(of_resource.resource.attributes),
                    "scope": {"name": of_scope.scope.name, "version": of_scope.scope.version}})
    return spans


def _kind(span):
    return span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower()


def complaints(request):
    """What a collector may take but the specification forbids, or a backend could not use."""
    found = []
    known = type(request)()
    known.CopyFrom(request)
    known.DiscardUnknownFields()
    if known.ByteSize() != request.ByteSize():
        found.append("fields that opentelemetry-proto does not have")
    for of_resource in request.resource_spans:
        _check_attributes(found, "the resource", of_resource.resource.attributes)
        if not _attributes(of_resource.resource.attributes).get("service.name"):
            found.append("a resource without service.name")
        for of_scope in of_resource.scope_spans:
            if not of_scope.scope.name:
                found.append("a scope without a name")
            for span in of_scope.spans:
                _check_span(found, span)
    return found


def _check_span(found, span):
    what = f"span {span.name!r}"
    for field, size, may_be_empty in (("trace_id", 16, False), ("span_id", 8, False), ("parent_span_id", 8, True)):
        value = getattr(span, field)
        if not (may_be_empty and not value) and (len(value) != size or not any(value)):
            found.append(f"{what}: {field} is {value.hex() or 'empty'}")
    if not span.name:
        found.append("a span without a name")
    if span.kind == 0:
        found.append(f"{what}: no kind")
    if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano:
        found.append(f"{what}: from {span.start_time_unix_nano} to {span.end_time_unix_nano}")
    if span.flags >> 10:
        found.append(f"{what}: flags {span.flags:#x}")
    if span.status.message and span.status.code != 2:
        found.append(f"{what}: a status message without an error")
    _check_attributes(found, what, span.attributes)


def _check_attributes(found, what, listed):
    keys = [item.key for item in listed]
    if "" in keys:
        found.append(f"{what}: an attribute without a name")
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        found.append(f"{what}: {key} twice")
    for item in listed:
        if item.value.WhichOneof("value") is None:
            found.append(f"{what}: {item.key} without a value")
