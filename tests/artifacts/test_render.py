"""`tunnelctl monitor render`: what it writes for the shipped pack is what the tools it is for accept."""
import json
import pathlib
import re
import subprocess

import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TUNNELCTL = REPOSITORY / "build" / "release" / "bin" / "tunnelctl"
FORMATS = ["grafana-files", "prometheus", "alertmanager", "kubernetes", "grafana-operator", "terraform"]


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def renders():
    """Whether the program is there and knows the command."""
    if not TUNNELCTL.exists():
        return False
    done = subprocess.run([TUNNELCTL, "monitor", "render", "--help"], capture_output=True, timeout=30)
    return done.returncode == 0


pytestmark = pytest.mark.skipif(not renders(), reason="needs build/release/bin/tunnelctl with monitor render")


def render(folder):
    for name in FORMATS:
        run(TUNNELCTL, "monitor", "render", REPOSITORY / "packs" / "tunnel", "--format", name,
            "--out", folder / name, cwd="/")
    return folder


def texts(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return render(tmp_path_factory.mktemp("rendered"))


def documents(folder):
    for path in sorted(folder.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path, document


def pack_rules(kind):
    return {rule[kind]: rule for path in (REPOSITORY / "alerts" / "tunnel").glob("*.rules.yaml")
            for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"] if kind in rule}


def test_two_runs_write_the_same(rendered, tmp_path):
    assert texts(render(tmp_path)) == texts(rendered)


def test_every_format_wrote_files_and_none_knows_where_it_was_made(rendered):
    for name in FORMATS:
        assert texts(rendered / name), name
    for path, text in texts(rendered).items():
        assert str(REPOSITORY) not in text, path
        assert "[REDACTED]" not in text, path


def test_prometheus_loads_the_rules(rendered):
    files = sorted((rendered / "prometheus").rglob("*.yaml"))
    assert files
    run("promtool", "check", "rules", "--lint-fatal", *files)
    found = {rule["alert"]: rule for _, document in documents(rendered / "prometheus")
             for group in document["groups"] for rule in group["rules"] if "alert" in rule}
    wanted = pack_rules("alert")
    assert found.keys() == wanted.keys()
    for name, rule in wanted.items():
        for key in ("expr", "for", "keep_firing_for", "labels"):
            assert found[name].get(key) == rule.get(key), f"{name}: {key}"


def test_alertmanager_loads_its_configuration(rendered):
    path, = (rendered / "alertmanager").rglob("alertmanager.yml")
    run("amtool", "check-config", path.name, cwd=path.parent)


def test_the_alertmanager_of_the_operator_gets_a_configuration_that_loads(rendered, tmp_path):
    secrets = [document for _, document in documents(rendered / "kubernetes") if document["kind"] == "Secret"]
    assert len(secrets) == 1
    for name, text in secrets[0]["stringData"].items():
        # Where the operator mounts it is a folder here.
        (tmp_path / name).write_text(text.replace("/etc/alertmanager/config/", ""))
    run("amtool", "check-config", "alertmanager.yaml", cwd=tmp_path)


def test_kubernetes_objects_have_names_and_sizes_that_it_takes(rendered):
    seen = set()
    for folder in ("kubernetes", "grafana-operator"):
        for path, document in documents(rendered / folder):
            name = document["metadata"]["name"]
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) and len(name) <= 63, f"{path}: {name}"
            assert (document["kind"], name) not in seen, f"{path}: {document['kind']} {name} is there twice"
            seen.add((document["kind"], name))
            assert len(json.dumps(document)) < 1024 * 1024, path


def test_grafanas_files_say_what_its_loader_asks_for(rendered):
    folder = rendered / "grafana-files"
    providers = yaml.safe_load((folder / "dashboards" / "tunnel.yaml").read_text())["providers"]
    assert [provider["options"]["path"] for provider in providers] == ["/etc/grafana/provisioning/dashboards/tunnel"]
    assert {json.loads(path.read_text())["uid"] for path in (folder / "dashboards" / "tunnel").glob("*.json")} >= {
        "tunnel-health", "tunnel-performance", "tunnel-errors"}
    alerting = yaml.safe_load((folder / "alerting" / "tunnel.yaml").read_text())
    rules = {rule["title"]: rule for group in alerting["groups"] for rule in group["rules"]}
    assert rules.keys() == pack_rules("alert").keys()
    for name, rule in rules.items():
        assert rule["condition"] in [node["refId"] for node in rule["data"]], name
        # Read as they stand: a doubled dollar would show.
        assert not any("$$" in text for text in rule["annotations"].values()), name
    assert "policies" not in alerting


def test_terraforms_files_are_its_json(rendered):
    document = json.loads((rendered / "terraform" / "tunnel.tf.json").read_text())
    resources = document["resource"]
    assert {json.loads(unescaped(one["config_json"]))["uid"] for one in resources["grafana_dashboard"].values()} >= {
        "tunnel-health", "tunnel-performance", "tunnel-errors"}
    assert all(variable["sensitive"] for variable in document["variable"].values())

    def strings(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, (dict, list)):
            for item in value.values() if isinstance(value, dict) else value:
                yield from strings(item)
    for text in strings(resources):
        for template in re.findall(r"(?<!\$)\$\{[^}]*\}|(?<!%)%\{[^}]*\}", text):
            # The only ones that are meant.
            assert re.fullmatch(r"\$\{(var\.\w+|grafana_[a-z_]+\.[\w-]+\.(uid|name))\}", template), template


def unescaped(text):
    return text.replace("$${", "${").replace("%%{", "%{")
