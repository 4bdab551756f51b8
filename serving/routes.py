"""The server's paths that compute, by what the model's head is for. It is imported when a server begins."""

import io
import json

from fastapi import Request
from fastapi.responses import Response

from serving.explanation import draw_explanation, explain
from serving.requests import Answers, OneText, Questions, SomeTexts, TextsToEmbed, Untagged
from serving.waiting import found_by


def add_texts(app, batcher):
    """Of classifiers and regressions."""

    @app.post("/predict", response_model=Answers)
    async def predict(texts: SomeTexts, request: Request):
        """A label or labels with probabilities, or a score, in the order of the texts."""
        found = await found_by(request, lambda: batcher.submit(*texts.lists()))
        return _json("predictions", [{k: x for k, x in answer._asdict().items() if x is not None} for answer in found])

    @app.post("/explain", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    async def explain_one(one: OneText, request: Request):
        """A PNG: what the heads of a layer do with the text, and the answer."""

        def drawn():
            picture = io.BytesIO()
            draw_explanation(explain(batcher.predictor, one.text, one.text_pair, one.layer), picture)
            return picture.getvalue()

        (picture,) = await found_by(request, lambda: batcher.call(drawn))
        return Response(picture, media_type="image/png")


def add_answers(app, batcher):
    @app.post("/answer")
    async def answer(asked: Questions, request: Request):
        """Of every question the best slice of its context, with its place and probability, and the next ones."""
        questions = [asked.question] if isinstance(asked.question, str) else asked.question
        contexts = [asked.context] * len(questions) if isinstance(asked.context, str) else asked.context
        pairs = list(zip(questions, contexts, strict=True))
        (found,) = await found_by(request, lambda: batcher.call(lambda: batcher.predictor(pairs)))
        return _json("answers", found)


def add_tags(app, batcher):
    @app.post("/tag")
    async def tag(given: Untagged, request: Request):
        """The words of every text with their tags and probabilities, and the entities that these mark."""
        texts = given.text if given.text is not None else given.words
        if isinstance(texts, str) or (given.words is not None and not any(isinstance(x, list) for x in texts)):
            texts = [texts]
        (found,) = await found_by(request, lambda: batcher.call(lambda: batcher.predictor(texts)))
        return _json("tagged", found)


def add_vectors(app, batcher, embedder):
    @app.post("/embed")
    async def embed(texts: TextsToEmbed, request: Request):
        """A vector for every text, or pair: what the encoder makes of it."""
        (found,) = await found_by(request, lambda: batcher.call(lambda: embedder(*texts.lists(), texts.pooling)))
        return _json("embeddings", [[round(float(x), 7) for x in vector] for vector in found])


def _json(name, found):
    return Response(json.dumps({name: found}, ensure_ascii=False), media_type="application/json")
