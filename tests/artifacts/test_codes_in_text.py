"""docs/errors: codes that sources write out as text, in a Close's reason, have their pages too."""
import pathlib
import re

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "errors"


def codes_written_out():
    """The table of facts knows all codes and sends none."""
    found = set()
    for folder in ("common", "tunneld", "tunnelctl"):
        for path in (REPOSITORY / folder).rglob("*.cpp"):
            if path.name != "refusal.cpp":
                found |= set(re.findall(r'\\?"(TUNNEL_\d{3})\\?"', path.read_text()))
    assert found, "no source writes a code out any more: this test has nothing to say"
    return sorted(found)


@pytest.mark.parametrize("code", codes_written_out())
def test_a_code_that_a_caller_gets_has_a_page(code):
    assert (PAGES / f"{code}.md").exists()


def test_every_link_of_the_index_the_readme_and_the_api_pages_leads_somewhere():
    for page in ("README.md", "docs/README.md", "docs/architecture.md", "docs/configuration.md",
                 "docs/api/websocket.md", "docs/api/openapi.yaml"):
        file = REPOSITORY / page
        links = re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text())
        assert links or page == "docs/configuration.md", page
        for link in links:
            assert (file.parent / link).exists(), f"{page}: {link}"
