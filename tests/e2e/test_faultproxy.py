"""The instruments of the fault tests: the proxy breaks a network as it was told and only so; the stream that
proves itself is not fooled."""

import importlib.util
import socket
import threading
import time
import urllib.error

import pytest

from programs.faultproxy import SCRIPT, FaultProxy
from programs.loopback import wait_until
from programs.records import SIZE, Check, records

KIB = 1024


def load():
    spec = importlib.util.spec_from_file_location("faultproxy", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def proxy(new_directory, origin):
    """In front of the echo service."""
    started = FaultProxy(new_directory("faultproxy"), origin.ports["tcp_echo"]).start()
    yield started
    started.stop()


def connect(proxy, seconds=10):
    return socket.create_connection(("127.0.0.1", proxy.port), seconds)


def receive(connection, count):
    """Up to `count` bytes; fewer when the connection ends; RST and FIN are told apart by the second value."""
    received = b""
    while len(received) < count:
        try:
            piece = connection.recv(count - len(received))
        except ConnectionResetError:
            return received, "rst"
        if not piece:
            return received, "fin"
        received += piece
    return received, "open"


def is_reset(proxy):
    """Whether a new connection is reset at once: while connecting, or just behind it."""
    try:
        with connect(proxy) as connection:
            return receive(connection, 1) == (b"", "rst")
    except ConnectionResetError:
        return True


def echoed(connection, data):
    connection.sendall(data)
    return receive(connection, len(data))


def test_without_rules_bytes_and_both_ends_pass(proxy):
    with connect(proxy) as connection:
        data = bytes(range(256)) * 4 * KIB
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        assert receive(connection, len(data)) == (data, "open")
        sender.join()
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 1) == (b"", "fin")
    assert proxy.state()["up"] == proxy.state()["down"] == 1 << 20
    wait_until(lambda: proxy.state()["connections"] == 0, 5, "the connection is forgotten")


def test_delay_holds_bytes_back_and_keeps_their_order(proxy):
    proxy.rules(up={"delay_ms": 150, "jitter_ms": 100})
    with connect(proxy) as connection:
        started = time.monotonic()
        for number in range(20):
            connection.sendall(bytes([number]))
        assert receive(connection, 20) == (bytes(range(20)), "open")
        assert time.monotonic() - started >= 0.05


def test_a_rate_is_kept(proxy):
    proxy.rules(down={"bytes_per_second": 20 * KIB})
    with connect(proxy) as connection:
        started = time.monotonic()
        assert echoed(connection, b"x" * 10 * KIB)[1] == "open"
        assert 0.4 <= time.monotonic() - started


def test_a_stall_holds_everything_until_it_is_over(proxy):
    with connect(proxy) as connection:
        assert echoed(connection, b"a") == (b"a", "open")
        proxy.rules(down={"stall": True})
        connection.sendall(b"b")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)
        proxy.heal()
        assert receive(connection, 1) == (b"b", "open")


def test_a_stall_is_felt_by_a_sender_that_goes_on(proxy):
    proxy.rules(up={"stall": True})
    with connect(proxy, 0.5) as connection, pytest.raises(TimeoutError):
        for _ in range(1024):
            connection.sendall(b"x" * 64 * KIB)


def test_a_blackhole_swallows_bytes_and_ends_while_the_sockets_stay_open(proxy, origin):
    before = origin.open_connections()
    with connect(proxy) as connection:
        assert echoed(connection, b"a") == (b"a", "open")
        proxy.rules(both={"blackhole": True})
        connection.sendall(b"lost")
        wait_until(lambda: proxy.state()["dropped"] == 4, 5, "the bytes are dropped")
        proxy.heal()
        assert echoed(connection, b"b") == (b"b", "open")
        proxy.rules(both={"blackhole": True})
    assert proxy.state()["connections"] == 1, "the far side was never told"
    assert origin.open_connections() == before


@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("after", [0, 1, 1000])
def test_a_cut_comes_after_exactly_so_many_bytes(proxy, how, after):
    proxy.rules(down={"cut_after": after, "cut_by": how})
    with connect(proxy) as connection:
        data, end = echoed(connection, bytes(1500))
        assert (len(data), end) == (after, how)
    assert proxy.state()["cut"] == 1


def test_a_sweep_cuts_each_connection_one_byte_later(proxy):
    proxy.rules(down={"cut_after": 0, "cut_step": 1, "cut_by": "fin"})
    lengths = []
    for _ in range(5):
        with connect(proxy) as connection:
            lengths.append(len(echoed(connection, bytes(10))[0]))
    assert lengths == [0, 1, 2, 3, 4]


def test_one_byte_is_corrupted_and_no_other(proxy):
    proxy.rules(up={"corrupt_at": 700})
    with connect(proxy) as connection:
        data, _ = echoed(connection, bytes(1000))
    assert [at for at, byte in enumerate(data) if byte] == [700]


