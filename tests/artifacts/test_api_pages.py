"""docs/api: the OpenAPI document lists the pages there are, with the codes there are, and no others."""
import pathlib
import re

import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
API = REPOSITORY / "docs" / "api"
DOCUMENT = yaml.safe_load((API / "openapi.yaml").read_text())
#: What a path may hold beside its methods (OpenAPI 3.1, "Path Item Object").
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def source(path):
    return (REPOSITORY / path).read_text()


def admin_pages():
    """(path, needs the scope, methods) of every row of the admin door's table."""
    rows = re.findall(r'Page\{"(/[^"]*)",\s*(true|false),\s*"([A-Z, ]+)"', source("tunneld/admin/admin_handler.cpp"))
    assert len(rows) > 10, "the admin door lists its pages in another way now: mend this test"
    return [(path, scope == "true", {method.lower() for method in methods.split(", ")} - {"head"})
            for path, scope, methods in rows]


def routes_in_the_code():
    """Paths that the gate compares a request's with, their variable parts cut off, and the admin pages."""
    gate = re.findall(r'path(?:\.starts_with\(| == )"(/[^"]*)"', source("tunneld/gate.cpp"))
    assert gate, "the gate lists its pages in another way now: mend this test"
    return set(gate), {path for path, _, _ in admin_pages()}


def routes_in_the_document():
    """Those of the admin door as they stand, the gate's with their variable parts cut off."""
    admin = {path for path, _, _ in admin_pages()}
    paths = set(DOCUMENT["paths"])
    return {path.split("{")[0] for path in paths - admin}, paths & admin


def nodes(tree, trail=()):
    """Every mapping of the document, with where it stands."""
    if isinstance(tree, dict):
        yield trail, tree
        for key, value in tree.items():
            yield from nodes(value, (*trail, str(key)))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from nodes(value, (*trail, str(index)))


def target_of(reference):
    found = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def names_in_the_error_table():
    return set(re.findall(r'"(TUNNEL_\d{3})"', source("tunnel/refusal.cpp")))


def test_the_document_lists_exactly_the_pages_in_the_code():
    gate, admin = routes_in_the_code()
    documented, documented_admin = routes_in_the_document()
    assert documented_admin == admin
    assert documented | {path for path in gate if path in admin} == gate


def test_a_page_takes_the_methods_that_the_document_says():
    for path, _, methods in admin_pages():
        assert METHODS & DOCUMENT["paths"][path].keys() == methods, path


def test_what_needs_a_scope_in_the_code_says_so_in_the_document():
    for path, needs_scope, methods in admin_pages():
        for method in methods:
            operation = DOCUMENT["paths"][path][method]
            assert ("tunnel:admin" in operation["description" if "description" in operation else "summary"]
                    ) == needs_scope, f"{method} {path}"
            assert ("security" not in operation) == needs_scope, f"{method} {path}"


def test_every_reference_leads_somewhere():
    references = [node["$ref"] for _, node in nodes(DOCUMENT) if isinstance(node.get("$ref"), str)]
    assert references
    for reference in references:
        assert target_of(reference), reference


def test_the_error_body_lists_exactly_the_codes_there_are():
    codes = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    assert len(codes) == len(set(codes))
    assert set(codes) == names_in_the_error_table()


def error_examples():
    return [(".".join(trail), node["error"]) for trail, node in nodes(DOCUMENT)
            if trail[-1:] == ("example",) and "error" in node]


@pytest.mark.parametrize("where, error", error_examples(), ids=lambda value: value if isinstance(value, str) else "")
def test_an_example_error_has_the_texts_of_its_code(where, error):
    """The table's strings may be broken over lines; the compiler joins them, and so does this."""
    table = re.sub(r'"\s*\n\s*"', "", source("tunnel/refusal.cpp"))
    row = re.search(rf'"{error["code"]}", "(\w+)", \d+, \d+,\s*"([^"]*)",\s*"([^"]*)"', table)
    assert row, error["code"]
    assert (error["category"], error["userMessage"], error["suggestion"]) == row.groups()
    assert error["docUrl"] == f"docs/errors/{error['code']}.md"
    known = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]
    assert set(known["required"]) <= set(error) <= set(known["properties"]), where


def closes_in_the_code():
    """(close code, its reason's code) of every Close that tunneld sends by itself."""
    facts = dict(re.findall(r'\{Code::(\w+), "(TUNNEL_\d{3})"', source("tunnel/refusal.cpp")))
    gate = re.search(r"Farewell farewell_after\(RelayEnd::How.*?\n\}", source("tunneld/farewell.cpp"), re.S).group(0)
    found = {(code, facts[name]) for code, name in re.findall(r"\{(\d{4}), close_reason\(Code::(\w+)", gate)}
    for path in (REPOSITORY / "edge").glob("*.cpp"):
        found |= {(code, facts[name]) for code, name in
                  re.findall(r'reject\((\d{4}), "\w+", tunnel::Code::(\w+)\)', path.read_text())}
        found |= set(re.findall(r'(?:send_close|close_with)\((\d{4}), R"\(\{"code":"(TUNNEL_\d{3})"', path.read_text()))
    errors = re.findall(r'\{(\d{4}), "\w+"\}', source("edge/websocket_frames.cpp"))
    found |= {(code, "TUNNEL_010") for code in errors}
    assert len(found) > len(set(errors)), "Closes are sent in another way now: mend this test"
    return found


def test_the_websocket_page_lists_every_close_with_its_reason():
    rows = re.findall(r"^\| (\d{4}) \| (TUNNEL_\d{3}) \|", (API / "websocket.md").read_text(), re.M)
    assert set(rows) == closes_in_the_code()
