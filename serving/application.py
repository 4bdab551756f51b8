"""The server's paths: what each takes, and what it answers."""

import functools
import io
import json
from pathlib import Path

from serving.entrance import Entrance
from serving.heads import Answering, Tagging
from serving.metrics import Metrics
from serving.waiting import found_by

PAGE = Path(__file__).parent / "page.html"
HEADS = {Answering: "answers", Tagging: "tags"}  # what answers → which part of the page is for it
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
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

    predictor, metrics = batcher.predictor, Metrics(batcher)
    head = next((name for kind, name in HEADS.items() if isinstance(predictor, kind)), "texts")
    page = PAGE.read_text("utf-8").replace('data-head="texts"', f'data-head="{head}"')
    app = FastAPI(title="ConvBERT in Paddle", docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the newest that the bundled page reads

    @app.exception_handler(RequestValidationError)
    async def refuse(_, error):
        """Without the input itself, which may be long, or no text at all."""
        found = [{"where": list(entry["loc"]), "msg": entry["msg"]} for entry in error.errors()]
        return JSONResponse({"detail": found}, 422)

    if head == "texts":
        _add_texts(app, batcher)
    else:
        from serving.head_routes import add_answers, add_tags

        {"answers": add_answers, "tags": add_tags}[head](app, batcher)
    routes = sorted({route.path for route in app.routes if "POST" in getattr(route, "methods", ())})

    @app.get("/health")
    async def health():
        """Whether the server is up, and with what."""
        return {"status": "ok", "engine": predictor.engine.name, "labels": list(predictor.labels), "routes": routes}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        """Counts and times of requests, texts and batches, in Prometheus' text form."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index():
        return page

    _add_docs(app, root_path)
    return Entrance(app, metrics, MOST_BYTES, BODY_SECONDS, root_path)


def _add_texts(app, batcher):
    """The paths of classifiers and regressions."""
    from fastapi import Request
    from fastapi.responses import Response

    from serving.explanation import draw_explanation, explain

    Texts, OneText = _texts()
    predictor = batcher.predictor

    @app.post("/predict", response_model=_answers())
    async def predict(texts: Texts, request: Request):
        """A label or labels with probabilities, or a score, in the order of the texts."""
        singles, pairs = ([x] if isinstance(x, str) else x for x in (texts.text, texts.text_pair))
        found = await found_by(request, lambda: batcher.submit(singles, pairs))
        answers = [{name: x for name, x in answer._asdict().items() if x is not None} for answer in found]
        return Response(json.dumps({"predictions": answers}, ensure_ascii=False), media_type="application/json")

    @app.post("/explain", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    async def explain_one(one: OneText, request: Request):
        """A PNG: what the heads of a layer do with the text, and the answer."""

        def drawn():
            picture = io.BytesIO()
            draw_explanation(explain(predictor, one.text, one.text_pair, one.layer), picture)
            return picture.getvalue()

        (picture,) = await found_by(request, lambda: batcher.call(drawn))
        return Response(picture, media_type="image/png")


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
