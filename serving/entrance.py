"""What stands around the application: limits of bodies, HEAD, a path prefix, counts of requests, and the end."""

import asyncio
import time

from serving.metrics import LEFT

PATIENCE = 64  # times the largest body of which the rest is read, and dropped, before the answer


class Entrance:
    """ASGI application around another.

    Bodies that are too large get 413, those that are too slow 408, before anything is computed; HEAD is GET without
    the body; paths may come with root_path before them or without, as a proxy may cut it off.

    Args:
        metrics: metrics.Metrics, which counts all requests.
        most_bytes, seconds: of a body; within which it must have come.
    """

    def __init__(self, app, metrics, most_bytes, seconds, root_path=""):
        self.app, self.metrics, self.root_path = app, metrics, root_path
        self.most_bytes, self.seconds = most_bytes, seconds
        self._reading, self._closed = set(), False  # the asyncio.Timeout of each body that is under way

    def close(self):
        """Bodies that have not come yet are not waited for: 503."""
        self._closed = True
        for timeout in self._reading:
            if not timeout.expired():
                timeout.reschedule(0)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = scope | self._address(scope["path"])
        path = scope["path"].removeprefix(self.root_path)
        started, status = time.perf_counter(), LEFT

        async def counted(message):
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = await self._whole(receive, counted)
            elif scope["method"] == "HEAD":
                scope["method"] = "GET"  # the server sends no body
            if receive:
                await self.app(scope, receive, counted)
        finally:
            self.metrics.add(path, status, time.perf_counter() - started)

    def _address(self, path):
        has_prefix = path == self.root_path or path.startswith(f"{self.root_path}/")
        return {"root_path": self.root_path, "path": path if has_prefix else self.root_path + path}

    async def _whole(self, receive, send):
        """Reads the body. Returns what the application receives it from; None: the client left, or was refused."""
        body, size, more = bytearray(), 0, True
        try:
            async with asyncio.timeout(0 if self._closed else self.seconds) as timeout:
                self._reading.add(timeout)
                while more and size <= PATIENCE * self.most_bytes:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    if size <= self.most_bytes:
                        body += part
        except TimeoutError:
            if self._closed:
                await refuse(send, 503, "the server is about to end")
            else:
                await refuse(send, 408, f"the body did not come within {self.seconds} seconds")
            return None
        finally:
            self._reading.discard(timeout)
        if size > self.most_bytes:  # now that it was read: who is still sending does not hear an answer
            await refuse(send, 413, f"a request may have {self.most_bytes} bytes")
            return None
        messages = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def whole():
            return messages.pop() if messages else await receive()

        return whole


async def refuse(send, status, words, *headers):
    """Answers in place of an application, and closes the connection."""
    content = f'{{"detail": "{words}"}}'.encode()
    headers = [*headers, (b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
