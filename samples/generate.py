"""Writes the sample data: all GLUE tasks in their official layout, questions, tags, a corpus and a vocabulary.

    python samples/generate.py [--output FOLDER]

The texts are made from the words and patterns of `grammar.py` with a fixed seed: every run writes the same bytes.
"""

import json
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grammar

from flags.command_line import ArgumentParser, script
from tasks.glue import DIAGNOSTIC, TASKS
from text.tokenizer_files import SWITCHES, write_switches
from text.vocabulary import save_vocabulary, train_vocabulary

SEED = "ConvBERT samples 1"
SIZES = {"train": 400, "dev": 160, "test": 40, "diagnostic": 40}  # rows
SST2_SIZES = {"train": 1000, "dev": 200, "test": 50}
PARAGRAPHS = {"train": 24, "dev": 8}  # of four events and four questions
SENTENCES = {"train": 90, "dev": 30}
DOCUMENTS = 132
VOCABULARY_SIZE = 1500

# --------------------------------------------------------------------------------------------------------------- events


class Event(NamedTuple):
    """Who did what to which thing, where and when. A verb is a pair of base and past form."""

    person: str
    verb: tuple[str, str]
    look: str
    thing: str
    place: str
    time: str


def members(kinds):
    return [member for group in kinds.values() for member in group]


def kind_of(word):
    return next(kind for kind, group in (grammar.PEOPLE | grammar.THINGS).items() if word in group)


def verb_forms(verb):
    """The verb, its synonym and their opposite, each a pair of base and past form."""
    for entry in grammar.VERBS:
        first, second, opposite = zip(entry[::2], entry[1::2], strict=True)
        if verb in (first, second):
            return verb, second if verb == first else first, opposite
    raise ValueError(f"{verb} has no entry in grammar.VERBS")


def make_event(rng, places=grammar.PLACES):
    entry = rng.choice(grammar.VERBS)
    verb = rng.choice((entry[:2], entry[2:4]))
    words = (rng.choice(members(grammar.PEOPLE)), verb, rng.choice(grammar.LOOKS), rng.choice(members(grammar.THINGS)))
    return Event(*words, rng.choice(places), rng.choice(grammar.TIMES))


def changed(rng, event, slot):
    """The event with another filling of one slot: persons and things of another kind; the opposite of a verb."""
    old = getattr(event, slot)
    if slot == "verb":
        return event._replace(verb=verb_forms(old)[2])
    if slot in ("person", "thing"):
        kinds = grammar.PEOPLE if slot == "person" else grammar.THINGS
        choices = members({kind: group for kind, group in kinds.items() if old not in group})
    else:
        pools = {"look": grammar.LOOKS, "place": grammar.PLACES, "time": grammar.TIMES}
        choices = [word for word in pools[slot] if word != old]
    return event._replace(**{slot: rng.choice(choices)})


def tell(event, form):
    """An event as a sentence; form 0: active, 1: active with the time in front, 2: passive."""
    person, (_, past), look, thing, place, time = event
    if form == 0:
        return f"The {person} {past} the {look} {thing} {place} {time}."
    if form == 1:
        return f"{time[0].upper()}{time[1:]} the {person} {past} the {look} {thing} {place}."
    return f"The {look} {thing} was {past} by the {person} {place} {time}."


def with_synonym(event):
    return event._replace(verb=verb_forms(event.verb)[1])


# ---------------------------------------------------------------------------------------------------------------- tasks
# Each takes the random generator, the label to produce and the split, and returns the text or the two texts.


def cola(rng, label, _split):
    """Acceptable sentences, or the same with a wrong number, a wrong verb form, a missing or a misplaced word."""
    person, (base, past), look, thing, place, time = make_event(rng)
    mood = rng.choice(grammar.MOODS)
    patterns = {
        f"The {person} {place} was {mood} {time}.": f"The {person} {place} were {mood} {time}.",
        f"The {person}s {place} were {mood} {time}.": f"The {person}s {place} was {mood} {time}.",
        f"The {person} did not {base} the {look} {thing}.": f"The {person} did not {past} the {look} {thing}.",
        f"Those {person}s {past} the {thing} {time}.": f"That {person}s {past} the {thing} {time}.",
        f"The {person} {past} the {thing} {place}.": f"The {person} the {thing} {past} {place}.",
        f"The {mood} {person} {past} a new {thing} {time}.": f"The {mood} {person} {past} new a {thing} {time}.",
        f"Every {person} {place} {past} the {look} {thing}.": f"Every {person} {place} {past} {look} the {thing}.",
    }
    good, bad = rng.choice(list(patterns.items()))
    return good if label else bad


