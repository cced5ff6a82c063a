"""A stream that proves itself: 16-byte records of stream id, position and CRC, so that a byte that is lost,
doubled, changed, out of order or somebody else's shows, and where."""

import struct
import zlib

SIZE = 16
_LAYOUT = struct.Struct(">IQI")  # stream id, number of the record, CRC-32 of both


def records(stream, count, first=0):
    """`count` records of the stream from number `first` on, as bytes."""
    pieces = []
    for number in range(first, first + count):
        begin = struct.pack(">IQ", stream, number)
        pieces.append(begin + zlib.crc32(begin).to_bytes(4, "big"))
    return b"".join(pieces)


class Check:
    """Takes a stream piece by piece, cut anywhere, and knows how much of it was right.

    `wrong` is the first thing that was not, in words; nothing is looked at behind it.
    """

    def __init__(self, stream):
        self.stream, self.good, self.wrong = stream, 0, None
        self._rest = b""

    def take(self, data):
        if self.wrong:
            return
        data = self._rest + data
        whole = len(data) - len(data) % SIZE
        for at in range(0, whole, SIZE):
            stream, number, crc = _LAYOUT.unpack_from(data, at)
            if crc != zlib.crc32(data[at:at + 12]):
                self.wrong = f"record {self.good} is damaged: {data[at:at + SIZE].hex()}"
            elif stream != self.stream:
                self.wrong = f"record {self.good} of stream {self.stream} is number {number} of stream {stream}"
            elif number != self.good:
                self.wrong = f"record {number} came where {self.good} was due"
            if self.wrong:
                return
            self.good += 1
        self._rest = data[whole:]

    @property
    def bytes(self):
        """How many came that were right, those of a record not yet whole included."""
        return self.good * SIZE + len(self._rest)
