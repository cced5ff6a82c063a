"""WebSocket frames by hand, for what a library would not send."""

import struct

from .raw_http import RawHttp, request

UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


def frame(payload=b"", *, opcode=2, final=True, masked=True, reserved=0, length=None):
    """One frame as a client sends it; `length` claims another size than the payload has."""
    claimed = len(payload) if length is None else length
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if claimed < 126:
        head += bytes([mask_bit | claimed])
    elif claimed < 65536:
        head += bytes([mask_bit | 126]) + struct.pack(">H", claimed)
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", claimed)
    if not masked:
        return head + payload
    key = b"\x37\xfa\x21\x3d"
    return head + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


class RawWebSocket(RawHttp):
    """A WebSocket over one raw connection."""

    def open(self, path, token, *fields):
        self.send(request("GET", path, *UPGRADE, *fields, token=token))
        return self.read_head()

    def read_frame(self):
        first, second = self.read_exactly(2)
        assert not second & 0x80, "a server never masks"
        length = second & 0x7F
        if length == 126:
            length = struct.unpack(">H", self.read_exactly(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.read_exactly(8))[0]
        return first & 0x0F, self.read_exactly(length)

    def read_close_code(self):
        """Skips to the Close frame and returns its code."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == 8:
                return struct.unpack(">H", payload[:2])[0] if payload else 1005
