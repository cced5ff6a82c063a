"""Processes of one run: started so that none outlives it, and what the kernel says they used."""

import ctypes
import json
import os
import pwd
import resource
import select
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)


class Failed(Exception):
    """A process did not do what it was started for; the text names it and its last words."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _before_exec():
    # The child ends when this script does, even by SIGKILL. Set after the change of user, which clears it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Processes:
    """Everything that was started and not stopped yet."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []
        # Grandchildren whose parent ends become ours: not every machine's first process collects them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self, name, command, user=None, env=None, stdin=subprocess.DEVNULL, stdout=None):
        log = open(os.path.join(self.folder, name.replace(":", "-") + ".log"), "ab")
        extra = {}
        if user is not None and os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            extra = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        process = subprocess.Popen(
            [str(word) for word in command], stdin=stdin, stdout=stdout or log, stderr=log,
            cwd=self.folder, env={**os.environ, **(env or {})}, start_new_session=True,
            preexec_fn=_before_exec, **extra)
        process.name, process.log = name, log.name
        log.close()
        self.running.append(process)
        return process

    def stop(self, process):
        if process not in self.running:
            return
        # sshd's children survive their listener, so the tree is noted down while it still is one.
        family = tree(process.pid)
        _signal(family, signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass
        deadline = time.monotonic() + 3
        while any(_alive(pid) for pid in family) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.02)
        _signal([pid for pid in family if _alive(pid)], signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
        self.running.remove(process)

    def stop_all(self):
        for process in reversed(list(self.running)):
            self.stop(process)

    def reap_orphans(self):
        """After stop_all()."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def _signal(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _alive(pid):
    fields = _stat(pid)
    return fields is not None and fields[0] != "Z"


def _stat(pid):
    """Fields of /proc/PID/stat from the state on (index 0 is field 3 of proc(5)), None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(*roots):
    """The pids of these processes and all their descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(entry)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], list(roots)
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def cpu_seconds(*roots):
    """User and system time of the trees, ended and reaped descendants included."""
    ticks = 0
    for pid in tree(*roots):
        fields = _stat(pid)
        if fields:
            ticks += sum(int(value) for value in fields[11:15])
    return ticks / TICKS


def memory(*roots):
    """(RSS, PSS) of the trees in bytes."""
    rss = pss = 0
    for pid in tree(*roots):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                for line in file:
                    if line.startswith("Rss:"):
                        rss += int(line.split()[1]) * 1024
                    elif line.startswith("Pss:"):
                        pss += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            pass
    return rss, pss


def machine_busy_seconds():
    """CPU seconds of all processes of the machine since it started."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def last_words(process, count=5):
    with open(process.log, errors="replace") as file:
        return " | ".join(line.strip() for line in file.readlines()[-count:])


def read_json_line(process, seconds=20):
    """The first line a process prints, as JSON. The pipe must be its stdout."""
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    line = process.stdout.readline() if ready else b""
    if not line.strip():
        raise Failed(f"{process.name} said nothing: {last_words(process)}")
    return json.loads(line)


def wait_for(what, holds, seconds=20, process=None):
    deadline = time.monotonic() + seconds
    while not holds():
        if process and process.poll() is not None:
            raise Failed(f"{process.name} ended with {process.returncode}: {last_words(process)}")
        if time.monotonic() > deadline:
            raise Failed(f"no {what} within {seconds} s" +
                         (f": {last_words(process)}" if process else ""))
        time.sleep(0.02)


def listening(port, host="127.0.0.1"):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def own_network():
    """Moves this process and what it starts into a network of its own, with loopback only. None, or why not."""
    clone_newnet = 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(clone_newnet) != 0:
        return f"a network namespace: {os.strerror(ctypes.get_errno())} (root may)"
    if subprocess.run(["ip", "link", "set", "lo", "up"], capture_output=True).returncode != 0:
        return "no ip command that sets loopback up in a network namespace"
    return None


def run(command, **options):
    """A short-lived command; its standard output. Raises Failed with its error text."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=180, **options)
    if done.returncode != 0:
        raise Failed(f"{os.path.basename(str(command[0]))} {done.returncode}: "
                     f"{(done.stderr.strip() or done.stdout.strip())[-300:]}")
    return done.stdout
