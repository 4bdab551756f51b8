"""The paths of models that answer questions and that tag words: what they take, and what they give."""

import json
from typing import Annotated

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.application import LONGEST_TEXT, MOST_TEXTS
from serving.waiting import found_by

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Texts = Annotated[list[Text], Field(max_length=MOST_TEXTS)]
Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]], Field(max_length=LONGEST_TEXT)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Questions(Strict):
    """One question or a list; context: the text that holds the answer, one for all or as many."""

    question: Text | Texts
    context: Text | Texts

    @model_validator(mode="after")
    def as_many(self):
        if isinstance(self.context, list) and isinstance(self.question, str):
            raise ValueError("one question has one context")
        if isinstance(self.context, list) and len(self.context) != len(self.question):
            raise ValueError(f"{len(self.question)} questions, but {len(self.context)} contexts")
        return self


class Untagged(Strict):
    """One text or a list; or words: one list of words, or a list of such lists."""

    text: Text | Texts | None = None
    words: Words | Annotated[list[Words], Field(max_length=MOST_TEXTS)] | None = None

    @model_validator(mode="after")
    def either(self):
        if (self.text is None) == (self.words is None):
            raise ValueError("give either text or words")
        return self


def add_answers(app, batcher):
    @app.post("/answer")
    async def answer(asked: Questions, request: Request):
        """Of every question the best slice of its context, with its place and probability, and the next ones."""
        questions = [asked.question] if isinstance(asked.question, str) else asked.question
        contexts = [asked.context] * len(questions) if isinstance(asked.context, str) else asked.context
        pairs = list(zip(questions, contexts, strict=True))
        return await _given("answers", request, lambda: batcher.call(lambda: batcher.predictor(pairs)))


def add_tags(app, batcher):
    @app.post("/tag")
    async def tag(given: Untagged, request: Request):
        """The words of every text with their tags and probabilities, and the entities that these mark."""
        texts = given.text if given.text is not None else given.words
        if isinstance(texts, str) or (given.words is not None and not any(isinstance(x, list) for x in texts)):
            texts = [texts]
        return await _given("tagged", request, lambda: batcher.call(lambda: batcher.predictor(texts)))


async def _given(name, request, submit):
    (found,) = await found_by(request, submit)
    return Response(json.dumps({name: found}, ensure_ascii=False), media_type="application/json")
