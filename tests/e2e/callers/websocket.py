"""The stream door with the `websockets` library: /ws/<service> carries one TCP stream."""

import websockets

HALF_CLOSE = "tunnel.raw.v1"  # an empty message ends a direction


def stream(tunneld, service, token, *, subprotocols=None, tls=True, path=None, headers=None, **options):
    """Connects; used as `async with stream(...) as ws`. The token goes in a header, never in the URL."""
    scheme, port = ("wss", tunneld.port) if tls else ("ws", tunneld.plain_port)
    return websockets.connect(
        f"{scheme}://127.0.0.1:{port}{path or '/ws/' + service}",
        ssl=tunneld.tls_context() if tls else None, subprotocols=subprotocols, compression=None,
        extra_headers={**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})},
        max_size=16 << 20, ping_interval=None, open_timeout=30, close_timeout=10, **options)


async def receive_bytes(websocket, count):
    """Exactly `count` bytes, however they were cut into messages."""
    received = bytearray()
    while len(received) < count:
        received += await websocket.recv()
    assert len(received) == count, f"{len(received)} bytes came where {count} were due"
    return bytes(received)
