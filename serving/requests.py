"""What requests hold and what some answers do: forms that pydantic checks. It is imported when a server begins."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.embeddings import POOLINGS

MOST_TEXTS, LONGEST_TEXT = 1000, 100_000  # of a request; characters

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Texts = Annotated[list[Text], Field(max_length=MOST_TEXTS)]
Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]], Field(max_length=LONGEST_TEXT)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SomeTexts(_Strict):
    """One text or a list; text_pair: the second of each pair, as many."""

    text: Text | Texts
    text_pair: Text | Texts | None = None

    @model_validator(mode="after")
    def same_form(self):
        if self.text_pair is not None:
            if isinstance(self.text, str) != isinstance(self.text_pair, str):
                raise ValueError("text and text_pair must both be one string, or both be lists")
            if not isinstance(self.text, str) and len(self.text) != len(self.text_pair):
                raise ValueError(f"{len(self.text)} texts, but {len(self.text_pair)} in text_pair")
        return self

    def lists(self):
        """(texts, their seconds or None)."""
        return tuple([texts] if isinstance(texts, str) else texts for texts in (self.text, self.text_pair))


class TextsToEmbed(SomeTexts):
    pooling: Literal[POOLINGS] = Field("mean", description="the mean of all tokens, or the first, [CLS]")


class OneText(_Strict):
    text: Text
    text_pair: Text | None = None
    layer: int | None = Field(None, description="from 1; left out: the middle one")


class Questions(_Strict):
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


class Untagged(_Strict):
    """One text or a list; or words: one list of words, or a list of such lists."""

    text: Text | Texts | None = None
    words: Words | Annotated[list[Words], Field(max_length=MOST_TEXTS)] | None = None

    @model_validator(mode="after")
    def either(self):
        if (self.text is None) == (self.words is None):
            raise ValueError("give either text or words")
        return self


class Answer(BaseModel):
    label: str | None = Field(None, description="the likeliest class")
    labels: list[str] | None = Field(None, description="those above 0.5, where a text may have any number of them")
    probabilities: dict[str, float] | None = Field(None, description="of every class")
    score: float | None = Field(None, description="a regression's number")


class Answers(BaseModel):
    predictions: list[Answer]
