"""The configuration entries that most tests share: which services exist, and the sshd in front."""

from .loopback import free_port
from .tunneld import merged


def services_of(origin, nginx=None):
    """Entries for everything origin_server.py listens on, by the names the tests use."""
    anyone = ["*"]
    ports = origin.ports
    listed = [
        ("web", ports["http"], anyone),
        ("echo", ports["tcp_echo"], anyone),
        ("digest", ports["tcp_digest"], anyone),
        ("source", ports["tcp_source"], anyone),
        ("flood", ports["tcp_flood"], anyone),
        ("records", ports["tcp_records"], anyone),
        ("chat", ports["websocket"], anyone),
        ("dead", free_port(), anyone),  # nobody listens there
        ("carols", ports["http"], ["sub:carol"]),
        ("paying", ports["http"], ["tier:premium", "tier:enterprise"]),
        ("reports", ports["http"], ["scope:reports:read"]),
    ]
    if nginx:
        listed.append(("nginx", nginx.port, anyone))
    return [{"name": name, "target": f"127.0.0.1:{port}", "allow": list(allow)} for name, port, allow in listed]


def upstream_to(sshd, services, **changes):
    """One entry of `upstreams`: that sshd, its host key pinned."""
    return merged({"name": "far", "address": [f"127.0.0.1:{sshd.port}"], "user": sshd.user.pw_name,
                   "host_key_fingerprint": [sshd.fingerprint], "services": services}, changes)
