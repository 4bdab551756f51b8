"""BERT, ELECTRA and ERNIE classifiers through paddlenlp: by name, from its folders and from Hugging Face's.

paddlenlp reads Hugging Face's BERT and ELECTRA itself but has no mapping for ERNIE; the table for it is here.
"""

import contextlib
import importlib
import os
import re
from pathlib import Path

import numpy as np

from files.downloads import require_host
from files.errors import InputError
from files.json_files import read_json_object, write_json
from files.temporary import temporary_folder
from files.weights import is_hugging_face, read_stored, release_memory, with_plain_names, write_safetensors

FAMILIES = {"bert": "Bert", "electra": "Electra", "ernie": "Ernie"}
ZOO_HOST = "https://bj.bcebos.com"  # where paddlenlp downloads from

ERNIE_LAYER = {  # a part of Hugging Face's layer → paddlenlp's
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}


def paddlenlp_module(module="transformers"):
    """The module paddlenlp.`module`. Raises InputError where it is absent or doesn't bear one of its dependencies."""
    try:
        return importlib.import_module(f"paddlenlp.{module}")
    except Exception as error:  # of any kind: what fails is the code of the dependency
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise InputError(
            f"paddlenlp can't be imported ({reason}); make setup installs versions that go together"
        ) from None


def load_paddlenlp_classifier(model_type, source, labels, vocab_size, start="nothing"):
    """A `…ForSequenceClassification` of paddlenlp.

    Args:
        model_type: "bert", "electra" or "ernie".
        source: a name of paddlenlp's model zoo, its folder, or a Hugging Face folder.
        labels: the names of the classes in order; None for a regression.
        vocab_size: number of entries of a model that starts at random.
        start: what does so: "everything", taking only the configuration of `source`; "head"; "misfit", the head
            if there is none; "nothing".

    Raises:
        InputError: the source can't be had, or doesn't fit.
    """
    zoo = paddlenlp_module()
    model_class = getattr(zoo, f"{FAMILIES[model_type]}ForSequenceClassification")
    names = dict(enumerate(labels or ["LABEL_0"]))
    settings = dict(num_labels=len(names), id2label=names, label2id={name: index for index, name in names.items()})
    settings["use_cache"] = False  # with a cache paddlenlp's BERT returns a tuple
    if start != "nothing":
        settings["problem_type"] = None  # what is trained is told by the number of labels
    settings["ignore_mismatched_sizes"] = start == "head"
    with contextlib.ExitStack() as stack:
        stack.enter_context(_one_line_errors(source))
        config = {"architectures": [f"{FAMILIES[model_type]}Model"]}
        if os.path.isdir(source):
            config |= read_json_object(Path(source) / "config.json")
        listed = isinstance(config.get("id2label"), list)  # which paddlenlp doesn't read; the names are given anew
        config = {key: value for key, value in config.items() if key not in ("id2label", "label2id")}
        if start == "everything":
            del settings["ignore_mismatched_sizes"]
            if listed:
                copy = stack.enter_context(temporary_folder())
                write_json(copy / "config.json", config)
            folder = copy if listed else source
            return model_class(model_class.config_class.from_pretrained(folder, vocab_size=vocab_size, **settings))
        stored = read_stored(source) if os.path.isdir(source) else {}
        weights = with_plain_names(stored, source)
        if weights and start == "nothing" and not any(name.startswith("classifier.") for name in weights):
            raise InputError(f"{source}: no head for this here (classifier); train one first")
        theirs = is_hugging_face(weights)
        samples = [array for name, array in weights.items() if _SAMPLES.search(name)]
        if not theirs and weights.keys() == stored.keys() and not listed:
            del stored, weights
            return _with_head(model_class.from_pretrained(source, **settings), start, samples, source)
        copy = stack.enter_context(temporary_folder())  # paddlenlp writes into the folder it converts
        if theirs and model_type == "ernie":
            weights, theirs = _ernie_weights(weights, source), False
        elif theirs:  # paddlenlp takes from this name whether there is a prefix before the encoder's names
            config["architectures"] = [model_class.__name__]
            bare = (name for name in weights if name.startswith(("embeddings", "encoder.", "pooler.")))
            weights |= {f"{model_type}.{name}": weights.pop(name) for name in list(bare)}
        write_safetensors(copy / "model.safetensors", weights, "pt" if theirs else "np")
        write_json(copy / "config.json", config)
        del stored, weights
        model = model_class.from_pretrained(copy, convert_from_torch=theirs, **settings)
        return _with_head(model, start, samples, source)


_SAMPLES = re.compile(r"word_embeddings\.weight$|encoder\.layers?\.0\..*(query|q_proj)\.weight$")  # of an encoder


def _with_head(model, start, samples, source):
    """samples: arrays of the source's encoder, which the model must have, as paddlenlp only warns of what it lacks."""
    release_memory()
    for name, weight in model.state_dict().items() if os.path.isdir(source) else ():
        if _SAMPLES.search(name):
            own = weight.astype("float32").numpy()
            both = [array for sample in samples for array in (sample, sample.T) if array.shape == own.shape]
            if not any(np.allclose(own, array, atol=1e-3) for array in both):
                raise InputError(f"{source}: does not fit {type(model).__name__}: {name} is not in its weights")
    if start == "head":
        model.classifier.apply(model._init_weights)
    return model


def save_zoo_vocabulary(model_type, name, folder):
    """Writes the vocab.txt and tokenizer_config.json of a model of paddlenlp's zoo into `folder`."""
    zoo = paddlenlp_module()
    with _one_line_errors(name):
        getattr(zoo, f"{FAMILIES[model_type]}Tokenizer").from_pretrained(name).save_pretrained(folder)


def _ernie_weights(weights, source):
    converted = {}
    for name, array in weights.items():
        if name.endswith("position_ids"):  # a buffer: 0, 1, 2, …
            continue
        layer = re.fullmatch(r"(.*encoder\.layer)\.(\d+)\.(.+)\.(weight|bias)", name)
        if layer:
            start, number, part, kind = layer.groups()
            if part not in ERNIE_LAYER:
                raise InputError(f"{source}: unknown key {name}: not an ERNIE that paddlenlp can hold")
            name = f"{start}s.{number}.{ERNIE_LAYER[part]}.{kind}"
        name = name.replace("embeddings.LayerNorm", "embeddings.layer_norm")
        converted[name] = array.T if array.ndim == 2 and "embeddings." not in name else array
    return converted


@contextlib.contextmanager
def _one_line_errors(source):
    paddlenlp_module("utils.log").logger.set_level("WARNING")  # else a line for every file that is read or written
    cached = Path(paddlenlp_module("utils.env").MODEL_HOME) / source
    try:
        if not os.path.isdir(source) and not (cached.is_dir() and any(cached.iterdir())):
            require_host(ZOO_HOST)  # paddlenlp itself would wait for ever
        yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{source}: no folder that paddlenlp reads, nor to be had from its zoo ({reason})") from None
