"""A host on this machine that answers rightly, wrongly, or not at all."""

import http.server
import threading
import time


class Web:
    """A host on this machine.

    Attributes:
        files: path → content, or a function that answers in its place, given the handler.
        asked: (path, Authorization) of every request.
    """

    def __init__(self):
        self.files, self.asked = {}, []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.partition("?")[0]
                web.asked.append((path, self.headers["Authorization"]))
                content = web.files.get(path)
                if callable(content):
                    content(self)
                elif content is None:
                    self.send_error(404)
                else:
                    answer(self, content)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def paths(self):
        return [path for path, _ in self.asked]


def answer(handler, content, length=None, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


def cut_off(content, after=500):
    return lambda handler: answer(handler, content[:after], len(content))


def cut_off_in_chunks(handler):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"1f4\r\n" + b"x" * 100)


def stall(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"word\n")
    handler.wfile.flush()
    time.sleep(3)


def failing(status):
    return lambda handler: handler.send_error(status)


def redirect(url, status=302):
    return lambda handler: answer(handler, b"", status=status, Location=url)
