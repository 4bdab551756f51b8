"""Folders that run_squad.py and run_tagging.py made, or Hugging Face's of the same kind, ready to answer and to tag."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from files.downloads import shipped
from files.errors import InputError
from files.json_files import read_json_object
from serving.predictor import NoNumber, precision_of, stored_model_type
from tasks import programs
from tasks.answers import Search, find_spans
from tasks.classifiers import load_tokenizer, stored_labels
from tasks.entities import entities
from tasks.heads import KINDS, load_head, stored_head
from tasks.questions import Question
from tasks.questions import Windows as QuestionWindows
from tasks.tagging import tag_sentences
from tasks.tags import Sentence, Windows
from text.tokenizer_files import stored_length

ALONE = SimpleNamespace(share=lambda pieces: pieces, add=lambda array: array)  # of processes: this one
DEFAULTS = dict(
    doc_stride=128, max_query_length=64, n_best_size=20, max_answer_length=30, stride=32
)  # the scripts' own
LENGTHS = {"ForQuestionAnswering": 384, "ForTokenClassification": 128}
SHOWN = 5  # answers of one question


class _Head:
    """A folder with a head of the subclass's `kind`.

    Args:
        folder: as the scripts, export.py, `save_pretrained` or Hugging Face made it.
        max_seq_length: tokens of a window; None: as many as in training, which the folder says.
        precision: a precision.Precision; None: float32, OwnInference. Not for programs.
    """

    kind = ""

    def __init__(self, folder, max_seq_length=None, batch_size=32, precision=None):
        from conversion.sources import resolve
        from training.precision import OwnInference

        self.folder, self.batch_size = folder, batch_size
        model_type, note = stored_model_type(folder), programs.program_note(folder)
        source = str(folder) if note else resolve(str(folder), model_type)
        self.tokenizer, self.names = load_tokenizer(model_type, source), None
        if self.kind == "ForTokenClassification":
            count, names = stored_labels(source)
            self.names = names or [f"LABEL_{number}" for number in range(count)]
        if note:
            if stored_head(folder) != self.kind:
                raise InputError(f"{folder}: no program for {KINDS[self.kind]}")
            self.engine = programs.ENGINES[note["engine"]](folder)
            self.positions = note["max_position_embeddings"]
        else:
            model = load_head(model_type, source, self.kind, self.tokenizer, "nothing", self.names)
            self.engine = programs.Dynamic(model, precision or OwnInference("float32"))
            self.positions = model.config.max_position_embeddings
        usual = stored_length(source) or LENGTHS[self.kind]
        self.max_seq_length = min(max_seq_length or usual, self.positions)
        stored = read_json_object(Path(source) / "config.json").get("trained_with")
        self.settings = DEFAULTS | (stored if isinstance(stored, dict) else {})

    @property
    def labels(self):
        """The tags; none of answers."""
        return self.names or ()


class Answering(_Head):
    """Answers of questions about texts."""

    kind = "ForQuestionAnswering"

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        known = self.settings
        query = min(known["max_query_length"], max(1, self.max_seq_length // 2 - 3))
        room = self.max_seq_length - query - 3
        self.windows = QuestionWindows(self.max_seq_length, min(known["doc_stride"], room - 1), query)
        self.windows.require()
        self.search = Search(known["n_best_size"], known["max_answer_length"])
        self.may_refuse = bool(known.get("version_2_with_negative"))
        self.threshold = known.get("null_score_diff_threshold", 0.0)

    def __call__(self, pairs):
        """Of (question, context) pairs a dict each: answer, start, end (in characters), probability, and others.

        The answer is a slice of its context; "" where the model was trained to refuse, and does.
        """
        questions = [Question(str(number), text.lstrip(), context, ()) for number, (text, context) in enumerate(pairs)]
        for number, question in enumerate(questions):
            if not question.text.strip():
                raise InputError(f"question {number + 1} has no word")
        spans = find_spans(
            self.engine, self.tokenizer, questions, self.windows, self.search, self.batch_size, ALONE
        )  # fmt: skip
        if not (np.isfinite(spans.logits).all() and np.isfinite(spans.nulls).all()):
            raise NoNumber(f"{self.folder}: no number (NaN or infinity) comes out; its weights are damaged")
        return [self._answer(spans, question, number) for number, question in enumerate(questions)]

    def _answer(self, spans, question, number):
        found = spans.best(question, number, self.may_refuse)
        refused = self.may_refuse and spans.margin(number) > self.threshold
        texts = [entry for entry in found if bool(entry["text"]) != refused] or found
        first, *others = [
            dict(answer=entry["text"], start=entry["start"], end=entry["end"], probability=entry["probability"])
            for entry in texts[:1] + [entry for entry in found if entry is not texts[0]]
        ]
        return first | {"others": others[: SHOWN - 1]}


class Tagging(_Head):
    """Tags of words, and the entities that they mark."""

    kind = "ForTokenClassification"

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        stride = min(self.settings["stride"], max(0, self.max_seq_length - 3))
        self.windows = Windows(self.max_seq_length, stride)
        prefixes = all(name == "O" or name[:2] in ("B-", "I-", "E-", "S-") for name in self.names)
        self.plain = self.settings.get("scheme") == "plain" or not prefixes

    def __call__(self, texts):
        """Of texts, or lists of words, a dict each: words, tags, probabilities; and entities where tags mark some.

        Of a text, words and entities have start and end in characters, and an entity is a slice of it; of a list of
        words, entities have the numbers of their first and last word.
        """
        split = [self._words(text) if isinstance(text, str) else (list(text), None) for text in texts]
        sentences = [Sentence(tuple(words), (), "") for words, _ in split]
        found = tag_sentences(
            self.engine, self.tokenizer, sentences, self.windows, self.names, self.batch_size, ALONE
        )  # fmt: skip
        if not all(np.isfinite(shares).all() for shares in found.shares):
            raise NoNumber(f"{self.folder}: no number (NaN or infinity) comes out; its weights are damaged")
        return [
            self._tagged(text, *parts, tags, shares)
            for text, parts, tags, shares in zip(texts, split, found.tags, found.shares, strict=True)
        ]

    def _words(self, text):
        """The words that the tokenizer makes of a text, and where each begins and ends."""
        columns = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, return_word_ids=True,
            return_attention_mask=False,
        )  # fmt: skip
        places = []
        before = None
        for word, (start, end) in zip(columns["word_ids"], columns["offset_mapping"], strict=True):
            if word == before:
                places[-1] = places[-1][0], end
            else:
                places.append((start, end))
            before = word
        return [text[start:end] for start, end in places], places

    def _tagged(self, text, words, places, tags, shares):
        found = dict(words=words, tags=tags, probabilities=shares)
        if places is not None:
            found = dict(text=text) | found | dict(places=[list(place) for place in places])
        if self.plain:
            return found
        marked = []
        for kind, first, last in entities(tags):
            entity = dict(type=kind, probability=float(np.mean(shares[first : last + 1])))
            if places is None:
                entity |= dict(words=words[first : last + 1], first=first, last=last)
            else:
                start, end = places[first][0], places[last][1]
                entity |= dict(text=text[start:end], start=start, end=end)
            marked.append(entity)
        return found | dict(entities=marked)


HEADS = {head.kind: head for head in (Answering, Tagging)}


def make_head(args, kind):
    """The one of HEADS that a script's flags ask for."""
    return HEADS[kind](shipped(args.model), args.max_seq_length, args.batch_size, precision_of(args))
