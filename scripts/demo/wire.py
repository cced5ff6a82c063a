#!/usr/bin/python3
"""A wire that can be cut: relays TCP from a free loopback port, which it prints, to the port it is given.

Started by scripts/run. SIGUSR1 resets every connection and lets none in for two seconds; SIGTERM ends it.
"""

import asyncio
import contextlib
import signal
import socket
import struct
import sys

AWAY = 2  # seconds


class Wire:
    def __init__(self, far):
        self.far = far
        self.ends = set()
        self.back_at = 0.0

    def cut(self):
        self.back_at = asyncio.get_running_loop().time() + AWAY
        for end in list(self.ends):
            self.reset(end)
        print("cut", flush=True)

    @staticmethod
    def reset(end):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.transport.abort()

    async def copy(self, reader, writer):
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

    async def accepted(self, reader, writer):
        if asyncio.get_running_loop().time() < self.back_at:
            return self.reset(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.far)
        except OSError:
            return self.reset(writer)
        self.ends |= {writer, far_writer}
        await asyncio.gather(self.copy(reader, far_writer), self.copy(far_reader, writer))
        self.ends -= {writer, far_writer}
        for end in (writer, far_writer):
            end.close()


async def main(far):
    wire, over = Wire(far), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, wire.cut)
    loop.add_signal_handler(signal.SIGTERM, over.set)
    server = await asyncio.start_server(wire.accepted, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
