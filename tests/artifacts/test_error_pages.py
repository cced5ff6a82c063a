"""docs/errors: every code the programs can answer with has its page, and no page explains a code there is not."""
import pathlib
import re

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "errors"


def codes():
    """What refusal.h lists: name of the enumerator to printed code."""
    header = (REPOSITORY / "tunnel" / "refusal.h").read_text()
    body = re.search(r"enum class Code[^{]*\{(.*?)\};", header, re.S).group(1)
    found = {name: f"TUNNEL_{int(number):03}" for name, number in re.findall(r"(\w+)\s*=\s*(\d+)", body)}
    assert found, "refusal.h lists no code"
    return found


def codes_in_use():
    """Those a source file answers with; the table of facts knows all of them and says nothing."""
    used = set()
    for source in (source for room in ("tunneld", "tunnel", "edge") for source in (REPOSITORY / room).rglob("*.cpp")):
        if source.name != "refusal.cpp":
            used |= set(re.findall(r"\bCode::(\w+)", source.read_text()))
    return {printed for name, printed in codes().items() if name in used}


def codes_of_tunnelctl():
    """Those that tunnelctl names by itself: no server answers with them, and refusal.h does not know them."""
    return {code for source in (REPOSITORY / "tunnelctl").rglob("*.cpp")
            for code in re.findall(r'"(TUNNEL_\d{3}): ', source.read_text())}


def pages():
    return {page.stem for page in PAGES.glob("TUNNEL_*.md")}


def test_every_code_in_use_has_a_page():
    assert codes_in_use() - pages() == set()


def test_every_code_that_tunnelctl_names_has_a_page():
    assert "TUNNEL_019" in codes_of_tunnelctl()
    assert codes_of_tunnelctl() - pages() == set()


def test_no_page_explains_a_code_that_does_not_exist():
    assert pages() - set(codes().values()) - codes_of_tunnelctl() == set()


def test_a_page_starts_with_its_code():
    for page in sorted(PAGES.glob("TUNNEL_*.md")):
        first = page.read_text().splitlines()[0]
        assert re.match(rf"# {page.stem}\b", first), f"{page.name}: {first}"
