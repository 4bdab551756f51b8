"""What compare.py compares: another library's model and ours with the same weights, random ones or a checkpoint's."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from comparison import parity
from comparison.hugging_face_reference import HuggingFace
from comparison.references import NO_DROPOUT, NumpyLoops, Ours, PaddleNLP, architecture_of, kind_of
from conversion.formats import JOINT, convert, format_of, read_checkpoint, write_hugging_face
from family.configurations import preset
from files.temporary import temporary_folder
from files.weights import read_names
from layers.configuration import EncoderConfig

LIBRARIES = {"hf": HuggingFace, "paddlenlp": PaddleNLP}


@dataclass
class Subject:
    """One model to be compared, with the weights of folders or random ones."""

    name: str
    config: EncoderConfig
    architecture: str  # the class of the stored weights; of random ones, the class whose encoder is looked at
    library: type
    own: str | None = None  # folder that we load; None: random
    theirs: str | None = None  # folder that the other library loads

    def pair(self, architecture):
        """A reference and ours with the same weights; what the folders lack of a head is the reference's at random."""
        stored = self.own is not None and architecture == self.architecture
        if self.library.obstacle(self.config, architecture):
            ours = Ours.load(architecture, self.own) if stored else Ours.random(architecture, self.config)
            return NumpyLoops(ours), ours
        changes = {"num_labels": 2} if kind_of(architecture) == "ForQuestionAnswering" and not stored else {}
        if self.theirs:
            reference = self.library.load(architecture, self.theirs, **changes)
        else:
            reference = self.library.random(architecture, self.config, **changes)
        if stored:
            ours = Ours.load(architecture, self.own)
            if self.library is PaddleNLP:
                ours.clear_pad_row()
            return reference, ours
        with temporary_folder() as folder:
            reference.save(f"{folder}/reference")
            convert(f"{folder}/reference", f"{folder}/ours")
            return reference, Ours.load(architecture, f"{folder}/ours")


def random_subject(name, library):
    config = preset(name, num_labels=3, **NO_DROPOUT)
    if library is PaddleNLP and config.model_type == "convbert":
        config = replace(config, classifier="pooled_mlp")
    kind = "ForMaskedLM" if name.endswith("-generator") else "ForSequenceClassification"
    return Subject(name, config, architecture_of(config, kind), library)


def stored_subjects(name, source, library, work, notes):
    """The Subject of a checkpoint of any format; of a joint one, two. Folders that are needed are made in `work`."""
    model, tokenizer = read_checkpoint(source)
    form, own, work = format_of(source), source, tempfile.mkdtemp(dir=work)
    if form != "paddle" or not Path(source, "config.json").is_file():
        own = f"{work}/paddle"
        model.save_pretrained(own)
        if tokenizer:
            tokenizer.save_pretrained(own)
    subjects = []
    for part in [model.discriminator, model.generator] if type(model).__name__ in JOINT else [model]:
        architecture, theirs, title = type(part).__name__, own, name
        if part is not model:
            title = f"{name}, {parity.head_name(architecture)}"
        encoder = architecture_of(part.config, "Model")
        fits = not library.obstacle(part.config, encoder)
        if reason := library.obstacle(part.config, architecture):
            notes.append(f"{title}: {reason}: compared with {'the encoder alone' if fits else 'numpy loops'}")
            if fits:
                architecture, part = encoder, read_checkpoint(source, backbone_only=True)[0]
        if library is HuggingFace and fits:
            as_it_is = form == "hf" and all(name == plain for name, plain in read_names(source).items())
            theirs = source if as_it_is else f"{work}/{architecture}"
            if not as_it_is:
                write_hugging_face(part, None, Path(theirs))
        subjects.append(Subject(title, part.config, architecture, library, own, theirs))
    return subjects
