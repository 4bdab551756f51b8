"""paddlenlp's modules, and what Paddle's model zoo has, by this project's table of published models or paddlenlp's."""

import importlib
import importlib.util
from typing import NamedTuple

from conversion.config_files import require_type
from family.architectures import ARCHITECTURES, config_class
from family.configurations import PUBLISHED, preset
from files.errors import InputError


class ZooModel(NamedTuple):
    config: dict  # the content of its config.json
    switches: dict  # how its texts are normalised: those of text.tokenizer_files.SWITCHES that are known
    weights: str  # addresses
    vocabulary: str


def paddlenlp_module(module="transformers"):
    """The module paddlenlp.`module`. Raises InputError where it is absent or doesn't bear one of its dependencies."""
    try:
        return importlib.import_module(f"paddlenlp.{module}")
    except Exception as error:  # of any kind: what fails is the code of the dependency
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise InputError(
            f"paddlenlp can't be imported ({reason}); make setup installs versions that go together"
        ) from None


def zoo_model(name, model_type=None):
    """The ZooModel of a BERT, ELECTRA or ERNIE by its name, of any of these types or of one.

    Raises InputError where the zoo has no such model, naming where else it may be.
    """
    if entry := PUBLISHED.get(name):
        require_type(name, entry.model_type, model_type)
        if not entry.zoo:
            raise InputError(f"{name}: not in Paddle's model zoo; the Hugging Face hub has it as hf:{entry.hub}")
        return ZooModel(preset(name).to_dict(), {"do_lower_case": entry.do_lower_case}, entry.zoo, entry.vocabulary)
    hub = "hf:OWNER/NAME is a model on the Hugging Face hub"
    if importlib.util.find_spec("paddlenlp") is None:
        raise InputError(
            f"{name}: neither a folder nor one of {', '.join(PUBLISHED)}; the rest of Paddle's zoo needs paddlenlp "
            f"(make setup), and {hub}"
        )
    zoo = paddlenlp_module()
    for kind in (kind for kind in ARCHITECTURES if kind != "convbert"):
        prefix = ARCHITECTURES[kind].prefix
        tokenizer = getattr(zoo, f"{prefix}Tokenizer")
        tables = (
            getattr(zoo, f"{prefix}Config").pretrained_init_configuration, tokenizer.pretrained_init_configuration,
            getattr(zoo, f"{prefix}PretrainedModel").pretrained_resource_files_map["model_state"],
            tokenizer.pretrained_resource_files_map["vocab_file"],
        )  # fmt: skip
        if name not in tables[0]:
            continue
        require_type(name, kind, model_type)
        if not all(name in table for table in tables):
            raise InputError(f"{name}: Paddle's model zoo has no weights of it; {hub}")
        if name in zoo.ErnieTinyTokenizer.pretrained_resource_files_map["sentencepiece_model_file"]:
            raise InputError(f"{name}: its tokenizer cuts texts into words and sentence pieces, ours into WordPieces")
        config, switches, weights, vocabulary = (table[name] for table in tables)
        return ZooModel(config_class(kind).from_dict(config).to_dict(), switches, weights, vocabulary)
    raise InputError(f"{name}: neither a folder nor a model of Paddle's zoo; {hub}")
