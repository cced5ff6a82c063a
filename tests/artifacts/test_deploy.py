"""deploy/: what the examples say fits what tunneld writes."""

import pathlib
import re

import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
ALLOY = (REPOSITORY / "deploy/alloy/config.alloy").read_text()
PROMTAIL = yaml.safe_load((REPOSITORY / "deploy/promtail/config.yaml").read_text())
#: What may be a label: names whose values are few.
LABELS = ["level", "component", "instanceId"]
METADATA = ["trace_id", "correlation_id", "connection_id"]
#: By which the dashboards and the first questions about an incident select streams.
STREAM_LABELS = {"job", *(name for board in (REPOSITORY / "dashboards/tunnel").glob("*.json")
                          for name in re.findall(r'"expr": "[^"{]*\{(\w+)=~\\"\$service', board.read_text()))}


def stage_of(pipeline, name):
    found = [stage[name] for stage in pipeline if name in stage]
    assert len(found) == 1, f"{len(found)} stages {name}"
    return found[0]


@pytest.mark.parametrize("job", PROMTAIL["scrape_configs"], ids=lambda job: job["job_name"])
def test_promtail_makes_labels_of_small_sets_only(job):
    pipeline = job["pipeline_stages"]
    assert list(stage_of(pipeline, "labels")) == LABELS
    assert list(stage_of(pipeline, "structured_metadata")) == METADATA
    assert sorted(stage_of(pipeline, "json")["expressions"]) == sorted([*LABELS, *METADATA, "timestamp"])
    assert stage_of(pipeline, "timestamp") == {"source": "timestamp", "format": "RFC3339Nano"}


def test_promtail_reads_the_journal_or_a_file():
    journal, file = PROMTAIL["scrape_configs"]
    assert journal["journal"]["matches"] == "_SYSTEMD_UNIT=tunneld.service"
    assert (REPOSITORY / "deploy/systemd/tunneld.service").exists()
    labels = file["static_configs"][0]["labels"]
    assert labels["__path__"].endswith("*.log")
    assert labels["job"] == journal["journal"]["labels"]["job"] == "tunneld"
    for own in (labels, journal["journal"]["labels"]):
        assert STREAM_LABELS <= set(own), "the dashboards find its lines"


def test_promtail_listens_for_nobody_but_this_machine():
    assert PROMTAIL["server"]["http_listen_address"] == PROMTAIL["server"]["grpc_listen_address"] == "127.0.0.1"


# Alloy's language, as far as the example uses it: blocks, attributes, strings, maps, lists, references. -------

TOKEN = re.compile(r"""
    (?P<skip>[ \t]+|//[^\n]*)|(?P<line>\n)|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<number>\d+(?:\.\d+)?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>[{}\[\]=,.])""", re.X)


class Parser:
    """Reads blocks into (type, label, attributes, blocks). Raises AssertionError with the line on any mistake."""

    def __init__(self, text):
        self.tokens, at, line = [], 0, 1
        while at < len(text):
            found = TOKEN.match(text, at)
            assert found, f"line {line}: {text[at:at + 20]!r}"
            if found.lastgroup != "skip":
                self.tokens.append((found.lastgroup, found.group(), line))
            line += found.group().count("\n")
            at = found.end()
        self.tokens.append(("end", "", line))
        self.at = 0

    def peek(self):
        return self.tokens[self.at][:2]

    def take(self, kind=None, text=None):
        found = self.tokens[self.at]
        assert kind in (None, found[0]) and text in (None, found[1]), f"line {found[2]}: {found[1]!r}, not {text or kind}"
        self.at += 1
        return found[1]

    def skip_lines(self):
        while self.peek()[0] == "line":
            self.take()

    def dotted(self):
        name = self.take("name")
        while self.peek() == ("mark", "."):
            self.take()
            name += "." + self.take("name")
        return name

    def body(self, end):
        attributes, blocks = {}, []
        self.skip_lines()
        while self.peek() != end:
            name = self.dotted()
            if self.peek() == ("mark", "="):
                self.take()
                assert name not in attributes, f"{name} twice"
                attributes[name] = self.value()
            else:
                label = self.take("string").strip('"') if self.peek()[0] == "string" else None
                self.take("mark", "{")
                blocks.append((name, label, *self.body(("mark", "}"))))
                self.take("mark", "}")
            if self.peek() != end:
                self.take("line")  # a statement ends with its line
            self.skip_lines()
        return attributes, blocks

    def value(self):
        kind, text = self.peek()
        if kind == "string":
            return self.take().strip('"')
        if kind == "number":
            return float(self.take())
        if kind == "name":
            return ("reference", self.dotted())
        if text == "[":
            return self.items("]", self.value)
        return dict(self.items("}", self.pair))

    def pair(self):
        kind = self.peek()[0]
        name = self.take("string").strip('"') if kind == "string" else self.take("name")
        self.take("mark", "=")
        return name, self.value()

    def items(self, end, one):
        self.take("mark")
        found = []
        self.skip_lines()
        while self.peek() != ("mark", end):
            found.append(one())
            if self.peek() != ("mark", end):
                self.take("mark", ",")
            self.skip_lines()
        self.take("mark", end)
        return found


def alloy_components():
    attributes, blocks = Parser(ALLOY).body(("end", ""))
    assert not attributes, "only components at the top"
    return {f"{name}.{label}": (attributes, dict((inner[0], inner[2]) for inner in inside))
            for name, label, attributes, inside in blocks}


@pytest.mark.parametrize("broken", ["a \"b\" {", "a = [1", "a { b = }", "a { b = 1 c = 2 }", "a { b = {c = 1 } ", "a { ' }"])
def test_the_reader_of_alloys_language_notices_mistakes(broken):
    with pytest.raises(AssertionError):
        Parser(broken).body(("end", ""))


def test_alloy_makes_labels_of_small_sets_only():
    stages = alloy_components()["loki.process.tunneld"][1]
    assert list(stages["stage.labels"]["values"]) == LABELS
    assert list(stages["stage.structured_metadata"]["values"]) == METADATA
    assert sorted(stages["stage.json"]["expressions"]) == sorted([*LABELS, *METADATA, "timestamp"])
    assert stages["stage.timestamp"] == {"source": "timestamp", "format": "RFC3339Nano"}


def test_every_part_of_alloys_pipeline_leads_to_one_that_is_there():
    components = alloy_components()
    exports = {"forward_to": "receiver", "targets": "targets"}
    leads = 0
    for name, (attributes, _) in components.items():
        for attribute, export in exports.items():
            targets = attributes.get(attribute, [])
            for kind, reference in targets if isinstance(targets, list) else [targets]:
                component, _, exported = reference.rpartition(".")
                assert kind == "reference" and exported == export and component in components, f"{name}: {reference}"
                leads += 1
    assert leads == 4
    assert components["loki.source.journal.tunneld"][0]["matches"] == "_SYSTEMD_UNIT=tunneld.service"


def test_the_dashboards_find_what_alloy_pushes():
    assert STREAM_LABELS == {"job", "service"}
    components = alloy_components()
    (target,) = components["local.file_match.tunneld"][0]["path_targets"]
    for own in (target, components["loki.source.journal.tunneld"][0]["labels"]):
        assert {name: own[name] for name in STREAM_LABELS} == dict.fromkeys(STREAM_LABELS, "tunneld")


def test_both_examples_push_to_the_same_place():
    assert alloy_components()["loki.write.default"][1]["endpoint"]["url"] == PROMTAIL["clients"][0]["url"]
