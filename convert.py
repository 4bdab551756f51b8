"""Converts ConvBERT checkpoints between this project (= PaddleNLP), Hugging Face and the TensorFlow original.

    python convert.py --input FOLDER_OR_hf:OWNER/NAME --output FOLDER [--to paddle|hf]

The source's format is recognised by the names of its weights, which `weight_names.py` lists.
"""

import atexit
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import runtime  # noqa: F401  (before Paddle)
import tensorflow_checkpoint
from checkpoint_files import HUB_TIMEOUT, InputError, atomic_folder, shipped, zoo_file
from checkpoint_formats import format_of, read_checkpoint, write_hugging_face
from command_line import ArgumentParser, script
from configuration import PRESETS

logger = logging.getLogger("convbert")


def convert(source, output, to="paddle", backbone_only=False, dtype="float32"):
    """Converts the checkpoint `source` into the new folder `output`, whole or not at all.

    Configuration, label names, vocabulary and tokenizer settings come along.

    Args:
        to: "paddle" for this project and PaddleNLP, "hf" for Hugging Face.
        backbone_only: see read_checkpoint.
        dtype: of the stored weights, "float32" or, for "paddle" only, "float16".

    Returns:
        str: the name of the class in `modeling`.

    Raises:
        InputError: `output` holds something, or see read_checkpoint and hugging_face_obstacle.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: not empty; name a new folder")
    model, tokenizer = read_checkpoint(source, backbone_only)
    with atomic_folder(output) as folder:
        if to == "hf":
            try:
                write_hugging_face(model, tokenizer, folder)
            except InputError as error:
                raise InputError(f"{source}: {error}") from None
        else:
            model.save_pretrained(folder, dtype)
            if tokenizer:
                tokenizer.save_pretrained(folder)
    architecture = type(model).__name__
    if (
        to == "paddle"
        and architecture == "ConvBertForSequenceClassification"
        and model.config.classifier != "pooled_mlp"
    ):
        logger.warning("this project loads the head; PaddleNLP, whose own has a pooler, should load the encoder only")
    return architecture


HUB_FILES = ("*.json", "vocab.txt", "*.safetensors", "pytorch_model*.bin")


def fetch(name):
    """Folder with the files of "OWNER/NAME" on the Hugging Face hub, downloaded once. Raises InputError."""
    import huggingface_hub

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        return huggingface_hub.snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True)
    except (OSError, ValueError):
        pass  # not there yet
    try:
        urllib.request.urlopen(f"{endpoint}/api/models/{name}", timeout=HUB_TIMEOUT).close()
        return huggingface_hub.snapshot_download(name, allow_patterns=HUB_FILES, etag_timeout=HUB_TIMEOUT)
    except (OSError, ValueError) as error:
        raise InputError(f"hf:{name}: can't be had from {endpoint} ({error})") from None


def locate(name):
    """The folder or file for any source a user may name; "hf:OWNER/NAME" and published sizes are downloaded once."""
    if name.startswith("hf:"):
        return fetch(name.removeprefix("hf:"))
    name = shipped(name)
    if name in PRESETS and not os.path.exists(name):
        zoo_file(name, "vocab.txt")
        return str(zoo_file(name, "model_state.pdparams").parent)
    return name


def resolve(name):
    """What `from_pretrained` can load for any source a user may name.

    "hf:OWNER/NAME", Hugging Face's folders and TensorFlow checkpoints are converted into a folder that lives as long as
    this process; convbert-tiny is the folder that comes with the project; anything else is returned as it is.
    """
    source = locate(name) if name.startswith("hf:") else shipped(name)
    exists = os.path.isdir(source) or tensorflow_checkpoint.find(source)
    if not exists or format_of(source) == "paddle":
        return source
    output = tempfile.mkdtemp(prefix="convbert-")
    atexit.register(shutil.rmtree, output, ignore_errors=True)
    convert(source, output)
    return output


@script
def main(argv=None):
    parser = ArgumentParser(
        "Convert ConvBERT checkpoints between this project (= PaddleNLP), Hugging Face and TensorFlow."
    )
    parser.add_argument(
        "--input", required=True, help="checkpoint folder, hf:OWNER/NAME, or a published size such as convbert-small"
    )
    parser.add_argument("--output", required=True, help="new folder for the result")
    parser.add_argument("--to", choices=["paddle", "hf"], default="paddle", help="format of the result")
    parser.add_argument("--backbone_only", action="store_true", help="convert the encoder alone, without a head")
    parser.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32",
        help="type of the stored weights; float16, for --to paddle, halves the file",
    )  # fmt: skip
    parser.add_argument("--verify", action="store_true", help="run compare.py on the result, and delete it if it fails")
    args = parser.parse_args(argv)
    if args.to == "hf" and args.dtype != "float32":
        parser.error("--dtype float16 is for --to paddle; Hugging Face chooses the type when it loads")
    architecture = convert(locate(args.input), args.output, args.to, args.backbone_only, args.dtype)
    print(f"{args.input} → {args.output}: {architecture}", flush=True)
    if args.verify:
        joint = [folder for folder in ("discriminator", "generator") if (Path(args.output) / folder).is_dir()]
        for folder in joint or ["."]:
            script_file = Path(__file__).with_name("compare.py")
            done = subprocess.run([sys.executable, script_file, "--weights", Path(args.output) / folder], check=False)
            if done.returncode == 1:
                shutil.rmtree(args.output)
                print(f"{args.output}: removed, as it fails the comparison", file=sys.stderr)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
