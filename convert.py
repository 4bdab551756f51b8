"""Converts checkpoints between this project (= PaddleNLP) and Hugging Face, and those of the TensorFlow originals.

    python convert.py --input FOLDER_OR_hf:OWNER/NAME --output FOLDER [--to paddle|hf]

ConvBERT, BERT, ELECTRA and ERNIE; the source's architecture and format are recognised by its config.json and by the
names of its weights, which `conversion/weight_names.py` lists.
"""

import runtime  # noqa: F401  (before Paddle)

import logging
import shutil
import subprocess
import sys
from pathlib import Path

from conversion.formats import convert
from conversion.sources import locate
from flags.command_line import ArgumentParser, script

logger = logging.getLogger("convbert")


@script
def main(argv=None):
    parser = ArgumentParser(
        "Convert checkpoints of ConvBERT, BERT, ELECTRA and ERNIE between this project (= PaddleNLP) and Hugging Face, "
        "and those of the first three from their TensorFlow code."
    )
    parser.add_argument(
        "--input", required=True,
        help="checkpoint folder or file, hf:OWNER/NAME or hf:OWNER/NAME@REVISION (ms: for ModelScope's), or a "
        "published model such as convbert-small or bert-base-uncased",
    )  # fmt: skip
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
    architecture = convert(locate(args.input), args.output, args.to, args.backbone_only, args.dtype, name=args.input)
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
