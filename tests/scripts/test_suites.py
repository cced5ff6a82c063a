"""scripts/suites.py: whatever happens to a suite, the closing line tells the truth."""
import importlib.util
import os
import pathlib
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def suites(tmp_path):
    spec = importlib.util.spec_from_file_location("suites", REPOSITORY / "scripts" / "suites.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LOGS = tmp_path
    return module


def numbers(count):
    return count.passed, len(count.failures), len(count.skips)


def runner(tmp_path, xml, status="exit 0"):
    """A test runner that writes this report and ends this way."""
    (tmp_path / "made.xml").write_text(xml)
    return ["bash", "-c", f"cp {tmp_path}/made.xml {tmp_path}/out.xml; {status}"]


def counted(suites, tmp_path, command, seconds=20):
    return suites.counted("s", command, seconds, tmp_path / "out.xml", suites.fresh("s"))


GOOD = '<testsuite><testcase classname="a" name="one"/><testcase classname="a" name="two"/></testsuite>'
MIXED = """<testsuites><testsuite>
  <testcase classname="a" name="passes"/>
  <testcase classname="a" name="fails"><failure message="1 != 2">trace</failure></testcase>
  <testcase classname="a" name="breaks"><error message="no fixture"/></testcase>
  <testcase classname="a" name="py_skip"><skipped message="no ipv6 here"/></testcase>
  <testcase name="gtest_skip"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>
    <system-out>[ RUN      ] A.b
/x/a_test.cpp:5: Skipped
no such cipher
[  SKIPPED ] A.b</system-out></testcase>
</testsuite></testsuites>"""


def test_counts_passed_failed_and_skipped_and_keeps_the_reasons(suites, tmp_path):
    count = counted(suites, tmp_path, runner(tmp_path, MIXED, "exit 1"))
    assert numbers(count) == (1, 2, 2)
    assert [why for _, why in count.skips] == ["no ipv6 here", "no such cipher"]
    assert "1 != 2" in count.failures[0][1]


def test_a_clean_run_has_no_failure(suites, tmp_path):
    assert numbers(counted(suites, tmp_path, runner(tmp_path, GOOD))) == (2, 0, 0)


def test_a_runner_that_fails_without_naming_a_test_is_a_failure(suites, tmp_path):
    count = counted(suites, tmp_path, runner(tmp_path, GOOD, "exit 3"))
    assert numbers(count) == (2, 1, 0)
    assert "exit status 3" in count.failures[0][1]


@pytest.mark.parametrize("command, why", [
    (["bash", "-c", "kill -SEGV $$"], "killed by SIGSEGV"),
    (["bash", "-c", "exit 0"], "no test report"),
    (["/nonexistent/runner"], None),
])
def test_a_suite_without_a_report_is_a_failure(suites, tmp_path, monkeypatch, capsys, command, why):
    monkeypatch.setitem(suites.SUITES, "s", ("broken", lambda name: counted(suites, tmp_path, command)))
    assert suites.main(["s"]) == 1
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"
    assert why is None or why in said


def test_a_report_of_an_earlier_run_is_not_believed(suites, tmp_path):
    (tmp_path / "out.xml").write_text(GOOD)
    assert numbers(counted(suites, tmp_path, ["false"])) == (0, 1, 0)


def test_a_run_without_a_test_is_a_failure(suites, tmp_path):
    assert numbers(counted(suites, tmp_path, runner(tmp_path, "<testsuite/>"))) == (0, 1, 0)


def test_a_suite_that_hangs_is_ended_with_its_children(suites, tmp_path):
    # The child holds the pipe's writing end; only its end lets the read return.
    reading, writing = os.pipe()
    command = ["bash", "-c", f"exec 3>/proc/{os.getpid()}/fd/{writing}; tail -f /dev/null & wait"]
    count = counted(suites, tmp_path, command, seconds=1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == ""
    assert "not done after 1 s" in count.failures[0][1]


def test_ending_the_script_ends_what_it_started(tmp_path):
    """Run as the program it is, on a copy whose only suite waits for ever."""
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    (tmp_path / "scripts").mkdir()
    text = (REPOSITORY / "scripts" / "suites.py").read_text()
    wait = f"call(['bash', '-c', 'echo $$ >{fifo}; exec tail -f /dev/null'], fresh(name), 60)"
    text = text.replace("\ndef main(", f"\nSUITES = {{'s': ('slow', lambda name: {wait})}}\n\n\ndef main(")
    (tmp_path / "scripts" / "suites.py").write_text(text)
    script = subprocess.Popen(["/usr/bin/python3", tmp_path / "scripts" / "suites.py", "s"], stdout=subprocess.DEVNULL)
    child = fifo.read_text().strip()
    script.terminate()
    assert script.wait(20) == 143
    assert not pathlib.Path(f"/proc/{child}").exists()


def test_a_sanitizer_report_fails_a_suite_whose_tests_passed(suites, tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    assert numbers(suites.Count()) == (0, 0, 0)
    suites.ROOT = tmp_path
    assert numbers(suites.reports(folder, "asan")) == (0, 0, 0)
    (folder / "report.17").write_text("ERROR: AddressSanitizer: heap-use-after-free\n")
    count = suites.reports(folder, "asan")
    assert numbers(count) == (0, 1, 0)
    assert "heap-use-after-free" in count.failures[0][1]


def test_the_closing_line_adds_up_all_suites_and_skips_are_listed_above_it(suites, monkeypatch, capsys):
    monkeypatch.setattr(suites, "SUITES", {
        "a": ("first", lambda name: suites.Count(passed=3, skips=[("a: t", "no kernel support")])),
        "b": ("second", lambda name: suites.Count(passed=4)),
    })
    assert suites.main(["a", "b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "7 passed, 0 failed, 1 skipped"
    assert "   a: t: no kernel support" in lines


def test_a_suite_that_raises_is_a_failure(suites, monkeypatch, capsys):
    def broken(name):
        raise OSError("disk full")
    monkeypatch.setattr(suites, "SUITES", {"a": ("first", broken)})
    assert suites.main(["a"]) == 1
    assert "disk full" in capsys.readouterr().out


def test_an_unknown_suite_is_a_usage_error(suites, capsys):
    assert suites.main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


UNSTEADY = """
import pathlib
import pytest

def fails_first(name):
    seen = pathlib.Path(__file__).with_name(name)
    if not seen.exists():
        seen.write_text("")
        assert False, f"{name} fails the first time"

"""


@pytest.fixture
def run_tests(suites, tmp_path, monkeypatch):
    """Runs these as a suite of end-to-end tests."""
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(suites, "ROOT", tmp_path)

    def run(tests):
        (tmp_path / "t" / "test_x.py").write_text(UNSTEADY + tests)
        return suites.pytest("t", workers=2)("s")
    return run


def test_a_test_that_fails_beside_others_and_passes_alone_is_shown_as_unsteady(suites, run_tests, monkeypatch, capsys):
    tests = "@pytest.mark.parametrize('n', ['a::b', 'c'])\ndef test_a(n):\n    fails_first('a')\n\n\ndef test_b(): pass\n"
    monkeypatch.setattr(suites, "SUITES", {"s": ("flaky", lambda name: run_tests(tests))})
    assert suites.main(["s"]) == 0
    said = capsys.readouterr().out
    assert "UNSTEADY s: t.test_x::test_a[" in said and "a fails the first time" in said
    assert "== unsteady" in said
    assert said.splitlines()[-1] == "3 passed, 0 failed, 0 skipped"


def test_what_fails_twice_fails(run_tests):
    count = run_tests("def test_a(): assert 1 == 2\n\n\ndef test_b(): pass\n")
    assert (numbers(count), count.unsteady) == ((1, 1, 0), [])
    assert "1 == 2" in count.failures[0][1]


def test_more_than_two_unsteady_tests_of_a_run_fail(run_tests):
    tests = "".join(f"def test_{n}(): fails_first('{n}')\n\n\n" for n in "abc")
    assert numbers(run_tests(tests)) == (0, 3, 0)


def test_a_sanitizer_report_of_a_test_that_then_passes_still_fails(suites, run_tests):
    count = run_tests(f"""
def test_a():
    pathlib.Path({str(suites.LOGS)!r}, "s-reports", "report.1").write_text("ERROR: AddressSanitizer")
    fails_first("a")
""")
    assert [name.split(": ")[0] for name, _ in count.failures] == ["s", "s"]


def test_a_suite_that_could_not_start_is_not_tried_again(run_tests):
    count = run_tests("import nothing_of_this_name\n")
    assert numbers(count) == (0, 1, 0)