def judgement(rng, label, split):
    """A clause that judges an aspect of a film, one in six by denying the opposite.

    A fifth of all pairs of aspect and adjective occurs in dev and test only, the others in train only.
    """
    denied = rng.random() < 1 / 6
    sense = 1 - label if denied else label
    while True:
        aspect, adjective = rng.randrange(len(grammar.ASPECTS)), rng.randrange(len(grammar.JUDGEMENTS[sense]))
        if ((aspect + adjective) % 5 == 0) == (split != "train"):
            break
    pattern = rng.choice(grammar.DENIALS if denied else grammar.ASSERTIONS)
    return pattern.format(
        grammar.ASPECTS[aspect], grammar.JUDGEMENTS[sense][adjective], degree=rng.choice(grammar.DEGREES)
    )


def sst2(rng, label, split):
    """One judgement, two that agree, or two that differ where grammar tells which one counts."""
    main = judgement(rng, label, split)
    form = rng.random()
    if form < 0.2:
        main = rng.choice(grammar.CONTRASTS).format(main=main, minor=judgement(rng, 1 - label, split))
    elif form < 0.4:
        main = f"{main} and {judgement(rng, label, split)}"
    return rng.choice(grammar.FRAMES).format(main) + (" ." if split == "test" else " . ")  # as in the official files


def mrpc(rng, label, _split):
    """The same event in other words and another order, or one with another fact in it."""
    event = make_event(rng)
    forms = rng.sample(range(3), 2)
    other = with_synonym(event) if label else changed(rng, event, rng.choice(("person", "verb", "thing", "place")))
    return tell(event, forms[0]), tell(other, forms[1])


def stsb(rng, score, _split):
    """Two events. Each slot that differs costs a point of five, a person or thing of the same kind half a point."""
    event = other = make_event(rng)
    slots = ["verb", "place", "time", *rng.sample(("person", "thing"), 2)]
    lost = 5 - score
    if lost % 1:
        slot = slots.pop()
        old = getattr(event, slot)
        siblings = (grammar.PEOPLE | grammar.THINGS)[kind_of(old)]
        other = other._replace(**{slot: rng.choice([word for word in siblings if word != old])})
    for slot in rng.sample(slots, int(lost)):
        other = changed(rng, other, slot)
    if other.verb == event.verb and rng.random() < 0.5:
        other = with_synonym(other)
    return tell(event, 0), tell(other, rng.choice((0, 1)))


def qqp(rng, label, _split):
    """How to do something, asked in two ways, or about two things."""
    event = make_event(rng)
    other = with_synonym(event) if label else changed(rng, event, rng.choice(("verb", "look", "thing")))
    frames = rng.sample(grammar.QUESTIONS, 2)
    return tuple(
        frame.format(asked.verb[0], f"{'an' if asked.look[0] in 'aeiou' else 'a'} {asked.look} {asked.thing}")
        for frame, asked in zip(frames, (event, other), strict=True)
    )


def hypothesis(rng, event, relation):
    """A shorter sentence that follows from the event, contradicts it, or says what the event leaves open."""
    person = rng.choice((event.person, kind_of(event.person)))
    thing = rng.choice((event.thing, f"{event.look} {event.thing}", kind_of(event.thing)))
    (_, past), synonym, opposite = verb_forms(event.verb)
    if relation == "contradiction":
        verb = rng.choice((f"did not {event.verb[0]}", f"did not {synonym[0]}", opposite[1]))
        return f"The {person} {verb} the {thing}."
    endings = ("", f" {event.place}", f" {event.time}")
    if relation == "neutral":
        endings = [f" {reason}" for reason in grammar.REASONS]
    return f"The {person} {rng.choice((past, synonym[1]))} the {thing}{rng.choice(endings)}."


def mnli(rng, label, split):
    event = make_event(rng, grammar.PLACES_AT_SEA if split.endswith("mismatched") else grammar.PLACES)
    return tell(event, rng.randrange(3)), hypothesis(rng, event, TASKS["MNLI"].labels[label])


def rte(rng, label, _split):
    """Two sentences of news and one that follows from the first of them, or from neither."""
    event, other = make_event(rng), make_event(rng)
    relation = "entailment" if label == 0 else rng.choice(("contradiction", "neutral"))
    return f"{tell(event, rng.randrange(3))} {hypothesis(rng, other, 'entailment')}", hypothesis(rng, event, relation)