def test_a_dribble_delivers_byte_by_byte(proxy):
    proxy.rules(down={"write_bytes": 1, "write_pause_ms": 20})
    with connect(proxy) as connection:
        connection.sendall(b"hello")
        pieces = [connection.recv(100) for _ in range(5)]
    assert pieces == [b"h", b"e", b"l", b"l", b"o"]


def test_merged_writes_arrive_as_one(proxy):
    proxy.rules(up={"merge_ms": 200})
    with connect(proxy) as connection:
        for byte in b"hello":
            connection.sendall(bytes([byte]))
        assert connection.recv(100) == b"hello"


def test_a_refused_connect_a_hanging_one_and_a_reset_one(proxy):
    proxy.rules(accept="refuse")
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.rules(accept="hang")
    with connect(proxy, 0.3) as connection:
        connection.sendall(b"x")
        with pytest.raises(TimeoutError):
            connection.recv(1)
    proxy.rules(accept="reset")
    assert is_reset(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert echoed(connection, b"x") == (b"x", "open")


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_all_connections_are_cut_on_command(proxy, how):
    connections = [connect(proxy) for _ in range(3)]
    for connection in connections:
        assert echoed(connection, b"x") == (b"x", "open")
    proxy.cut(how)
    assert [receive(connection, 1) for connection in connections] == [(b"", how)] * 3
    for connection in connections:
        connection.close()


def test_connections_that_vanished_stay_so_while_new_ones_work(proxy):
    with connect(proxy, 0.3) as old:
        assert echoed(old, b"x") == (b"x", "open")
        proxy.vanish()
        proxy.heal()
        old.sendall(b"lost")
        with pytest.raises(TimeoutError):
            old.recv(1)
        with connect(proxy) as fresh:
            assert echoed(fresh, b"y") == (b"y", "open")


def test_a_target_that_is_gone_resets_the_caller(new_directory):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = FaultProxy(new_directory("faultproxy"), nobody.getsockname()[1]).start()
        assert is_reset(proxy)
        proxy.stop()


@pytest.mark.parametrize("rules", [{"accept": "perhaps"}, {"up": {"dealy_ms": 1}}, {"sideways": {}}])
def test_rules_that_mean_nothing_are_refused_and_change_nothing(proxy, rules):
    with pytest.raises(urllib.error.HTTPError) as refused:
        proxy._ask("/rules", "PUT", rules)
    refused.value.close()
    assert refused.value.code == 400
    assert proxy.state()["rules"]["accept"] == "serve"


def test_a_campaign_is_the_same_for_the_same_seed_and_another_for_another():
    module = load()
    assert module.campaign(7, 50) == module.campaign(7, 50) != module.campaign(8, 50)
    assert {step["kind"] for step in module.campaign(1, 500)} == set(module.KINDS)
    for step in module.campaign(3, 500):
        module.checked(step.get("rules", {}))


def test_a_campaign_ends_healed(proxy):
    steps = proxy.play(5, 6, calm_ms=[1, 20], fault_ms=[1, 20])
    assert len(steps) == 6
    proxy.wait_played(10)
    with connect(proxy) as connection:
        assert echoed(connection, b"x") == (b"x", "open")


# The stream that proves itself --------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 7, 16, 1000])
def test_a_whole_stream_is_found_whole_however_it_is_cut(pieces):
    data, check = records(5, 300), Check(5)
    for at in range(0, len(data), pieces):
        check.take(data[at:at + pieces])
    assert (check.good, check.wrong, check.bytes) == (300, None, len(data))


WHOLE = records(5, 100)
SPOILT = [
    ("a byte lost", WHOLE[:700] + WHOLE[701:]), ("a byte doubled", WHOLE[:700] + WHOLE[699:]),
    ("a byte changed", WHOLE[:700] + bytes([WHOLE[700] ^ 1]) + WHOLE[701:]),
    ("a record lost", WHOLE[:40 * SIZE] + WHOLE[41 * SIZE:]), ("a record doubled", WHOLE[:40 * SIZE] + WHOLE[39 * SIZE:]),
    ("two records swapped", WHOLE[:40 * SIZE] + WHOLE[41 * SIZE:42 * SIZE] + WHOLE[40 * SIZE:41 * SIZE] + WHOLE[42 * SIZE:]),
    ("another stream's record", WHOLE[:40 * SIZE] + records(6, 1, 40) + WHOLE[41 * SIZE:])]


@pytest.mark.parametrize("what,data", SPOILT, ids=[row[0] for row in SPOILT])
def test_whatever_is_wrong_with_a_stream_is_noticed_where_it_is(what, data):
    check = Check(5)
    for at in range(0, len(data), 333):
        check.take(data[at:at + 333])
    assert check.wrong and check.good in (40, 43), what
