"""runbooks/: one page an alert, and nothing on it that does not exist."""
import pathlib
import re
import subprocess

import pytest
import yaml

from metric_contract import rows, series

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
RUNBOOKS = REPOSITORY / "runbooks"
PAGES = sorted((RUNBOOKS / "tunnel").glob("*.md"))
SECTIONS = ["Meaning", "Impact", "First checks", "Likely causes", "Mitigation", "Escalation", "How to verify recovery"]
RULES = {rule["alert"]: (path.name, rule) for path in sorted((REPOSITORY / "alerts" / "tunnel").glob("*.rules.yaml"))
         for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"] if "alert" in rule}
#: Programs of the machine that a command may begin with, beside our own.
PROGRAMS = {"curl", "promtool", "journalctl", "systemctl", "grep", "openssl", "df", "ls", "ss", "top", "timedatectl", "tunnelctl"}
FILTERS = {"grep", "sort", "uniq", "head", "tail", "sed", "awk", "wc", "openssl", "sha256sum"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
each_text = pytest.mark.parametrize("page", [RUNBOOKS / "README.md", *PAGES], ids=lambda path: path.stem)


def source(path):
    return (REPOSITORY / path).read_text()


def section(page, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page.read_text(), re.M | re.S).group(1)


def code(page):
    """Every line of a block and every piece of inline code."""
    text = page.read_text()
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.M | re.S)
    lines = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    return lines, re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))


def commands(page):
    """Block lines, and inline code that is a command."""
    lines, inline = code(page)
    ours = PROGRAMS | {"tunneld", "tunnelctl", "nc", "ssh"}
    return lines + [text for text in inline if text.split()[0] in ours and " " in text]


def unquoted(command):
    return re.sub(r"'[^']*'", "''", command)


# Pages --------------------------------------------------------------------------------------------


def test_every_alert_has_a_page_and_every_page_an_alert():
    assert {page.stem for page in PAGES} == set(RULES)


@each_page
def test_a_page_has_the_sections_in_order(page):
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS
    for title in SECTIONS:
        assert section(page, title).strip(), title


@each_page
def test_a_page_begins_with_the_severity_and_the_file_of_its_rule(page):
    file, rule = RULES[page.stem]
    assert f"Severity: {rule['labels']['severity']}. Rule: [{file}](../../alerts/tunnel/{file})." in page.read_text()


@each_page
def test_there_are_three_first_checks_each_with_a_command(page):
    checks = re.split(r"^(?=\d\. )", section(page, "First checks"), flags=re.M)[1:]
    assert [check[:2] for check in checks] == ["1.", "2.", "3."]
    for check in checks:
        assert check.count("```sh") == 1


@each_text
def test_links_and_their_anchors_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file() and file.is_relative_to(REPOSITORY), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in headings}, link


# What the commands name -----------------------------------------------------------------------------


@each_text
def test_a_command_is_a_program_that_is_there(page):
    for line in code(page)[0]:
        program = line.split()[0]
        assert program in PROGRAMS | {"tunneld", "export", "umask", "printf"}, line
        for piped in re.findall(r"\| (\w+)", unquoted(line)):
            assert piped in FILTERS, line
        assert subprocess.run(["bash", "-n", "-c", line], capture_output=True).returncode == 0, line


@each_text
def test_tunneld_is_called_with_commands_and_options_it_has(page):
    cli = source("tunneld/cli.cpp")
    subcommands = set(re.findall(r'add_subcommand\(\s*"([\w-]+)"', cli))
    options = set(re.findall(r"(--[a-z-]+)", cli))
    for command in commands(page):
        for call in re.findall(r"(?:^|\$\()tunneld ((?:[^)|]|\\.)*)", command):
            words = call.split()
            assert words[0] in subcommands | {"--version"}, command
            assert words[0] != "token" or words[1] == "create", command
            assert {word for word in words if word.startswith("--")} <= options, command


@each_text
def test_addresses_are_pages_of_the_admin_door(page):
    table = re.search(r"kPages\{(.*?)\};", source("tunneld/admin/admin_handler.cpp"), re.S).group(1)
    pages = {path: scope == "true" for path, scope in re.findall(r'Page\{"(/[^"]*)", (\w+),', table)}
    assert len(pages) > 7, "the table of pages is written in another way"
    for command in commands(page):
        for path in re.findall(r"127\.0\.0\.1:9090(/\S*?)(?=[ '\"]|$)", command):
            assert path in pages, command
            assert ("@authorization" in command) == pages[path], f"{command}: token only where it is wanted"
        assert not command.startswith("curl") or "-X PUT" not in command or "log-level" in command


@each_text
def test_metrics_and_settings_exist(page):
    settings = set(re.findall(r"^\| `([\w.\[\]]+)` \|", source("docs/configuration.md"), re.M))
    known = series().keys() | {name for name, (_, _, since) in rows().items() if since != "compat"}
    lines, inline = code(page)
    for text in lines + inline:
        for metric in re.findall(r"\b((?:tunnel|process)_[a-z_]+[a-z])\b", text):
            assert metric in known, metric
    for text in inline:
        key = re.fullmatch(r"((?:auth|limits|log|ssh|tls|ws|request|metrics)\.[a-z_]+)(?:: \S+)?", text)
        assert not key or key.group(1) in settings, text


@each_page
def test_every_query_parses(page, tmp_path):
    queries = [query for command in commands(page) if "promtool query" in command
               for query in re.findall(r"promtool query instant \"\$PROMETHEUS_URL\" '([^']+)'$", command)]
    assert len(queries) == sum("promtool query" in command for command in commands(page)), "written in another way"
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": [
        {"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@each_page
def test_log_lines_that_are_searched_are_lines_that_tunneld_writes(page):
    written = " ".join(path.read_text() for path in (REPOSITORY / "tunneld").rglob("*.cpp"))
    for command in code(page)[0]:
        for message in re.findall(r'"message":"([^"\']+)', command):
            assert f'"{message}' in written, command
        for phrase in re.findall(r"grep '([a-z][a-z ]+)'", command):
            assert f'"{phrase}"' in written, command


def test_a_code_that_a_page_explains_has_its_page():
    for page in PAGES:
        for number in re.findall(r"TUNNEL_(\d{3})", page.read_text()):
            assert (REPOSITORY / "docs" / "errors" / f"TUNNEL_{number}.md").is_file(), f"{page.name}: {number}"
