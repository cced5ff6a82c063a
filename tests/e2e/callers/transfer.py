"""Megabytes both ways through local ports whose connections are cut meanwhile. Every byte must arrive once and
in order: SHA-256 of both directions."""

import hashlib
import random
import socket
import threading

from programs.origin import stream_digest

PIECE = 64 * 1024


class Moved:
    """How many bytes have moved, all together; wakes who waits for more."""

    def __init__(self):
        self.bytes = 0
        self.over = False
        self._changed = threading.Condition()

    def add(self, count):
        with self._changed:
            self.bytes += count
            self._changed.notify_all()

    def end(self):
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def wait_for(self, count):
        """False: it ended before."""
        with self._changed:
            self._changed.wait_for(lambda: self.bytes >= count or self.over)
            return self.bytes >= count


class Cuts:
    """Cuts one of the `legs` (fault proxies) at each of `count` random moments of `total` bytes, by RST or FIN.
    Moments, legs and kinds come from the seed alone."""

    def __init__(self, legs, *, count, total, seed):
        draw = random.Random(f"transfer {seed}")
        # Not at once: a stream that is only being opened may be refused.
        self.plan = sorted((draw.randrange(total // 16, total), draw.randrange(len(legs)), draw.choice(["rst", "fin"]))
                           for _ in range(count))
        self.legs, self.made = legs, 0

    def run(self, moved):
        for at, leg, kind in self.plan:
            if not moved.wait_for(at):
                return
            self.legs[leg].cut(kind)
            self.made += 1


def upload(port, size, seed, moved, timeout):
    """To a service that reads to the end and answers "<bytes> <sha256>"; random bytes, so that no piece is like another."""
    draw, digest, left = random.Random(seed), hashlib.sha256(), size
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        while left:
            piece = draw.randbytes(min(PIECE, left))
            digest.update(piece)
            connection.sendall(piece)
            left -= len(piece)
            moved.add(len(piece))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.decode() == f"{size} {digest.hexdigest()}\n", "the upload is not what was sent"


def download(port, size, moved, timeout):
    """From a service that sends so many bytes of the deterministic stream and closes."""
    digest, got = hashlib.sha256(), 0
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(f"{size}\n".encode())
        while part := connection.recv(4 * PIECE):
            digest.update(part)
            got += len(part)
            moved.add(len(part))
    assert got == size, f"{got} of {size} bytes came down"
    assert digest.hexdigest() == stream_digest(size), "the download is not what was sent"


def both_ways(up_port, down_port, size, *, legs, cuts, seed, timeout=120):
    """`size` bytes up and as many down at the same time, `cuts` times cut. Returns the cuts that were made;
    AssertionError or OSError: a byte, or the end, was not as it must be."""
    print(f"transfer: {size} bytes each way, {cuts} cuts, seed {seed}")
    moved, failures = Moved(), []
    plan = Cuts(legs, count=cuts, total=2 * size, seed=seed)

    def guarded(story, *arguments):
        try:
            story(*arguments, moved, timeout)
        except Exception as failure:  # told by who waits for both
            failures.append(failure)
            moved.end()

    threads = [threading.Thread(target=guarded, args=(upload, up_port, size, seed), daemon=True),
               threading.Thread(target=guarded, args=(download, down_port, size), daemon=True)]
    cutter = threading.Thread(target=plan.run, args=(moved,), daemon=True)
    for thread in (*threads, cutter):
        thread.start()
    for thread in threads:
        thread.join()
    moved.end()
    cutter.join(10)
    if failures:
        raise failures[0]
    return plan.made