def qnli(rng, label, _split):
    """A question, and a sentence that answers it or lacks just that."""
    event = make_event(rng)
    person, (base, past), look, thing, place, time = event
    somewhere, sometime = (f"The {person} {past} the {look} {thing} {which}." for which in (place, time))
    cases = (
        (f"Where did the {person} {base} the {thing}?", somewhere, sometime),
        (f"When did the {person} {base} the {thing}?", sometime, somewhere),
        (f"Who {past} the {thing} {place}?", tell(event, 2), f"The {look} {thing} was {past} {place} {time}."),
        (f"What did the {person} {base} {place}?", tell(event, 1), f"The {person} {past} something {place} {time}."),
    )
    question, answer, lacking = rng.choice(cases)
    return question, lacking if label else answer


def wnli(rng, label, _split):
    """A pronoun that only the ending resolves, and a claim about whom it means."""
    sentence, claim, *endings = rng.choice(grammar.WINOGRAD)
    first, second = rng.sample(members(grammar.PEOPLE if "{p}" in sentence else grammar.THINGS), 2)
    end, meant = rng.choice(endings)
    claimed = first if (meant == 1) == (label == 1) else second
    text = sentence.format(a=first, b=second, p=first, q=second, end=end)
    return text, f"The {claimed} {claim.format(end=end)}."


