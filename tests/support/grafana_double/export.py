"""Exports: JSON when asked for, else YAML as go-yaml writes it."""

import re

from .answers import Answer, reply

_PLAIN = re.compile(r"[A-Za-z_./(\[<$][^\n#:]*|__[^\n#:]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~", ""}


def answer(call, body):
    """`format` wins over Accept; an unknown format is YAML."""
    format_ = call.one("format")
    if not format_ and "application/json" in call.headers.get("Accept", ""):
        format_ = "json"
    if format_ == "json":
        return reply(body)
    kind = "application/yaml" if call.one("download") == "true" else "text/yaml"
    return Answer(200, "".join(line + "\n" for line in _lines(body)).encode(), kind)


def _scalar(value):
    if value is True or value is False:
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return str(value)
    if value.lower() in _WORDS or not _PLAIN.fullmatch(value) or value != value.strip():
        if re.fullmatch(r"\d+[a-z]+", value):  # 1m
            return value
        if "\n" in value or '"' not in value:
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        return "'" + value.replace("'", "''") + "'"
    return value


def _lines(value, column=0):
    """go-yaml indents to the next multiple of four; the keys of a list's item stand two further in."""
    margin, inner = " " * column, column // 4 * 4 + 4
    if isinstance(value, dict):
        for key, part in value.items():
            if isinstance(part, (dict, list)) and part:
                yield f"{margin}{key}:"
                yield from _lines(part, inner)
            else:
                yield f"{margin}{key}: {_empty_or_scalar(part)}"
    else:
        for part in value:
            nested = isinstance(part, (dict, list)) and part
            lines = list(_lines(part, column + 2)) if nested else [margin + "  " + _empty_or_scalar(part)]
            yield margin + "- " + lines[0].lstrip()
            yield from lines[1:]


def _empty_or_scalar(value):
    return {dict: "{}", list: "[]"}.get(type(value)) or _scalar(value)
