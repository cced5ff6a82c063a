"""The test suites behind scripts/test: what each builds and runs, and how its results are counted.

Every suite ends as a Count. A suite that cannot be built or started, crashes, hangs or runs no test at all
counts as one failed test with the reason, so that silence never looks like success.
"""
import glob
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test"
PYTEST = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
FUZZ_SECONDS = int(os.environ.get("TUNNEL_FUZZ_SECONDS", "10"))

SANITIZERS = {
    "asan": {
        "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:"
                        "check_initialization_order=1:log_path={report}",
        "LSAN_OPTIONS": f"suppressions={ROOT / 'tests' / 'leaks.supp'}:print_suppressions=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:log_path={report}",
        "ASAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-16",
    },
    "tsan": {"TSAN_OPTIONS": f"suppressions={ROOT / 'tests' / 'races.supp'}:print_suppressions=0:"
                             "halt_on_error=1:second_deadlock_stack=1:log_path={report}"},
}


@dataclass
class Count:
    passed: int = 0
    failures: list = field(default_factory=list)  # (test, why)
    skips: list = field(default_factory=list)  # (test, why)
    unsteady: list = field(default_factory=list)  # (test, why it failed the first time): passed, but not at once

    def add(self, other):
        self.passed += other.passed
        self.failures += other.failures
        self.skips += other.skips
        self.unsteady += other.unsteady


def failed(test, why):
    return Count(failures=[(test, why)])


def tail(path, lines=40):
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)


_running = set()  # process groups
_ending = False


def end(*_):
    """On SIGTERM. It may come in the midst of starting a process, so call() looks at _ending once more."""
    global _ending
    _ending = True
    for group in list(_running):
        kill(group)


