"""The table of architectures: model type, which is also the encoder's name in files → its configuration and classes."""

import importlib
from typing import NamedTuple

from family.configurations import CONFIGURATIONS
from files.errors import InputError


class Architecture(NamedTuple):
    module: str  # with the classes, imported when one is asked for
    prefix: str  # of their names


ARCHITECTURES = {
    "convbert": Architecture("modeling", "ConvBert"),
    "bert": Architecture("family.bert", "Bert"),
    "electra": Architecture("family.electra", "Electra"),
    "ernie": Architecture("family.ernie", "Ernie"),
}
MODEL_TYPES = tuple(ARCHITECTURES)


def config_class(model_type):
    """Raises InputError for a model type that isn't in the table."""
    return CONFIGURATIONS[_known(model_type)]


def model_class(model_type, kind):
    """The class of a model type, e.g. of "bert" and "ForMaskedLM". Raises InputError where it has no such class."""
    module, prefix = ARCHITECTURES[_known(model_type)]
    found = getattr(importlib.import_module(module), prefix + kind, None)
    if found is None:
        raise InputError(f"{CONFIGURATIONS[model_type].title} has no {prefix}{kind}")
    return found


def class_named(name):
    """The class of any architecture by its name, e.g. "ElectraDiscriminator"; None where there is none."""
    model_type = type_of_class(name)
    return model_type and getattr(importlib.import_module(ARCHITECTURES[model_type].module), name, None)


def type_of_class(name):
    """The model type of a class by its name, ours or another library's; None where it is of no architecture here."""
    return next((kind for kind, (_, prefix) in ARCHITECTURES.items() if name.startswith(prefix)), None)


def _known(model_type):
    if model_type not in ARCHITECTURES:
        raise InputError(f"model type {model_type!r} is none of {', '.join(ARCHITECTURES)}")
    return model_type
