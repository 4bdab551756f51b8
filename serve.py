"""A small HTTP server that answers with a fine-tuned model, and a page to try it.

    python serve.py --model output/SST-2
    curl -H 'Content-Type: application/json' -d '{"text": "A film one wants to see twice."}' localhost:8000/predict

`/` is the page, `/predict` takes one text or many, alone or in pairs, `/explain` gives a picture of what the model does
with one, `/health` says whether it is up, `/docs` lists all of it. One request is computed at a time; the others wait.
"""

import runtime  # noqa: F401  (before Paddle)

import asyncio
import contextlib
import io
import signal
import socket
import sys
import threading
from pathlib import Path

from files.errors import InputError
from flags.command_line import ArgumentParser, at_least, script
from flags.computing import add_inference
from serving.predictor import NoNumber, make_predictor

PAGE = Path(__file__).parent / "serving" / "page.html"
MOST_BYTES = 2**20  # of a request's body
MOST_TEXTS, LONGEST_TEXT = 1000, 100_000  # of a request; characters
BODY_SECONDS = 20  # within which a body must have come
PATIENCE = 64  # times MOST_BYTES of which the rest is read, and dropped, before the answer


def parse_args(argv):
    parser = ArgumentParser("Serve a fine-tuned model over HTTP.")
    parser.add_argument(
        "--model", required=True, metavar="FOLDER", help="fine-tuned model, or what export.py made of it"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: reachable from outside")
    parser.add_argument("--port", type=at_least(0), default=8000, help="port to listen on; 0: any that is free")
    add_inference(parser, split_special_tokens=True)
    args = parser.parse_args(argv)
    if args.port > 65535:
        parser.error(f"--port must be at most 65535, not {args.port}")
    return args


# ------------------------------------------------------------------------------------------------------------- the app


class BodyLimit:
    """ASGI middleware: bodies that are too large get 413, those that are too slow 408, before anything is computed."""

    def __init__(self, app, most_bytes, seconds):
        self.app, self.most_bytes, self.seconds = app, most_bytes, seconds

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        body, size, more = b"", 0, True
        try:
            async with asyncio.timeout(self.seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    body = body + part if size <= self.most_bytes else b""
                    if size > PATIENCE * self.most_bytes:
                        break
        except TimeoutError:
            await self._refuse(send, 408, f"the body did not come within {self.seconds} seconds")
            return
        if size > self.most_bytes:  # now that it was read: who is still sending does not hear an answer
            await self._refuse(send, 413, f"a request may have {self.most_bytes} bytes")
            return
        given = False

        async def whole():
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, whole, send)

    @staticmethod
    async def _refuse(send, status, words):
        content = f'{{"detail": "{words}"}}'.encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def make_app(predictor):
    """The FastAPI application around a predictor.Predictor."""
    from typing import Annotated

    from fastapi import FastAPI, HTTPException
    from fastapi.exceptions import RequestValidationError
    from fastapi.openapi.docs import get_swagger_ui_html
    from fastapi.responses import HTMLResponse, JSONResponse, Response
    from fastapi.staticfiles import StaticFiles
    from pydantic import BaseModel, ConfigDict, Field, model_validator

    from serving.explanation import draw_explanation, explain

    text_type = Annotated[str, Field(max_length=LONGEST_TEXT)]
    texts_type = text_type | Annotated[list[text_type], Field(max_length=MOST_TEXTS)]

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)

    class Texts(Strict):
        """One text or a list; text_pair: the second of each pair, as many."""

        text: texts_type
        text_pair: texts_type | None = None

        @model_validator(mode="after")
        def same_form(self):
            if self.text_pair is not None:
                if isinstance(self.text, str) != isinstance(self.text_pair, str):
                    raise ValueError("text and text_pair must both be one string, or both be lists")
                if not isinstance(self.text, str) and len(self.text) != len(self.text_pair):
                    raise ValueError(f"{len(self.text)} texts, but {len(self.text_pair)} in text_pair")
            return self

    class Answer(BaseModel):
        label: str | None = Field(None, description="the likeliest class")
        labels: list[str] | None = Field(None, description="those above 0.5, where a text may have any number of them")
        probabilities: dict[str, float] | None = Field(None, description="of every class")
        score: float | None = Field(None, description="a regression's number")

    class Answers(BaseModel):
        predictions: list[Answer]

    class OneText(Strict):
        text: text_type
        text_pair: text_type | None = None
        layer: int | None = Field(None, description="from 1; left out: the middle one")

    lock = threading.Lock()  # the model answers one request at a time
    app = FastAPI(title="ConvBERT in Paddle", docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the newest that the bundled page reads
    app.add_middleware(BodyLimit, most_bytes=MOST_BYTES, seconds=BODY_SECONDS)

    @app.exception_handler(RequestValidationError)
    def refuse(_, error):
        """Without the input itself, which may be long, or no text at all."""
        found = [{"where": list(entry["loc"]), "msg": entry["msg"]} for entry in error.errors()]
        return JSONResponse({"detail": found}, 422)

    @app.post("/predict", response_model=Answers, response_model_exclude_none=True)
    def predict(texts: Texts):
        """A label or labels with probabilities, or a score, in the order of the texts."""
        singles, pairs = ([x] if isinstance(x, str) else x for x in (texts.text, texts.text_pair))
        with lock, _bad_input(HTTPException):
            found = predictor(singles, pairs)
        return {"predictions": [prediction._asdict() for prediction in found]}

    @app.post("/explain", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    def explain_one(one: OneText):
        """A PNG: what the heads of a layer do with the text, and the answer."""
        with lock, _bad_input(HTTPException):
            found = explain(predictor, one.text, one.text_pair, one.layer)
        picture = io.BytesIO()
        draw_explanation(found, picture)
        return Response(picture.getvalue(), media_type="image/png")

    @app.get("/health")
    def health():
        """Whether the server is up, and with what."""
        return {"status": "ok", "engine": predictor.engine.name, "labels": list(predictor.task.labels)}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page():
        return PAGE.read_text("utf-8")

    with contextlib.suppress(ImportError):  # so that the page of the interface works without a network
        import swagger_ui_bundle

        app.mount("/swagger", StaticFiles(directory=swagger_ui_bundle.swagger_ui_path))

        @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
        def docs():
            files = {"swagger_js_url": "/swagger/swagger-ui-bundle.js", "swagger_css_url": "/swagger/swagger-ui.css"}
            icon = "/swagger/favicon-32x32.png"
            return get_swagger_ui_html(openapi_url="/openapi.json", title=app.title, swagger_favicon_url=icon, **files)

    return app


@contextlib.contextmanager
def _bad_input(exception):
    """What the model refuses is the asker's mistake, but for what its weights are to blame for."""
    try:
        yield
    except NoNumber:
        raise exception(500, "the model's weights are damaged: no number (NaN or infinity) comes out") from None
    except InputError as error:
        raise exception(422, str(error)) from None


# ---------------------------------------------------------------------------------------------------------------- main


@script
def main(argv=None):
    args = parse_args(argv)
    try:
        import uvicorn
    except ImportError as error:
        raise InputError(f"needs uvicorn and fastapi ({error}): make setup") from None

    predictor = make_predictor(args)
    predictor(["The first answer compiles what has to be compiled."])
    config = uvicorn.Config(
        make_app(predictor), args.host, args.port, log_level="warning", timeout_keep_alive=5,
        timeout_graceful_shutdown=10, h11_max_incomplete_event_size=2**16,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    with socket.create_server((args.host, args.port), family=family, backlog=1024) as listener:
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        words = f"answers with {args.model}, texts cut to {predictor.max_seq_length} tokens; Ctrl-C stops it"
        print(f"http://{host}:{port}/ {words}", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn passes on after it has stopped in good order
            uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server has its own
    sys.exit(main())
