"""The server as an application: its paths around one queue, its page, what it says of itself."""

import functools
from pathlib import Path

from serving.embeddings import Embedder
from serving.entrance import Entrance
from serving.heads import Answering, Tagging
from serving.metrics import Metrics
from tasks.programs import Dynamic

PAGE = Path(__file__).parent / "page.html"
HEADS = {Answering: "answers", Tagging: "tags", Embedder: "vectors"}  # what answers → the page's part for it
MOST_BYTES = 2**20  # of a request's body
BODY_SECONDS = 20  # within which a body must have come


def make_app(batcher, root_path=""):
    """The ASGI application, an entrance.Entrance, around a batching.Batcher.

    root_path: what a proxy has before every path, as in "/convbert".
    """
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

    from serving.routes import add_answers, add_tags, add_texts, add_vectors

    predictor, metrics = batcher.predictor, Metrics(batcher)
    head = next((name for kind, name in HEADS.items() if isinstance(predictor, kind)), "texts")
    app = FastAPI(title="ConvBERT in Paddle", docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the newest that the bundled page reads

    @app.exception_handler(RequestValidationError)
    async def refuse(_, error):
        """Without the input itself, which may be long, or no text at all."""
        found = [{"where": list(entry["loc"]), "msg": entry["msg"]} for entry in error.errors()]
        return JSONResponse({"detail": found}, 422)

    if head != "vectors":
        {"texts": add_texts, "answers": add_answers, "tags": add_tags}[head](app, batcher)
    if predictor.engine.name == Dynamic.name:  # a program has no encoder by itself
        add_vectors(app, batcher, predictor if head == "vectors" else Embedder.inside(predictor))
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

    shown = f'data-head="{head}" data-docs="{"yes" if _add_docs(app, root_path) else "no"}"'
    page = PAGE.read_text("utf-8").replace('data-head="texts" data-docs="no"', shown)
    return Entrance(app, metrics, MOST_BYTES, BODY_SECONDS, root_path)


def _add_docs(app, root_path):
    """The page of the interface, where the files for it are installed: it works without a network. Whether it is."""
    try:
        import swagger_ui_bundle
    except ImportError:
        return False
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

    return True
