"""The folder behind any source that a user may name: a folder, a published model, hf:OWNER/NAME, ms:OWNER/NAME."""

import atexit
import contextlib
import os

from conversion import tensorflow_checkpoint
from conversion.config_files import is_complete, require_type
from conversion.formats import convert, format_of
from conversion.paddlenlp_models import zoo_model
from family.configurations import PUBLISHED
from files import hub, model_scope
from files.downloads import shipped, zoo_file
from files.json_files import write_json
from files.temporary import temporary_folder
from layers.configuration import PRESETS

_copies = contextlib.ExitStack()  # the folders that are made here
atexit.register(_copies.close)


HUBS = {"hf": hub.fetch, "ms": model_scope.fetch}


def fetched(name):
    """The folder of "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION", downloaded once, or of ModelScope's, "ms:OWNER/NAME";
    anything else as it is."""
    place, colon, model = name.partition(":")
    return HUBS[place](model) if colon and place in HUBS else name


def locate(name):
    """The folder or file for any source a user may name; those on hubs and published models are downloaded once."""
    name = shipped(fetched(name))
    if name in PRESETS and not os.path.isdir(name):
        zoo_file(name, "vocab.txt")
        return str(zoo_file(name, "model_state.pdparams").parent)
    return zoo_folder(name) if name in PUBLISHED or _may_be_in_zoo(name) else name


def resolve(name, model_type="convbert"):
    """What `from_pretrained` of a model type can load for any source a user may name.

    Models on hubs ("hf:OWNER/NAME", "ms:OWNER/NAME"), Hugging Face's folders and TensorFlow checkpoints are converted
    into a folder that lives as long as this process, as does that of a BERT, ELECTRA or ERNIE of Paddle's model zoo;
    convbert-tiny is the folder that comes with the project; ConvBERT's other published names and folders in our format
    are returned as they are. A folder of PaddleNLP's whose config.json leaves sizes out is copied with them.
    """
    source = shipped(fetched(name))
    if not (os.path.isdir(source) or tensorflow_checkpoint.find(source)):
        if source in PRESETS:
            require_type(source, "convbert", model_type)
        if source in PRESETS or (model_type == "convbert" and source not in PUBLISHED):
            return source
        return zoo_folder(source, model_type)
    if format_of(source) == "paddle" and is_complete(source):
        return source
    output = str(_copies.enter_context(temporary_folder()) / "model")
    convert(source, output, model_type=model_type)
    return output


def zoo_folder(name, model_type=None, weights=True):
    """A folder with a model of Paddle's zoo: links to what was downloaded once, its configuration and its tokenizer's.

    weights: False leaves them out, and downloads none.
    """
    model = zoo_model(name, model_type)
    folder = _copies.enter_context(temporary_folder()) / "model"
    folder.mkdir()
    files = {"vocab.txt": model.vocabulary} | ({"model_state.pdparams": model.weights} if weights else {})
    for file, url in files.items():
        (folder / file).symlink_to(zoo_file(name, file, url).absolute())
    write_json(folder / "config.json", model.config)
    write_json(folder / "tokenizer_config.json", model.switches)
    return str(folder)


def _may_be_in_zoo(name):
    """Whether it is no path to something that is there, or that is plainly meant as one."""
    there = os.path.exists(name) or tensorflow_checkpoint.find(name)
    return not there and name == os.path.normpath(name) and not os.path.isabs(name) and name.count("/") <= 1