def kill(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def call(command, log, seconds, env=None):
    """Runs it with its output in `log`; returns what is wrong with how it ended, or None.

    It gets its own process group, so that what it left running ends with it.
    """
    if _ending:
        sys.exit(143)
    with open(log, "ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
                                   start_new_session=True)
        _running.add(process.pid)
        try:
            status = process.wait(0 if _ending else seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            kill(process.pid)
            process.wait()
            _running.discard(process.pid)
    if _ending:
        sys.exit(143)
    if status is None:
        return f"not done after {seconds} s"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else None


def fresh(name):
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    log.write_bytes(b"")
    return log


_built = {}


def build(preset, *targets):
    """None, or why the preset (or these targets of it) cannot be tested. Each is built once a run."""
    what = (preset, *targets)
    if what not in _built:
        log = fresh(f"build-{preset}")
        started = time.monotonic()
        wrong = call(["scripts/build", *what], log, 45 * 60)
        print(f"   {' '.join(what)} {'not built' if wrong else 'built'} in {time.monotonic() - started:.0f} s", flush=True)
        _built[what] = wrong and f"{preset} does not build ({wrong}):\n{tail(log)}"
    return _built[what]


def skip_reason(text):
    """gtest prints `file:line: Skipped`, then the reason."""
    lines = (text or "").splitlines()
    for number, line in enumerate(lines):
        if line.endswith("Skipped") and number + 1 < len(lines):
            return lines[number + 1].strip() or "no reason given"
    return None


def read_junit(path, prefix):
    count = Count()
    for case in ElementTree.parse(path).iter("testcase"):
        name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
        if case.get("classname") == case.get("name"):
            name = case.get("name")
        name = f"{prefix}: {name}"
        broken = case.find("failure") if case.find("failure") is not None else case.find("error")
        skip = case.find("skipped")
        said = case.findtext("system-out") or ""
        if broken is not None:
            why = "\n".join(filter(None, [broken.get("message"), (broken.text or "").strip() or said]))
            count.failures.append((name, "\n".join(why.splitlines()[-40:])))
        elif skip is not None:
            count.skips.append((name, skip_reason(said) or skip.get("message") or "no reason given"))
        else:
            count.passed += 1
    return count


def counted(name, command, seconds, junit, log, env=None):
    """Runs a test runner that writes JUnit XML, and trusts neither its status nor its report alone."""
    junit.unlink(missing_ok=True)
    wrong = call(command, log, seconds, env)
    try:
        count = read_junit(junit, name)
    except (OSError, ElementTree.ParseError):
        return failed(name, f"no test report ({wrong or 'exit status 0'}):\n{tail(log)}")
    if wrong and not count.failures:
        count.add(failed(name, f"{wrong}, though no test failed:\n{tail(log)}"))
    if not wrong and not (count.passed or count.failures or count.skips):
        count.add(failed(name, "ran no test"))
    return count


def sanitized(preset, name):
    """Environment for the preset's programs, and the folder where a sanitizer leaves its report."""
    folder = LOGS / f"{name}-reports"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    env = {key: value.format(report=folder / "report") for key, value in SANITIZERS.get(preset, {}).items()}
    env["TUNNEL_BIN"] = str(ROOT / "build" / preset / "bin")
    return env, folder


def reports(folder, name):
    """A report fails the suite even if the program that made it was one a test did not watch."""
    found = sorted(folder.iterdir())
    texts = ["\n".join(path.read_text(errors="replace").splitlines()[:40]) for path in found[:3]]
    return failed(f"{name}: {len(found)} sanitizer report(s) in {folder.relative_to(ROOT)}", "\n".join(texts)) \
        if found else Count()


def tsan_prefix(preset):
    """g++ 12's TSan cannot place its shadow memory where the kernel spreads mappings over more than 30 bits."""
    try:
        bits = int(Path("/proc/sys/vm/mmap_rnd_bits").read_text())
    except (OSError, ValueError):
        return []
    return ["setarch", "-R"] if preset == "tsan" and bits > 30 else []


def unit(preset):
    def run(name):
        wrong = build(preset)
        if wrong:
            return failed(name, wrong)
        for old in (ROOT / "build" / preset).glob("profiles/*"):  # counts of earlier runs, and of an earlier build
            old.unlink()
        env, folder = sanitized(preset, name)
        junit = LOGS / f"{name}.xml"
        count = counted(name, tsan_prefix(preset) + ["ctest", "--test-dir", f"build/{preset}", "-j2",
                        "--output-on-failure", "--no-tests=error", "--output-junit", str(junit)],
                        10 * 60, junit, fresh(name), env)
        count.add(reports(folder, name))
        return count
    return run


UNSTEADY = 2  # tests that may fail the first time, in a whole run
_again = 0  # tests run a second time


def once_more(count, name, command, folders, env):
    """Runs the few tests that failed beside others once more, each with the machine to itself.

    Thousands of tests with real programs on a busy machine: one that waits too short a time for another process
    must be mended, and is shown with what it said, but says nothing about the change under test. What fails twice,
    fails; so does a third such test of a run, and whatever a sanitizer has reported.
    """
    global _again
    if not count.failures or _again + len(count.failures) > UNSTEADY:
        return
    failures, count.failures = count.failures, []
    for number, (test, why) in enumerate(failures):
        _again += 1
        module, _, case = test.removeprefix(f"{name}: ").partition("::")
        paths = [path for folder in folders.split() for path in (ROOT / folder).glob(f"**/{module.split('.')[-1]}.py")]
        if not case or len(paths) != 1:  # not a test that can be named: a suite that did not start, or a collection error
            count.failures.append((test, why))
            continue
        junit = LOGS / f"{name}-again-{number}.xml"
        again = counted(name, [*command, f"--junitxml={junit}", f"{paths[0].relative_to(ROOT)}::{case}"], 5 * 60, junit,
                        fresh(f"{name}-again-{number}"), env)
        if again.passed == 1 and not again.failures:
            count.passed += 1
            count.unsteady.append((test, why))
        else:
            count.failures.append((test, why))


PROGRAMS = ("tunneld", "tunnelctl")
SHARED = ("common", "tunnel", "edge", "link")  # rooms of both


def pytest(folders, preset=None, workers=4, only=None, seconds=30 * 60):
    def run(name):
        # The TSan build leaves one of the programs out; it and the others need their unit tests anyway.
        wrong = build(preset, *(PROGRAMS if preset == "release" else ())) if preset else None
        if wrong:
            return failed(name, wrong)
        for folder in folders.split():
            if not (ROOT / folder).is_dir():
                return failed(name, f"there is no {folder}")
        env, reports_folder = sanitized(preset or "release", name)
        junit = LOGS / f"{name}.xml"
        command = tsan_prefix(preset) + PYTEST
        chosen = ["-n", str(workers), f"--junitxml={junit}", *folders.split(), *(["-m", only] if only else [])]
        count = counted(name, command + chosen, seconds, junit, fresh(name), env)
        reported = reports(reports_folder, name)
        if not reported.failures:
            once_more(count, name, command, folders, env)
            reported = reports(reports_folder, name)
        count.add(reported)
        return count
    return run


# What decides about users must have been seen deciding both ways.
DECISIONS = ["tunneld/access/rate_limits", "tunneld/access/penalty_box", "tunneld/access/circuit_breakers",
             "tunneld/access/connection_quotas", "tunnel/client_address", "tunneld/access/revocations",
             "tunnel/fair_queue", "tunnel/flow_level", "tunnel/queue_ledger"]
LEAST_LINES, LEAST_BRANCHES = 80, 90  # per cent
_ran = set()  # suites


def coverage(name):
    """How much of the code the suites asan and asan-e2e have reached; they must have run before it."""
    if not {"asan", "asan-e2e"} <= _ran:
        return failed(name, "it judges what was counted: run scripts/test asan asan-e2e coverage")
    programs = sorted(path for path in (ROOT / "build/asan/bin").iterdir()
                      if path.name in PROGRAMS or path.name.startswith("test_"))
    counts = sorted((ROOT / "build/asan/profiles").glob("*.profraw"))
    merged = LOGS / "coverage.profdata"
    log = fresh(name)
    wrong = call(["llvm-profdata-16", "merge", "-o", str(merged), *map(str, counts)], log, 5 * 60)
    if wrong:
        return failed(name, f"llvm-profdata-16: {wrong}:\n{tail(log)}")
    told = subprocess.run(["llvm-cov-16", "export", "-summary-only", "-instr-profile", str(merged), str(programs[0]),
                           *(f"-object={path}" for path in programs[1:]), *(str(ROOT / part) for part in
                           SHARED + PROGRAMS)], capture_output=True, text=True, timeout=10 * 60)
    if told.returncode:
        return failed(name, f"llvm-cov-16: exit status {told.returncode}:\n{told.stderr[-2000:]}")
    files = {str(Path(one["filename"]).relative_to(ROOT)): one["summary"]
             for one in json.loads(told.stdout)["data"][0]["files"]}
    (LOGS / "coverage.txt").write_text("".join(
        f"{path} " + " ".join(f"{kind} {one[kind]['covered']}/{one[kind]['count']}" for kind in ("lines", "branches")) + "\n"
        for path, one in sorted(files.items())))
    count = Count()

    def gate(title, kind, least, chosen):
        total = sum(files[path][kind]["count"] for path in chosen)
        share = 100 * sum(files[path][kind]["covered"] for path in chosen) / total if total else 0
        print(f"   {share:.1f} % of the {kind} of {title}", flush=True)
        if share >= least:
            count.passed += 1
            return
        missed = sorted(chosen, key=lambda path: files[path][kind]["covered"] - files[path][kind]["count"])[:15]
        rows = [f"{path}: {files[path][kind]['covered']} of {files[path][kind]['count']}" for path in missed]
        count.add(failed(f"{name}: {title}", f"{share:.1f} % of the {kind}, {least} % are wanted\n" + "\n".join(rows)))

    for program in PROGRAMS:
        gate(program, "lines", LEAST_LINES, [path for path in files if path.split("/")[0] in (program, *SHARED)])
    gate("what decides", "branches", LEAST_BRANCHES, [path for path in files if path.rsplit(".", 1)[0] in DECISIONS])
    return count


def fuzz(name):
    """Each target for a bounded time, from its seed corpus; what it finds stays in build/fuzz/found/."""
    targets = sorted(ROOT.glob("tests/fuzz/*_fuzz.cpp"))
    if not targets:
        return failed(name, "there is no tests/fuzz/*_fuzz.cpp")
    wrong = build("asan")
    if wrong:
        return failed(name, wrong)
    found = ROOT / "build" / "fuzz" / "found"
    found.mkdir(parents=True, exist_ok=True)

    def one(target):
        title = f"{name}: {target.stem}"
        log = fresh(f"{name}-{target.stem}")
        grown = ROOT / "build" / "fuzz" / "corpus" / target.stem
        grown.mkdir(parents=True, exist_ok=True)
        seeds = ROOT / "tests" / "fuzz" / "corpus" / target.stem
        wrong = call([f"build/asan/bin/{target.stem}", f"-max_total_time={FUZZ_SECONDS}", "-timeout=10",
                      "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={found}/{target.stem}-",
                      str(grown)] + ([str(seeds)] if seeds.is_dir() else []), log, FUZZ_SECONDS + 120)
        return failed(title, f"{wrong}:\n{tail(log)}") if wrong else Count(passed=1)

    count = Count()
    with ThreadPoolExecutor(max_workers=2) as pool:
        for result in pool.map(one, targets):
            count.add(result)
    return count


def tracked(*patterns):
    """The project's files, also those not committed yet."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
                            cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return sorted(path for path in set(listed.stdout.splitlines()) if (ROOT / path).is_file())
    return sorted(path for pattern in patterns for path in glob.glob(f"**/{pattern}", root_dir=ROOT, recursive=True)
                  if not path.startswith("build/"))


def check_format(name):
    files = tracked("*.cpp", "*.h", "*.c")
    if not files:
        return failed(name, "found no source file")
    log = fresh(name)
    wrong = call(["clang-format-16", "--dry-run", "-Werror", *files], log, 5 * 60)
    if not wrong:
        return Count(passed=1)
    bad = sorted({line.split(":")[0] for line in log.read_text(errors="replace").splitlines() if ": error: " in line})
    return failed(name, f"clang-format-16 -i {' '.join(bad)}" if bad else f"{wrong}:\n{tail(log)}")


def check_syntax(name):
    log = fresh(name)
    bad, seen = [], 0
    for path in tracked("scripts/*", ".ci/*", "*.sh", "*.bash", "*.py"):
        first = (ROOT / path).read_bytes()[:80].split(b"\n")[0]
        if path.endswith(".py"):
            command = ["/usr/bin/python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])", path]
        elif first.startswith(b"#!") and first.endswith(b"sh"):
            command = ["bash", "-n", path]
        else:
            continue
        seen += 1
        if call(command, log, 60):
            bad.append(path)
    if bad or not seen:
        return failed(name, f"{' '.join(bad)}\n{tail(log)}" if bad else "found no script")
    return Count(passed=1)


# In this order: the cheap first, so that a broken tree is known early.
SUITES = {
    "format": ("clang-format", check_format),
    "syntax": ("shell and Python syntax", check_syntax),
    "unit": ("unit tests, release", unit("release")),
    "scripts": ("scripts, and what the documents promise", pytest("tests/scripts tests/artifacts", preset="release")),
    "e2e": ("end to end, release", pytest("tests/e2e", preset="release")),
    "asan": ("unit tests under ASan and UBSan", unit("asan")),
    "asan-e2e": ("short end to end under ASan and UBSan", pytest("tests/e2e", preset="asan", only="short or short_client")),
    "coverage": ("how much of the code asan and asan-e2e reached", coverage),
    "tsan": ("unit tests under TSan", unit("tsan")),
    "tsan-e2e": ("short end to end under TSan", pytest("tests/e2e", preset="tsan", only="short")),
    "fuzz": ("fuzz targets, a short run each", fuzz),
    "e2e-short": ("short end to end, release", pytest("tests/e2e", preset="release", only="short or short_client")),
}
# The unit tests run under the sanitizers.
EVERYTHING = [name for name in SUITES if name not in ("unit", "e2e-short")]
QUICK = ["format", "syntax", "unit", "scripts", "e2e-short"]


def main(arguments):
    if arguments == ["--list"]:
        for name, (title, _) in SUITES.items():
            print(f"{name:10} {title}")
        return 0
    names = QUICK if arguments == ["--quick"] else arguments or EVERYTHING
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        print(f"test: no suite {' '.join(unknown)}; there are: {' '.join(SUITES)}", file=sys.stderr)
        return 2

    total = Count()
    for name in names:
        title, run = SUITES[name]
        print(f"\n== {name}: {title}", flush=True)
        started = time.monotonic()
        try:
            count = run(name)
        except Exception as error:  # a broken suite is a failed one
            count = failed(name, f"{type(error).__name__}: {error}")
        for test, why in count.failures:
            print(f"   FAILED {test}")
            print("\n".join(f"      {line}" for line in why.splitlines()))
        for test, why in count.unsteady:
            print(f"   UNSTEADY {test}: failed beside others, passed alone; it said:")
            print("\n".join(f"      {line}" for line in why.splitlines()))
        print(f"   {count.passed} passed, {len(count.failures)} failed, {len(count.skips)} skipped "
              f"in {time.monotonic() - started:.0f} s", flush=True)
        total.add(count)
        _ran.add(name)

    if total.failures:
        print("\n== failed")
        for test, why in total.failures:
            print(f"   {test}")
    if total.unsteady:
        print("\n== unsteady: failed beside others and passed alone; to be mended")
        for test, _ in total.unsteady:
            print(f"   {test}")
    if total.skips:
        print("\n== skipped")
        for test, why in total.skips:
            print(f"   {test}: {why}")
    print(f"\n{total.passed} passed, {len(total.failures)} failed, {len(total.skips)} skipped")
    return 1 if total.failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    sys.exit(main(sys.argv[1:]))
