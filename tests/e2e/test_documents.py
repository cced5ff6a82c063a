"""The pages about errors tell what a caller really gets."""

import json
import re
import subprocess

import pytest

from callers.raw_http import RawHttp, request
from programs.tunnelctl import OK, Tunnelctl
from programs.tunneld import REPOSITORY, binary

PAGES = REPOSITORY / "docs" / "errors"
SECTIONS = ["What the caller sees", "Likely causes", "What to check", "How to see that it is fixed"]

#: How to provoke each code that one request can provoke.
PROVOKED = {
    "TUNNEL_001": request("GET", "/t/dead/", token="TOKEN"),
    "TUNNEL_002": request("GET", "/t/web/hello"),
    "TUNNEL_007": request("GET", "/t/web/slow?gate=never-opened", "X-Tunnel-Timeout: 1", token="TOKEN"),
    "TUNNEL_009": request("POST", "/t/web/malformed/two-lengths", "Content-Length: 0", token="TOKEN"),
    "TUNNEL_010": request("GET", "/t/web/hello", "Content-Length: 1", "Content-Length: 1", token="TOKEN"),
    "TUNNEL_013": request("POST", "/t/web/execute?id=for-the-documents&then=close", "Content-Length: 0", token="TOKEN"),
    "TUNNEL_016": request("GET", "/t/web/hello", "X-A: " + "y" * 9000, token="TOKEN"),
    "TUNNEL_017": request("GET", "/t/nowhere/", token="TOKEN"),
}


#: What tunnelctl says by itself: no caller gets it as an answer.
TUNNELCTLS_OWN = {"TUNNEL_019"}


def example(code):
    """(status, error) of the page's example answer."""
    text = (PAGES / f"{code}.md").read_text()
    status, body = re.search(r"```http\nHTTP/1\.1 (\d+)[^{]*(\{.*?\n\})\n```", text, re.S).groups()
    return int(status), json.loads(body)["error"]


@pytest.mark.short
@pytest.mark.parametrize("code", sorted(PROVOKED))
def test_the_example_on_a_page_is_what_a_caller_gets(tunneld, token, code):
    with RawHttp(tunneld.connect()) as connection:
        connection.send(PROVOKED[code].replace(b"TOKEN", token.encode()))
        answer = connection.read_answer()
    got, (status, shown) = json.loads(answer.body)["error"], example(code)
    assert answer.status == status or (code, answer.status) == ("TUNNEL_016", 431)
    assert set(got) == set(shown)
    for field in ("code", "category", "userMessage", "suggestion", "docUrl"):
        assert got[field] == shown[field]
    # The message names things of this test: the same but for addresses, names and reasons.
    assert got["message"].split(":")[0].split(" ")[0] == shown["message"].split(":")[0].split(" ")[0]


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_every_page_has_the_same_sections_and_its_own_code(page):
    text = page.read_text()
    assert text.startswith(f"# {page.stem}: ")
    assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS
    if page.stem not in TUNNELCTLS_OWN:
        assert example(page.stem)[1]["code"] == page.stem


def test_every_link_of_the_troubleshooting_page_leads_somewhere():
    guide = REPOSITORY / "docs" / "troubleshooting.md"
    links = re.findall(r"\]\(([^)#]+)\)", guide.read_text())
    assert links
    for link in links:
        assert (guide.parent / link).exists(), link


def test_the_troubleshooting_page_links_every_error_page():
    text = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    assert [page.stem for page in PAGES.glob("*.md") if f"errors/{page.name}" not in text] == []


# Configuration ----------------------------------------------------------------------------------------

#: By its first key whose it is, where it is not tunnelctl's.
TUNNELDS = {"listen", "tracing"}
OF_OTHERS = {"scrape_configs", "receivers", "expr"}


def configurations():
    """(page and line, YAML) of each block that people are to copy, the files that a shell makes too."""
    for page in sorted((REPOSITORY / "docs").rglob("*.md")):
        text = page.read_text()
        for block in re.finditer(r"^```yaml\n(.*?)^```|^cat > \S*\.yaml <<'END'\n(.*?)^END$", text, re.S | re.M):
            yield f"{page.name}:{text[:block.start()].count(chr(10)) + 1}", block[1] or block[2]


@pytest.mark.parametrize("yaml", [pytest.param(yaml, id=name) for name, yaml in configurations()])
def test_every_configuration_in_the_documents_loads(new_directory, yaml):
    key = re.match(r"(\w+):", yaml)[1]
    if key in OF_OTHERS:
        return
    directory = new_directory("documents")
    directory.mkdir()
    path = directory / "config.yaml"
    path.write_text(yaml)
    if key in TUNNELDS:
        checked = subprocess.run([binary(), "check-config", "--config", path], capture_output=True, text=True,
                                 env={"HOME": str(directory), "STATE_DIRECTORY": str(directory)}, timeout=30)
        assert checked.returncode == 0, checked.stderr
        return
    ctl = Tunnelctl(directory, {"TUNNELCTL_CONFIG": str(path)})
    found = ctl.run("config", "contexts", "--output", "json").expect(OK).json()
    if "\ncontexts:" in yaml:
        contexts = found["contexts"] if isinstance(found, dict) else found
        assert [one["name"] for one in contexts if one["current"]] != []


def test_there_are_configurations_in_the_documents():
    names = [name.split(":")[0] for name, _ in configurations()]
    assert {"oncall.md", "monitoring.md", "configuration.md", "incidents.md"} <= set(names)
