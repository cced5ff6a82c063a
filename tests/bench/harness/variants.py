"""The ways to the target that are compared: how each is started and where its near end is.

Every variant has `endpoint(service)` for the services sink, source and echo, `http_url()`, and `roles`:
the processes whose CPU and memory count as its client and as its daemon. The sshd is shared and is
counted by itself.
"""

import json
import os
import pwd
import shutil
import subprocess

from .processes import Failed, free_port, listening, read_json_line, run, wait_for

CIPHER = "aes256-gcm@openssh.com"
KEX = "curve25519-sha256"
SERVICES = ("sink", "source", "echo", "http")


class Site:
    """What all variants share: target, sshd, keys, a small CA."""

    def __init__(self, processes, folder, binaries, delay_ms=0):
        """`delay_ms`, one way: between callers and daemons, in a network namespace (bench_delay)."""
        self.processes, self.folder, self.bin = processes, folder, binaries
        self.delay_ms = delay_ms
        # Where daemons listen, and where callers reach them from the path's other end.
        self.here = self.there = "127.0.0.1"
        # sshd runs without privilege. root would need its privilege separation and another login path,
        # so root borrows the account that every Debian has.
        self.user = "www-data" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self):
        if self.delay_ms:
            line = self.processes.start("delay", [self.bin / "bench_delay", "--milliseconds", self.delay_ms],
                                        stdout=subprocess.PIPE)
            path = read_json_line(line)
            self.here, self.there = path["here"], path["there"]
        target = self.processes.start(
            "target", [self.bin / "bench_load", "serve", *(["--everywhere"] if self.delay_ms else [])],
            stdout=subprocess.PIPE)
        self.ports = read_json_line(target)
        self.target = target
        self._make_keys()
        self._start_sshd()

    def _make_keys(self):
        for name in ("host_key", "client_key"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(name)])
        ca = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
              "-nodes", "-days", "2", "-subj", "/CN=bench CA", "-keyout", self.path("ca.key"),
              "-out", self.path("ca.pem")]
        leaf = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-subj", "/CN=localhost", "-keyout", self.path("tls.key"), "-out", self.path("tls.csr")]
        with open(self.path("tls.ext"), "w") as file:
            names = ",".join(f"IP:{address}" for address in {"127.0.0.1", self.here, self.there})
            file.write(f"subjectAltName={names},DNS:localhost\nbasicConstraints=CA:FALSE\n")
        sign = ["openssl", "x509", "-req", "-days", "2", "-in", self.path("tls.csr"),
                "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"), "-CAcreateserial",
                "-extfile", self.path("tls.ext"), "-out", self.path("tls.pem")]
        for command in (ca, leaf, sign):
            run(command)

    def allow_key(self, line):
        with open(self.path("authorized_keys"), "a") as file:
            file.write(line.strip() + "\n")

    def _start_sshd(self):
        self.ssh_port = free_port()
        with open(self.path("client_key.pub")) as file:
            self.allow_key(file.read())
        permitted = " ".join(f"127.0.0.1:{port}" for port in self.ports.values())
        with open(self.path("sshd_config"), "w") as file:
            file.write(f"""\
ListenAddress 127.0.0.1:{self.ssh_port}
HostKey {self.path('host_key')}
AuthorizedKeysFile {self.path('authorized_keys')}
StrictModes no
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthenticationMethods publickey
AllowTcpForwarding local
PermitOpen {permitted}
PermitListen none
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTTY no
PermitTunnel no
ForceCommand /bin/false
PermitUserRC no
KexAlgorithms {KEX}
Ciphers {CIPHER}
MaxSessions 10000
MaxStartups 10000
PerSourceMaxStartups none
ClientAliveInterval 30
""")
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            os.chown(self.path("host_key"), entry.pw_uid, entry.pw_gid)
            os.chmod(self.path("authorized_keys"), 0o644)
            os.chmod(self.path("sshd_config"), 0o644)
        self.sshd = self.processes.start(
            "sshd", [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", self.path("sshd_config")],
            user=self.user)
        wait_for("sshd", lambda: listening(self.ssh_port), process=self.sshd)
        with open(self.path("host_key.pub")) as file:
            self.host_key = " ".join(file.read().split()[:2])

    def host_key_fingerprint(self):
        return run(["ssh-keygen", "-l", "-f", self.path("host_key.pub")]).split()[1]

    def start_ssh(self, name, through_port):
        """`ssh -L` for all services to the sshd, reached by a local port. -> process, local ports."""
        known_hosts = self.path(f"known_hosts_{through_port}")
        with open(known_hosts, "w") as file:
            file.write(f"[127.0.0.1]:{through_port} {self.host_key}\n")
        local = {service: free_port() for service in SERVICES}
        command = ["ssh", "-F", "none", "-N", "-i", self.path("client_key"), "-p", str(through_port)]
        for option in ("BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={known_hosts}",
                       "StrictHostKeyChecking=yes", f"Ciphers={CIPHER}", f"KexAlgorithms={KEX}",
                       "Compression=no", "ExitOnForwardFailure=yes", "ServerAliveInterval=30"):
            command += ["-o", option]
        for service in SERVICES:
            command += ["-L", f"127.0.0.1:{local[service]}:127.0.0.1:{self.ports[service]}"]
        process = self.processes.start(name, command + [f"{self.user}@127.0.0.1"])
        wait_for("ssh -L", lambda: listening(local["http"]), process=process)
        return process, local


class Variant:
    name = ""
    why_absent = None
    http_door = False
    most_streams = 1_000_000
    client_arguments = ()  # for bench_load: token, CA

    def __init__(self, site):
        self.site = site
        self.roles = {}
        self.local = {}

    def endpoint(self, service):
        return f"tcp:127.0.0.1:{self.local[service]}"

    def http_url(self):
        return f"http://127.0.0.1:{self.local['http']}/"

    def stop(self):
        for processes in self.roles.values():
            for process in reversed(processes):
                self.site.processes.stop(process)
        self.roles = {}


class Direct(Variant):
    name = "direct"

    def start(self):
        self.local = self.site.ports

    def endpoint(self, service):
        return f"tcp:{self.site.there}:{self.local[service]}"

    def http_url(self):
        return f"http://{self.site.there}:{self.local['http']}/"


class Ssh(Variant):
    name = "ssh -L"

    def start(self):
        process, self.local = self.site.start_ssh("ssh", self.site.ssh_port)
        self.roles = {"client": [process]}


class Tunneld(Variant):
    """tunneld's own doors; the load tool itself speaks WebSocket and HTTP with a token."""

    def __init__(self, site, tls, bridge, program=None):
        super().__init__(site)
        self.tls, self.bridge, self.http_door = tls, bridge, not bridge
        self.program = program or site.bin / "tunneld"
        self.name = ("earlier:" if program else "tunneld:") + ("tls" if tls else "clear") + ("" if bridge else "-door")
        self.state = site.path(self.name.replace(":", "-") + "-state")
        self.prepared = False
        if not self.program.exists():
            self.why_absent = f"no {self.program}"

    def _write_config(self):
        """The one place that knows the daemon's keys."""
        ports = {name: free_port() for name in ("tls", "clear", "admin")}
        config = {
            "listen": [f"{self.site.here}:{ports['tls']}"],
            "plaintext_listen": [f"127.0.0.1:{ports['clear']}"],
            "admin_listen": f"127.0.0.1:{ports['admin']}",
            "state_dir": self.state,
            # 1000 streams of one principal need 100 sessions of 10 channels on one thread at worst.
            "ssh": {"max_channels": 10, "max_sessions": 200},
            # One user and one address send everything: limits would be measured, not the tunnel.
            "tiers": {"enterprise": {"requests_per_minute": 0, "connections": 10_000}},
            # 256 connections arrive at once, before any of them has shown its token.
            "limits": {"max_unauthenticated": 2048, "global_requests_per_minute": 0,
                       "address": {"requests_per_minute": 0, "handshakes_per_minute": 0}},
            "log": {"level": "WARN"},
            "upstreams": self._upstreams(),
        }
        if "`tiers." not in run([self.program, "config-reference"]):  # an earlier one, which has no such limits
            config.pop("tiers")
            config["limits"] = {"max_unauthenticated": 2048}
        self.ca_file = os.path.join(self.state, "tls.crt")
        if self.site.delay_ms:  # its own certificate is for loopback
            config["tls"] = {"certificate_file": self.site.path("tls.pem"), "key_file": self.site.path("tls.key")}
            self.ca_file = self.site.path("ca.pem")
        self.config = self.site.path(self.name.replace(":", "-") + ".yaml")
        with open(self.config, "w") as file:
            json.dump(config, file, indent=1)  # JSON is YAML
        self.door = f"{self.site.there}:{ports['tls' if self.tls else 'clear']}"
        self.near_door = f"{self.site.here}:{ports['tls' if self.tls else 'clear']}"
        self.door_port = ports["tls" if self.tls else "clear"]

    def _upstreams(self):
        return [{
            "name": "lab", "address": f"127.0.0.1:{self.site.ssh_port}", "user": self.site.user,
            "host_key_fingerprint": self.site.host_key_fingerprint(),
            "services": [{"name": name, "target": f"127.0.0.1:{port}", "allow": ["*"]}
                         for name, port in self.site.ports.items()],
        }]

    def start(self):
        tunneld = self.program
        os.makedirs(self.state, mode=0o700, exist_ok=True)
        self._write_config()
        if not self.prepared:
            self.site.allow_key(run([tunneld, "ssh-key", "--config", self.config]))
            self.prepared = True
        token = run([tunneld, "token", "create", "--config", self.config, "--subject", "bench",
                     "--tier", "enterprise", "--expires", "12h"])
        token_file = os.path.join(self.state, "bench.token")
        with open(os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(token.strip() + "\n")
        daemon = self.site.processes.start(self.name, [tunneld, "serve", "--config", self.config])
        self.roles = {"daemon": [daemon]}
        wait_for("tunneld", lambda: listening(self.door_port, self.site.here), process=daemon)
        self.client_arguments = ["--token-file", token_file]
        if self.tls:
            self.client_arguments += ["--ca-file", self.ca_file]
        if self.bridge:
            self._start_client()
            self.shown = self.client_arguments
            self.client_arguments = ()

    def _start_client(self):
        process = self.site.processes.start(
            self.name + ":client",
            [self.site.bin / "bench_bridge", *self.client_arguments,
             *(f"0={self._websocket(service)}" for service in SERVICES)], stdout=subprocess.PIPE)
        self.roles["client"] = [process]
        self.local = dict(zip(SERVICES, read_json_line(process)["ports"]))

    def _websocket(self, service):
        return f"{'wss' if self.tls else 'ws'}://{self.door}/ws/{service}"

    def endpoint(self, service):
        return super().endpoint(service) if self.bridge else self._websocket(service)

    def http_url(self):
        return super().http_url() if self.bridge else \
            f"{'https' if self.tls else 'http'}://{self.door}/t/http/"


class Connect(Tunneld):
    """`tunnelctl connect`: many streams on one WebSocket, which comes back after a cut."""

    def __init__(self, site):
        super().__init__(site, tls=True, bridge=True)
        self.name = "connect:tls"
        self.state = site.path("connect-state")
        if not (site.bin / "tunnelctl").exists():
            self.why_absent = f"no {site.bin / 'tunnelctl'}"

    def _start_client(self):
        self.local = {service: free_port() for service in SERVICES}
        process = self._client(self.name + ":client", self.client_arguments, self.door, self.local)
        self.roles["client"] = [process]
        wait_for("tunnelctl connect", lambda: listening(self.local["http"]), process=process)

    def _client(self, name, shown, door, ports):
        return self.site.processes.start(
            name, [self.site.bin / "tunnelctl", *shown, "connect", "--server", f"wss://{door}",
                   *(word for service, port in ports.items() for word in ("-L", f"{port}:{service}"))])

    def another_client(self, near, port):
        """One more, for its start to be measured: over the path, or without it."""
        return self._client(self.name + ":another", self.shown, self.near_door if near else self.door,
                            {"echo": port})


class Agent(Tunneld):
    """The services are behind a `tunnelctl agent`, which dialled out; callers come as to `tunneld:tls`. The
    agent counts as the client; the `sshd -i` that it runs count with it."""

    most_streams = 640  # 64 sessions of ten channels

    def __init__(self, site):
        super().__init__(site, tls=True, bridge=True)
        self.name = "agent:tls"
        self.state = site.path("agent-state")
        if not (site.bin / "tunnelctl").exists():
            self.why_absent = f"no {site.bin / 'tunnelctl'}"

    def _upstreams(self):
        return []

    def _start_client(self):
        home = self.site.path("agent-home")
        os.makedirs(home, mode=0o700, exist_ok=True)
        for file in (self.client_arguments[1], self.client_arguments[3]):
            shutil.copy(file, home)
        if os.geteuid() == 0:
            for path in (home, *(os.path.join(home, name) for name in os.listdir(home))):
                shutil.chown(path, self.site.user)
        token, ca = (os.path.join(home, os.path.basename(self.client_arguments[at])) for at in (1, 3))
        agent = self.site.processes.start(
            self.name + ":agent",
            [self.site.bin / "tunnelctl", "--token-file", token, "--ca-file", ca, "agent",
             "--server", f"wss://{self.door}", "--id", "bench", "--state-dir", os.path.join(home, "keys"),
             *(word for service, port in self.site.ports.items()
               for word in ("--service", f"{service}=127.0.0.1:{port}"))],
            user=self.site.user, env={"HOME": home})
        super()._start_client()
        self.roles["client"].append(agent)

        def announced():
            with open(agent.log) as file:
                return "connected" in file.read()
        wait_for("tunnelctl agent", announced, process=agent)


class Chisel(Variant):
    def __init__(self, site, tls):
        super().__init__(site)
        self.tls = tls
        self.name = "chisel:" + ("tls" if tls else "clear")
        if not shutil.which("chisel"):
            self.why_absent = "no chisel on PATH"

    def start(self):
        port = free_port()
        auth = {"AUTH": "bench:only-on-loopback"}
        command = ["chisel", "server", "--host", self.site.here, "--port", port]
        if self.tls:
            command += ["--tls-cert", self.site.path("tls.pem"), "--tls-key", self.site.path("tls.key")]
        server = self.site.processes.start(self.name, command, env=auth)
        self.roles = {"daemon": [server]}
        wait_for("chisel server", lambda: listening(port, self.site.here), process=server)

        def fingerprint():
            with open(server.log) as file:
                found = [line.split("Fingerprint ")[1].split()[0] for line in file if "Fingerprint " in line]
            return found[-1] if found else None
        wait_for("fingerprint of the chisel server", fingerprint, process=server)
        self.local = {service: free_port() for service in SERVICES}
        self.port, self.fingerprint = port, fingerprint()
        client = self._client(self.name + ":client", self.site.there, self.local)
        self.roles["client"] = [client]
        wait_for("chisel client", lambda: listening(self.local["http"]), process=client)

    def _client(self, name, host, ports):
        command = ["chisel", "client", "--fingerprint", self.fingerprint]
        if self.tls:
            command += ["--tls-ca", self.site.path("ca.pem")]
        command += [f"{'https' if self.tls else 'http'}://{host}:{self.port}"]
        command += [f"127.0.0.1:{port}:127.0.0.1:{self.site.ports[service]}" for service, port in ports.items()]
        return self.site.processes.start(name, command, env={"AUTH": "bench:only-on-loopback"})

    def another_client(self, near, port):
        return self._client(self.name + ":another", self.site.here if near else self.site.there, {"echo": port})


class WstunnelSsh(Variant):
    """The same work as tunneld's from stock programs: WebSocket in TLS, and SSH to the same sshd in it."""
    name = "wstunnel+ssh:tls"

    def __init__(self, site):
        super().__init__(site)
        if not shutil.which("wstunnel"):
            self.why_absent = "no wstunnel on PATH"

    def start(self):
        port, entry = free_port(), free_port()
        server = self.site.processes.start("wstunnel", [
            "wstunnel", "server", "--log-lvl", "WARN", "--restrict-to", f"127.0.0.1:{self.site.ssh_port}",
            "--tls-certificate", self.site.path("tls.pem"), "--tls-private-key", self.site.path("tls.key"),
            f"wss://127.0.0.1:{port}"])
        self.roles = {"daemon": [server]}
        wait_for("wstunnel server", lambda: listening(port), process=server)
        client = self.site.processes.start("wstunnel:client", [
            "wstunnel", "client", "--log-lvl", "WARN", "--tls-verify-certificate",
            "-L", f"tcp://127.0.0.1:{entry}:127.0.0.1:{self.site.ssh_port}",
            f"wss://127.0.0.1:{port}"], env={"SSL_CERT_FILE": self.site.path("ca.pem")})
        self.roles["client"] = [client]
        wait_for("wstunnel client", lambda: listening(entry), process=client)
        ssh, self.local = self.site.start_ssh("wstunnel:ssh", entry)
        self.roles["client"].append(ssh)


class Frp(Variant):
    """A reverse tunnel: the far side dials out. WebSocket in TLS, as frp has no SSH."""
    name = "frp:tls"

    def __init__(self, site):
        super().__init__(site)
        if not (shutil.which("frps") and shutil.which("frpc")):
            self.why_absent = "no frps and frpc on PATH"

    def start(self):
        port = free_port()
        self.local = {service: free_port() for service in SERVICES}
        with open(self.site.path("frps.toml"), "w") as file:
            file.write(f'bindAddr = "127.0.0.1"\nbindPort = {port}\nproxyBindAddr = "127.0.0.1"\n'
                       f'transport.tls.force = true\n'
                       f'transport.tls.certFile = "{self.site.path("tls.pem")}"\n'
                       f'transport.tls.keyFile = "{self.site.path("tls.key")}"\n')
        with open(self.site.path("frpc.toml"), "w") as file:
            file.write(f'serverAddr = "127.0.0.1"\nserverPort = {port}\n'
                       f'transport.protocol = "websocket"\ntransport.tls.enable = true\n'
                       f'transport.tls.trustedCaFile = "{self.site.path("ca.pem")}"\n')
            for service in SERVICES:
                file.write(f'\n[[proxies]]\nname = "{service}"\ntype = "tcp"\nlocalIP = "127.0.0.1"\n'
                           f'localPort = {self.site.ports[service]}\nremotePort = {self.local[service]}\n')
        server = self.site.processes.start("frps", ["frps", "-c", self.site.path("frps.toml")])
        self.roles = {"daemon": [server]}
        wait_for("frps", lambda: listening(port), process=server)
        client = self.site.processes.start("frpc", ["frpc", "-c", self.site.path("frpc.toml")])
        self.roles["client"] = [client]
        wait_for("frpc", lambda: listening(self.local["http"]), process=client)


def all_variants(site, earlier=None):
    """`earlier`: another tunneld, to compare with."""
    if site.delay_ms:  # those that know both ends of the path
        return [Direct(site), Connect(site), Chisel(site, tls=True)]
    before = [Tunneld(site, tls, bridge=False, program=earlier) for tls in (True, False)] if earlier else []
    return before + [Direct(site), Ssh(site),
            Tunneld(site, tls=True, bridge=True), Tunneld(site, tls=False, bridge=True),
            Tunneld(site, tls=True, bridge=False), Tunneld(site, tls=False, bridge=False), Connect(site), Agent(site),
            Chisel(site, tls=True), Chisel(site, tls=False), WstunnelSsh(site), Frp(site)]