GENERATORS = {
    "CoLA": cola, "SST-2": sst2, "MRPC": mrpc, "STS-B": stsb, "QQP": qqp, "MNLI": mnli, "QNLI": qnli, "RTE": rte,
    "WNLI": wnli, "AX": mnli,
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------- files

_MNLI = (
    "index,promptID,pairID,genre,sentence1_binary_parse,sentence2_binary_parse,sentence1_parse,sentence2_parse,"
    "sentence1,sentence2"
)
_STSB = "index,genre,filename,year,old_index,source1,source2,sentence1,sentence2"
COLUMNS = {  # of the train file, of the dev file where it differs, of the test file
    "CoLA": ("source,label,star,sentence", "index,sentence"),
    "SST-2": ("sentence,label", "index,sentence"),
    "MRPC": ("Quality,#1 ID,#2 ID,#1 String,#2 String", "index,#1 ID,#2 ID,#1 String,#2 String"),
    "STS-B": (f"{_STSB},score", _STSB),
    "QQP": ("id,qid1,qid2,question1,question2,is_duplicate", "id,question1,question2"),
    "MNLI": (f"{_MNLI},label1,gold_label", f"{_MNLI},label1,label2,label3,label4,label5,gold_label", _MNLI),
    "QNLI": ("index,question,sentence,label", "index,question,sentence"),
    "RTE": ("index,sentence1,sentence2,label", "index,sentence1,sentence2"),
    "WNLI": ("index,sentence1,sentence2,label", "index,sentence1,sentence2"),
    "AX": ("index,sentence1,sentence2",),
}


def write_task(task, folder):
    """Writes all splits of a task, labels balanced, no first text twice. Returns the texts of its train split."""
    rng = random.Random(f"{SEED} {task.name}")
    folder.mkdir(parents=True, exist_ok=True)
    sizes = SST2_SIZES if task.name == "SST-2" else SIZES
    taken = set()
    train_texts = []
    for split in task.splits:
        kind = split.split("_")[0]
        rows = []
        for number in range(sizes[kind]):
            label = number % 11 / 2 if task.is_regression else number % task.num_labels
            while (texts := _texts(task, rng, label, split))[0] in taken:
                pass
            taken.add(texts[0])
            rows.append((texts, label))
        rng.shuffle(rows)
        if kind == "train":
            train_texts = [text for texts, _ in rows for text in texts]
        columns = COLUMNS[task.name][{"train": 0, "dev": -2, "test": -1, "diagnostic": -1}[kind]].split(",")
        lines = [] if task.headerless_columns and kind != "test" else ["\t".join(columns)]
        for index, (texts, label) in enumerate(rows):
            word = f"{label:.3f}" if task.is_regression else task.labels[label]
            cells = {"index": index, "id": index, "source": "sample", "genre": "sample", "star": "" if label else "*"}
            cells |= {"qid1": 2 * index + 1, "qid2": 2 * index + 2, "#1 ID": 2 * index + 1, "#2 ID": 2 * index + 2}
            cells |= {"label1": word, task.label: word, **dict(zip(task.texts, texts, strict=True))}
            lines.append("\t".join(str(cells.get(column, "-")) for column in columns))
        starts_with_bom = task.name == "MRPC" and kind != "test"  # as the official files do
        _write_lines(folder / f"{split}.tsv", lines, "utf-8-sig" if starts_with_bom else "utf-8")
    return train_texts


def _texts(task, rng, label, split):
    texts = GENERATORS[task.name](rng, label, split)
    return texts if task.is_pair else (texts,)


# ---------------------------------------------------------------------------------------------------- answers and tags


def paragraphs(split):
    """SQuAD's content: paragraphs of four events, a question about each."""
    rng = random.Random(f"{SEED} answers {split}")
    found = []
    for number in range(PARAGRAPHS[split]):
        events = []
        while len(events) < 4:
            event = make_event(rng)
            if not any(event.person == other.person or event.thing == other.thing for other in events):
                events.append(event)
        context, questions = "", []
        for place, event in enumerate(events):
            start, sentence = len(context), tell(event, rng.randrange(3))
            context += f"{sentence} "
            person, (base, past), look, thing = event[:4]
            question, answer = rng.choice([
                (f"Where did the {person} {base} the {thing}?", event.place),
                (f"When did the {person} {base} the {thing}?", event.time),
                (f"Who {past} the {look} {thing}?", person),
                (f"What did the {person} {base} {event.place}?", f"{look} {thing}"),
            ])  # fmt: skip
            begin = start + sentence.lower().index(answer.lower())
            answer = dict(text=context[begin : begin + len(answer)], answer_start=begin)
            questions.append(dict(id=f"{split}-{number}-{place}", question=question, answers=[answer]))
        found.append(dict(context=context.strip(), qas=questions))
    return dict(version="1.1", data=[dict(title="samples", paragraphs=found)])


def tagged_lines(split):
    """CoNLL columns: events, with persons, things, places and times as entities."""
    rng = random.Random(f"{SEED} tags {split}")
    lines = []
    for _ in range(SENTENCES[split]):
        event = make_event(rng)
        text = tell(event, rng.randrange(3))
        parts = {
            "person": event.person,
            "thing": f"{event.look} {event.thing}",
            "place": event.place,
            "time": event.time,
        }
        spans = {}
        for kind, part in parts.items():
            begin = text.lower().index(part.lower())
            spans |= {begin: f"B-{kind}"} | dict.fromkeys(range(begin + 1, begin + len(part)), f"I-{kind}")
        words = [(word.start(), word[0]) for word in re.finditer(r"[\w'-]+|[^\w\s]", text)]
        lines += [f"{word}\t{spans.get(place, 'O')}" for place, word in words]
        lines.append("")
    return lines[:-1]


def corpus_lines():
    """Lines of the corpus: a paragraph a line, an empty line between documents, a topic a document."""
    rng = random.Random(f"{SEED} corpus")
    lines = []
    for number in range(DOCUMENTS):
        topic = (*grammar.TOPICS, "films", "news")[number % (len(grammar.TOPICS) + 2)]
        # a document keeps to a few words
        fillers = {name: rng.sample(choices, 3) for name, choices in grammar.FILLERS.items()}
        for _ in range(rng.randint(4, 6)):
            lines.append(" ".join(_corpus_sentence(rng, topic, fillers) for _ in range(rng.randint(4, 7))))
        lines.append("")
    return lines[:-1]


def _corpus_sentence(rng, topic, fillers):
    if topic == "films":
        return sst2(rng, rng.randrange(2), "train").strip()
    if topic == "news":
        event = make_event(rng)
        return rng.choice((tell(event, rng.randrange(3)), hypothesis(rng, event, "neutral"), cola(rng, 1, "train")))
    return re.sub(r"{(\w+)}", lambda name: rng.choice(fillers[name[1]]), rng.choice(grammar.TOPICS[topic]))


def _write_lines(path, lines, encoding="utf-8"):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))


@script
def main(argv=None):
    parser = ArgumentParser("Writes the sample data.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder to write into")
    output = parser.parse_args(argv).output
    train_texts = [text for task in TASKS.values() for text in write_task(task, output / task.name)]
    write_task(DIAGNOSTIC, output / DIAGNOSTIC.name)
    for folder in ("answers", "tags"):
        (output / folder).mkdir(exist_ok=True)
    for split in PARAGRAPHS:
        content = json.dumps(paragraphs(split)).replace('{"context"', '\n{"context"')
        _write_lines(output / "answers" / f"{split}.json", content.splitlines())
        _write_lines(output / "tags" / f"{split}.conll", tagged_lines(split))
    corpus = corpus_lines()
    _write_lines(output / "corpus.txt", corpus)
    with tempfile.TemporaryDirectory() as folder:
        all_texts = Path(folder) / "texts.txt"
        _write_lines(all_texts, corpus + train_texts)
        save_vocabulary(train_vocabulary([all_texts], VOCABULARY_SIZE), output / "vocab.txt")
    write_switches(output / "vocab.txt", SWITCHES)


if __name__ == "__main__":
    sys.exit(main())
