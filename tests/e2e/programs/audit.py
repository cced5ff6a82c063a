"""The audit log read by somebody else than those who write it: the format of docs/audit.md, checked anew."""

import hashlib
import json
import pathlib

from .process import whole_lines

FIRST = "0" * 64


def files(directory):
    return sorted(pathlib.Path(directory).glob("audit*.jsonl"))


def lines(directory):
    """Every line as JSON, oldest first; not one that is being written."""
    return [json.loads(line) for file in files(directory) for line in whole_lines(file.read_bytes().decode("utf-8", "replace"))]


def broken(directory):
    """What is wrong with the chain, in words; None when nothing is."""
    expected, before = None, None
    for file in files(directory):
        text = file.read_bytes()
        if text and not text.endswith(b"\n"):
            return f"{file.name} ends in a torn line"
        for number, line in enumerate(text.splitlines(), 1):
            where = f"{file.name}:{number}"
            try:
                entry = json.loads(line)
                hashed = line[:line.rindex(b',"hash":"')]
            except ValueError as wrong:
                return f"{where}: {wrong}"
            if hashlib.sha256(hashed).hexdigest() != entry["hash"]:
                return f"{where}: the hash is wrong"
            if before is None:
                expected = entry["seq"]
                if expected == 1 and entry["prev"] != FIRST:
                    return f"{where}: the first line follows nothing"
            else:
                expected += 1 + (entry["lines"] if entry["event"] == "audit.gap" else 0)
                if entry["prev"] != before:
                    return f"{where}: does not follow the line before"
            if entry["seq"] != expected:
                return f"{where}: number {entry['seq']} where {expected} was due"
            before = entry["hash"]
    return None
