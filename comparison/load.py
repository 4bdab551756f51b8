"""Load on a server: connections that each ask for one text after the other."""

import asyncio
import json
import math
import time
import urllib.parse

PAUSE = 0.1  # seconds before an address is asked again that did not answer


def run(url, texts, connections, seconds):
    """Asks from all connections at once, for so many seconds.

    Args:
        url: that takes `{"text": …}`, as in "http://127.0.0.1:8000/predict".
        texts: asked for in turn, one in a request.

    Returns:
        dict: requests_per_s, p50_ms, p99_ms of those answered with 200 (nan, were there none); errors, the number of
        the others.
    """
    address = urllib.parse.urlsplit(url)
    requests = [request(address, {"text": text}) for text in texts]
    times, errors, began = asyncio.run(_ask(address, requests, connections, seconds))
    times.sort()

    def at(share):
        return 1000 * times[math.ceil(share * len(times)) - 1] if times else math.nan

    rate = len(times) / (time.perf_counter() - began)
    return {"requests_per_s": rate, "p50_ms": at(0.5), "p99_ms": at(0.99), "errors": errors}


def request(address, body):
    """The bytes of a POST to a split URL."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def read_answer(reader):
    """Status and body. Raises OSError, EOFError: the connection was closed."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    return int(head.split(b" ", 2)[1]), await reader.readexactly(int(length))


async def _ask(address, requests, connections, seconds):
    times, errors = [], 0
    began = time.perf_counter()

    async def ask_on(number):
        nonlocal errors
        writer = None
        while (started := time.perf_counter()) < began + seconds:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.write(requests[number % len(requests)])
                status, _ = await read_answer(reader)
                if status != 200:
                    raise ConnectionError(f"status {status}")
                times.append(time.perf_counter() - started)
                number += connections
            except (OSError, EOFError):
                errors += 1
                if writer is not None:
                    writer.close()
                    writer = None
                await asyncio.sleep(PAUSE)
        if writer is not None:
            writer.close()

    await asyncio.gather(*map(ask_on, range(connections)))
    return times, errors, began
