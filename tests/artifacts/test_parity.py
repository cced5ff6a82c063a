"""docs/parity.md names every tool of Grafana's MCP server once, and its verbs are those of the program."""
import pathlib
import re

import pytest

from test_tunnelctl_page import command_of, commands_and_options, reference

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "parity.md"
TOOLS = pathlib.Path(__file__).with_name("mcp_tools.txt")


def tools():
    return [line for line in TOOLS.read_text().splitlines() if line and not line.startswith("#")]


def rows():
    """(tool, verb, remarks) of every table whose first column is a tool."""
    found = re.findall(r"^\| `([\w-]+)` \| (.*?) \| (.*?) ?\|$", PAGE.read_text(), re.M)
    assert found, "no row was found; has the page another form now?"
    return found


def test_every_tool_stands_there_once():
    listed = [tool for tool, _, _ in rows()]
    assert sorted(listed) == sorted(tools())
    assert len(listed) == len(set(listed)) == 112


@pytest.fixture(scope="module")
def known():
    return commands_and_options(reference())


def test_a_tool_without_a_verb_has_a_reason():
    for tool, verb, remarks in rows():
        if verb == "none":
            assert len(remarks) > 5, f"{tool}: why is there none?"
        else:
            assert re.fullmatch(r"`tunnelctl [^`]+`", verb), f"{tool}: {verb} is neither none nor a command"


def test_the_verbs_and_their_options_exist(known):
    for tool, verb, remarks in rows():
        for command in re.findall(r"`(tunnelctl [^`]+)`", verb + " " + remarks):
            if command == "tunnelctl docs":  # said to be planned
                continue
            words = command.split()[1:]
            name = command_of(words, known)
            assert name, f"{tool}: {command}: there is no such command"
            for word in words:
                option = re.match(r"--?[a-z][\w-]*", word)
                if option and word.startswith("-"):
                    assert option[0] in known[name] | known[""], f"{tool}: {command}: no option {option[0]}"


def test_the_counts_at_its_head_are_right():
    text = PAGE.read_text()
    without = sum(verb == "none" for _, verb, _ in rows())
    assert f"| tools | {len(rows())} |" in text
    assert f"| with a verb | {len(rows()) - without} |" in text
    assert f"| without one, for the reason given | {without} |" in text
