"""The server's connections, over real sockets: limits of time and number, and its end."""

import contextlib
import socket
import threading
import time
import urllib.parse

import pytest
from conftest import needs
from test_batching import Busily, Gated
from test_export import model_folder

from comparison import load
from serving.application import make_app
from serving.batching import Batcher
from serving.predictor import Predictor

pytestmark = needs("fastapi", "uvicorn")

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "model", label_names=["bad", "good"])


@pytest.fixture
def limits(monkeypatch):
    """Sets constants of serving.connections."""
    from serving import connections

    return lambda **values: [monkeypatch.setattr(connections, name, value) for name, value in values.items()]


@pytest.fixture
def server(folder):
    """A server that runs; attributes `address`, `batcher`, and `stop`, which waits for its end."""
    from serving.connections import Server

    batcher = Batcher(Predictor(folder, independent=True))
    found = Server(make_app(batcher), batcher)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=found.run, kwargs={"sockets": [listener]})
        found.address, found.batcher = listener.getsockname(), batcher

        def stop():
            found.should_exit = True
            thread.join(20)
            assert not thread.is_alive()

        found.stop = stop
        thread.start()
        yield found
        stop()
        assert batcher.join(10)


@pytest.fixture
def connect(server):
    """Content → a connection that has sent it."""
    with contextlib.ExitStack() as stack:

        def connection(content=b""):
            found = stack.enter_context(socket.create_connection(server.address, timeout=20))
            found.sendall(content)
            return found

        yield connection


def post(text):
    return load.request(urllib.parse.urlsplit("http://x/predict"), {"text": text})


def read(connection):
    """What comes until the connection is closed, or a whole answer has come."""
    found = b""
    while part := connection.recv(2**16):
        found += part
        head, _, body = found.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if length and len(body) == int(length):
            break
    return found


def wait(condition):
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_half_a_head_is_cut_off(limits, connect):
    """The first of a connection, or a later one, whether more of it trickles in or not."""
    limits(HEAD_SECONDS=0.6)
    began = time.monotonic()
    silent, half, later = connect(), connect(HEALTH[:20]), connect(HEALTH)
    assert b" 200 " in read(later)
    later.sendall(HEALTH[:20])
    for index in range(20, 26):
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            later.sendall(HEALTH[index : index + 1])
    assert [read(connection) for connection in (silent, half, later)] == [b"", b"", b""]
    assert time.monotonic() - began > 0.5
    kept = connect(HEALTH)
    assert b" 200 " in read(kept)
    time.sleep(0.8)  # between two requests other times hold
    kept.sendall(HEALTH)
    assert b" 200 " in read(kept)


def test_too_many_connections(limits, connect):
    limits(MOST_CONNECTIONS=2)
    taken = [connect(HEALTH) for _ in range(2)]
    assert all(b" 200 " in read(connection) for connection in taken)
    refused = [connect(HEALTH) for _ in range(2)]
    for connection in refused:
        answer = read(connection).lower()
        assert b" 503 " in answer
        assert b"retry-after: 1" in answer
        assert b"connection: close" in answer
    silent = [connect() for _ in range(2)]
    time.sleep(0.1)
    with contextlib.suppress(ConnectionError):
        assert read(connect(HEALTH)) == b""
    for connection in (*taken, *refused, *silent):
        connection.close()
    time.sleep(0.1)
    assert b" 200 " in read(connect(HEALTH))


def test_an_answer_s_two_parts_do_not_wait_for_each_other(server, connect):
    """Else the second is sent when the first was acknowledged, which takes 40 ms on a connection that is kept."""
    assert b" 200 " in read(connect(HEALTH))
    (connection,) = server.server_state.connections
    found = connection.transport.get_extra_info("socket")
    assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_others_are_answered_while_a_batch_is_computed(server, connect):
    with Busily(server.batcher):
        waits = connect(post("good"))
        wait(lambda: server.batcher.waiting == 2)
        for path in (b"/", b"/health", b"/metrics", b"/docs"):
            assert b" 200 " in read(connect(HEALTH.replace(b"/health", path)))
    assert b" 200 " in read(waits)


def test_texts_of_who_left_are_not_computed(server, connect):
    with Busily(server.batcher):
        stays, leaves = connect(post("good")), connect(post("bad"))
        wait(lambda: server.batcher.waiting == 3)
        leaves.close()
        asked = HEALTH.replace(b"/health", b"/metrics")
        wait(lambda: b'{path="/predict",status="499"} 1' in read(connect(asked)))
    assert b" 200 " in read(stays)
    assert server.batcher.batch_sizes.sum == 1


def test_the_end(capsys, server, connect):
    """What is computed is answered, what waits is refused, what has not come is not waited for."""
    predictor = server.batcher.predictor
    predictor.engine = gated = Gated(predictor.engine)
    computed = connect(post("good"))
    assert gated.asked.acquire(timeout=20)
    waits, idle, half = connect(post("bad")), connect(HEALTH), connect(HEALTH[:20])
    under_way = connect(post("film")[:-5])
    assert b" 200 " in read(idle)
    wait(lambda: server.batcher.waiting == 2 and len(server.server_state.tasks) == 3)
    server.should_exit = True
    for connection in (waits, under_way):
        answer = read(connection)
        assert b" 503 " in answer
        assert b"the server is about to end" in answer
    assert (read(idle), read(half)) == (b"", b"")
    gated.let.release()
    assert b" 200 " in read(computed)
    server.stop()
    assert capsys.readouterr().err == ""
    with pytest.raises(ConnectionError):
        connect()


def test_the_end_does_not_wait_for_ever(capsys, server, connect, limits):
    """For a batch that takes too long, or for a client that does not read its answer."""
    limits(END_SECONDS=0.3)
    predictor = server.batcher.predictor
    predictor.engine = gated = Gated(predictor.engine)
    computed = connect(post("good"))
    assert gated.asked.acquire(timeout=20)
    server.should_exit = True
    assert b" 503 " in read(computed)
    server.stop()
    gated.let.release()
    assert capsys.readouterr().err == ""
