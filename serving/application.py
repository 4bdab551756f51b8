"""The server's paths: what each takes, and what it answers."""

import asyncio
import functools
import io
import json
from pathlib import Path

from files.errors import InputError
from serving.batching import Busy, Closed
from serving.entrance import Entrance
from serving.metrics import LEFT, Metrics
from serving.predictor import NoNumber

PAGE = Path(__file__).parent / "page.html"
MOST_BYTES = 2**20  # of a request's body
BODY_SECONDS = 20  # within which a body must have come
MOST_TEXTS, LONGEST_TEXT = 1000, 100_000  # of a request; characters


def _texts():
    """The forms of what comes and goes: classes of pydantic."""
    from typing import Annotated

    from pydantic import BaseModel, ConfigDict, Field, model_validator

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

    class OneText(Strict):
        text: text_type
        text_pair: text_type | None = None
        layer: int | None = Field(None, description="from 1; left out: the middle one")

    return Texts, OneText


def _answers():
    from pydantic import BaseModel, Field

    class Answer(BaseModel):
        label: str | None = Field(None, description="the likeliest class")
        labels: list[str] | None = Field(None, description="those above 0.5, where a text may have any number of them")
        probabilities: dict[str, float] | None = Field(None, description="of every class")
        score: float | None = Field(None, description="a regression's number")

    class Answers(BaseModel):
        predictions: list[Answer]

    return Answers


def make_app(batcher, root_path=""):
    """The ASGI application, an entrance.Entrance, around a batching.Batcher.

    root_path: what a proxy has before every path, as in "/convbert".
    """
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

    from serving.explanation import draw_explanation, explain

    Texts, OneText = _texts()
    predictor, metrics, page = batcher.predictor, Metrics(batcher), PAGE.read_text("utf-8")
    app = FastAPI(title="ConvBERT in Paddle", docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the newest that the bundled page reads

    @app.exception_handler(RequestValidationError)
    async def refuse(_, error):
        """Without the input itself, which may be long, or no text at all."""
        found = [{"where": list(entry["loc"]), "msg": entry["msg"]} for entry in error.errors()]
        return JSONResponse({"detail": found}, 422)

    @app.post("/predict", response_model=_answers())
    async def predict(texts: Texts, request: Request):
        """A label or labels with probabilities, or a score, in the order of the texts."""
        singles, pairs = ([x] if isinstance(x, str) else x for x in (texts.text, texts.text_pair))
        found = await _found(request, lambda: batcher.submit(singles, pairs))
        answers = [{name: x for name, x in answer._asdict().items() if x is not None} for answer in found]
        return Response(json.dumps({"predictions": answers}, ensure_ascii=False), media_type="application/json")

    @app.post("/explain", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    async def explain_one(one: OneText, request: Request):
        """A PNG: what the heads of a layer do with the text, and the answer."""

        def drawn():
            picture = io.BytesIO()
            draw_explanation(explain(predictor, one.text, one.text_pair, one.layer), picture)
            return picture.getvalue()

        (picture,) = await _found(request, lambda: batcher.call(drawn))
        return Response(picture, media_type="image/png")

    @app.get("/health")
    async def health():
        """Whether the server is up, and with what."""
        return {"status": "ok", "engine": predictor.engine.name, "labels": list(predictor.task.labels)}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        """Counts and times of requests, texts and batches, in Prometheus' text form."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index():
        return page

    _add_docs(app, root_path)
    return Entrance(app, metrics, MOST_BYTES, BODY_SECONDS, root_path)


def _add_docs(app, root_path):
    """The page of the interface, where the files for it are installed: it works without a network."""
    try:
        import swagger_ui_bundle
    except ImportError:
        return
    from fastapi.openapi.docs import get_swagger_ui_html
    from fastapi.responses import HTMLResponse
    from fastapi.staticfiles import StaticFiles

    app.mount("/swagger", StaticFiles(directory=swagger_ui_bundle.swagger_ui_path))
    files = f"{root_path}/swagger"
    docs = functools.partial(
        get_swagger_ui_html,
        openapi_url=f"{root_path}/openapi.json",
        title=app.title,
        swagger_js_url=f"{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{files}/swagger-ui.css",
        swagger_favicon_url=f"{files}/favicon-32x32.png",
    )

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def interface():
        return docs()


async def _found(request, submit):
    """What the Future of `submit()` gives. Raises HTTPException: it can't be had, or the client has left.

    What the model refuses is the asker's mistake, but for what its weights are to blame for.
    """
    from fastapi import HTTPException

    try:
        work = submit()
        found = asyncio.wrap_future(work)
        left = asyncio.ensure_future(request.receive())  # nothing comes after the body but the end
        await asyncio.wait((found, left), return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if work.cancel():
            raise HTTPException(LEFT, "the client has left")
        return await found
    except Busy as error:
        raise HTTPException(503, str(error), {"Retry-After": str(error.seconds)}) from None
    except Closed as error:
        raise HTTPException(503, str(error), {"Connection": "close"}) from None
    except NoNumber:
        raise HTTPException(500, "the model's weights are damaged: no number (NaN or infinity) comes out") from None
    except InputError as error:
        raise HTTPException(422, str(error)) from None
