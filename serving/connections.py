"""uvicorn with limits of its own: connections, time for a request's head, and time to end."""

import runtime

import asyncio
import signal
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.entrance import refuse

MOST_CONNECTIONS = 400  # above which requests get 503; above twice as many, none are taken
HEAD_SECONDS = 20  # within which a request's head must have come
LARGEST_HEAD = 2**16  # bytes
IDLE_SECONDS = 5  # that a connection may be silent between two requests
END_SECONDS = 8  # for what is being computed when the server stops


class Connection(H11Protocol):
    """A connection that is refused where there are too many, and cut off where a request's head does not come."""

    def connection_made(self, transport):
        super().connection_made(transport)
        # Head and body of an answer are two writes; asyncio does this only where the listener's protocol is spelt out.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._late = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)
        if len(self.connections) > 2 * MOST_CONNECTIONS:
            transport.abort()
        elif len(self.connections) > MOST_CONNECTIONS:
            self.app = _too_many

    def data_received(self, data):
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._late.cancel()
        elif self._late.cancelled():
            self._late = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def connection_lost(self, exc):
        self._late.cancel()
        super().connection_lost(exc)


async def _too_many(scope, receive, send):
    await refuse(send, 503, "too many connections", (b"retry-after", b"1"))


class Server(uvicorn.Server):
    """Serves entrance.Entrance. When it is told to stop, all is answered within about END_SECONDS."""

    def __init__(self, app, batcher):
        self._app, self._batcher = app, batcher
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_level="warning", backlog=128,
            timeout_keep_alive=IDLE_SECONDS, h11_max_incomplete_event_size=LARGEST_HEAD,
        )  # fmt: skip
        super().__init__(config)

    async def shutdown(self, sockets=None):
        self._app.close()
        self._batcher.close()
        loop = asyncio.get_running_loop()
        loop.call_later(END_SECONDS, self._batcher.close, True)
        loop.call_later(END_SECONDS + 0.5, self._drop_connections)
        await super().shutdown(sockets)

    def handle_exit(self, sig, frame):
        if sig == signal.SIGINT and self.should_exit:  # a second Ctrl-C waits for nothing
            runtime.end_at_once(sig, frame)
        super().handle_exit(sig, frame)

    def _drop_connections(self):
        for connection in list(self.server_state.connections):
            connection.transport.abort()
