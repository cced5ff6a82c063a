"""Fixtures: the real programs, started once per session where tests only use them, and afresh for
each test that breaks or reconfigures something."""

import asyncio
import inspect
import itertools
import os
import pathlib
import re
import shutil
import signal
import tempfile

import pytest

from programs import process
from programs.grafana import double, grafana  # noqa: F401
from programs.grafana_double import grafana_double, new_grafana_double, shared_grafana_double  # noqa: F401
from programs.loki import loki, new_loki, shared_loki  # noqa: F401
from programs.monitoring import pack, tunnelctl  # noqa: F401
from programs.nginx import Nginx
from programs.origin import Origin
from programs.sshd import Sshd
from programs.services import services_of, upstream_to
from programs.tunneld import Tunneld, binary, is_sanitized


# Running a test ---------------------------------------------------------------------------------


def pytest_sessionstart(session):
    # A shell without job control starts what is in the background with SIGINT ignored, which every program that we
    # start would inherit: none of them could be ended by Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not session.config.option.collectonly and not binary().exists():
        raise pytest.UsageError(f"{binary()} is missing: run scripts/build, or set TUNNEL_BIN to the "
                                "folder that holds tunneld")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test may be a coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(autouse=True)
def deadline(request):
    """No test hangs: past its time it fails, and what every program printed is shown."""
    marker = request.node.get_closest_marker("deadline")
    seconds = (marker.args[0] if marker else 60) * patience()

    def too_late(*_):
        raise AssertionError(f"the test took longer than {seconds} s")

    previous = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(int(seconds))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    for program in process.running:
        printed = program.fresh_output() if call.when != "setup" or report.failed else ""
        if report.failed:
            report.sections.append((f"{program.name} (pid {program.pid})", printed))


def patience():
    """By how much sanitizers slow the daemon, so that deadlines tell a hang from a slow build."""
    return 4 if is_sanitized() else 1


# Programs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def workdir():
    """A folder that sshd's unprivileged user can enter; removed at the end unless TUNNEL_KEEP is set."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="tunnel-e2e-"))
    path.chmod(0o755)
    yield path
    for program in list(process.running):  # what a failed set-up left behind
        program.kill()
    if "TUNNEL_KEEP" not in os.environ:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def new_directory(workdir):
    numbers = itertools.count()
    return lambda kind: workdir / f"{kind}-{next(numbers)}"


@pytest.fixture(scope="session")
def origin(new_directory):
    started = Origin(new_directory("origin")).start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def nginx(new_directory):
    server = Nginx(new_directory("nginx"))
    (server.root / "hello.txt").write_text("hello from nginx\n" * 20)
    started = server.start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def sshd(new_directory):
    started = Sshd(new_directory("sshd")).start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def shared_tunneld(new_directory, origin, nginx, sshd):
    tunneld = Tunneld(new_directory("tunneld"), {"upstreams": [upstream_to(sshd, services_of(origin, nginx))]})
    sshd.authorize(tunneld.ssh_key())
    tunneld.start()
    yield tunneld
    tunneld.stop()


@pytest.fixture
def tunneld(shared_tunneld):
    """The shared daemon. A test that uses it must leave it as it was; it must survive every test.

    Should one kill it, that test fails and the next begins with a new process.
    """
    if not shared_tunneld.program.alive():
        shared_tunneld.program.kill()
        shared_tunneld.start()
    program = shared_tunneld.program
    yield shared_tunneld
    assert program.alive(), f"the daemon died with {program.process.poll()}:\n{program.output()[-3000:]}"


@pytest.fixture
def new_tunneld(new_directory, origin, nginx, sshd):
    """Starts a private daemon; keyword arguments are laid over its configuration.

    `via` is the sshd to use, `services` the services behind it; `start=False` only prepares it.
    """
    made = []

    def make(*, via=sshd, services=None, start=True, env=None, upstream=None, open_files=None,
             **configuration):
        entry = upstream_to(via, services or services_of(origin, nginx), **(upstream or {}))
        daemon = Tunneld(new_directory("tunneld"), {"upstreams": [entry], **configuration}, env=env,
                         open_files=open_files)
        made.append(daemon)
        via.authorize(daemon.ssh_key())
        return daemon.start() if start else daemon

    yield make
    failures = []
    for daemon in made:
        try:
            daemon.stop()
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture
def new_sshd(new_directory):
    made = []

    def make(**options):
        made.append(Sshd(new_directory("sshd"), **options))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def new_origin(new_directory):
    made = []

    def make():
        made.append(Origin(new_directory("origin")))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def token(shared_tunneld):
    """alice's, for the shared daemon."""
    return shared_tunneld.token()


@pytest.fixture
def unique(request):
    """A name no other test uses: for request ids and gates."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name[:40]) + os.urandom(4).hex()
