"""The folder behind any source that a user may name: a folder, a published size, hf:OWNER/NAME."""

import atexit
import contextlib
import os

from conversion import tensorflow_checkpoint
from conversion.formats import convert, format_of
from files.downloads import fetch, shipped, zoo_file
from files.temporary import temporary_folder
from layers.configuration import PRESETS

_copies = contextlib.ExitStack()  # the folders that resolve made
atexit.register(_copies.close)


def fetched(name):
    """The folder of "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION", downloaded once; anything else as it is."""
    return fetch(name.removeprefix("hf:")) if name.startswith("hf:") else name


def locate(name):
    """The folder or file for any source a user may name; "hf:OWNER/NAME" and published sizes are downloaded once."""
    name = shipped(fetched(name))
    if name in PRESETS and not os.path.isdir(name):
        zoo_file(name, "vocab.txt")
        return str(zoo_file(name, "model_state.pdparams").parent)
    return name


def resolve(name):
    """What `from_pretrained` can load for any source a user may name.

    "hf:OWNER/NAME", Hugging Face's folders and TensorFlow checkpoints are converted into a folder that lives as long as
    this process; convbert-tiny is the folder that comes with the project; anything else is returned as it is.
    """
    source = shipped(fetched(name))
    exists = os.path.isdir(source) or tensorflow_checkpoint.find(source)
    if not exists or format_of(source) == "paddle":
        return source
    output = str(_copies.enter_context(temporary_folder()) / "model")
    convert(source, output)
    return output
