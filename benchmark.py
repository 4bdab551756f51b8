"""Speed and memory of this project's models beside Hugging Face's and PaddleNLP's, all in one run.

    python benchmark.py --modes infer train

Every implementation runs in a process of its own, and they take turns: times on a shared machine are only comparable
within a run, as ratios. The floor is the time of the model's matrix products alone, at the speed of a product of two
2048 × 2048 matrices measured in the same run. The best peer is the fastest of the others whose products have the same
type.
"""

import sys
from pathlib import Path

import numpy as np

from comparison.peer import TEXT_LENGTH
from comparison.peer_process import PEAK_SIZE, PeerProcess
from comparison.peers import PEERS, can
from comparison.served import CONNECTIONS
from comparison.speed import speed_table, summarise
from cpu.machine import has_bfloat16, has_int8
from family.configurations import PRESETS
from files.json_files import write_json
from flags.command_line import FLAG, ArgumentParser, add_overwrite, at_least, is_picture, require_new, script

EXPORTS = ["ours-paddle", "ours-onnx", "ours-onnx-int8"]  # programs by export.py, which only infer
SAMPLES = Path(__file__).parent / "samples"


def parse_args(argv):
    parser = ArgumentParser("Measure a model's speed and memory beside other implementations of it.")
    what = parser.add_argument_group("what to measure")
    published = [name for name in PRESETS if not name.endswith("-generator")]
    what.add_argument("--model", default="convbert-small", choices=published, help="model size")
    what.add_argument("--batch_size", type=at_least(1), default=32, help="sequences in a batch")
    what.add_argument("--seq_length", type=at_least(1), default=128, help="tokens in a sequence")
    what.add_argument(
        "--modes", nargs="+", default=["infer", "train"],
        choices=["infer", "train", "pretrain", "glue", "latency", "serve"],
        help="a forward pass; a training step; a step of pre-training; training on SST-2's sentences from raw text; a "
        f"forward pass of one text of {TEXT_LENGTH} tokens; requests to serve.py, from "
        f"{' and '.join(map(str, CONNECTIONS))} connections",
    )  # fmt: skip
    others = [name for name in PEERS if not name.startswith("ours")]
    what.add_argument(
        "--peers", nargs="+", default=others, choices=others,
        help="to compare with; OpenVINO runs what export.py makes of ours; what is not installed is left out",
    )  # fmt: skip
    what.add_argument(
        "--exports", action=FLAG, default=True,
        help="with --modes infer or latency, also run what export.py makes of ours",
    )  # fmt: skip
    what.add_argument("--rounds", type=at_least(1), default=5, help="turns of every implementation")

    data = parser.add_argument_group("data, for --modes glue and serve")
    data.add_argument(
        "--data_dir", default=str(SAMPLES), help="folder with SST-2's train.tsv, for glue, and dev.tsv, for serve"
    )
    data.add_argument("--vocab_file", default=str(SAMPLES / "vocab.txt"), help="vocabulary of its sentences")
    data.add_argument("--sentences", type=at_least(1), default=1600, help="sentences in a turn, at most")

    output = parser.add_argument_group("output")
    output.add_argument("--json", help="file for all figures")
    output.add_argument("--plot", help="file for a bar chart of all modes but serve")
    add_overwrite(output)
    args = parser.parse_args(argv)
    if args.plot and not is_picture(args.plot):
        parser.error("--plot takes a .png or .svg")
    if args.plot and set(args.modes) == {"serve"}:
        parser.error("--plot draws nothing of --modes serve")
    require_new(args.overwrite, json=args.json, plot=args.plot)
    if "pretrain" in args.modes and f"{args.model}-generator" not in PRESETS:
        parser.error(f"--modes pretrain: {args.model} has no generator")
    return args


# -------------------------------------------------------------------------------------------------------------- figures


def measure(args, peers):
    """Runs all rounds. Returns (mode, peer) → its answers, and precision → GFLOP/s."""
    answers, products = {}, {}
    for mode in args.modes:
        able = [peer for peer in peers if can(peer.name, mode)]
        for round_ in range(args.rounds):
            for peer in able:
                print(f"\r{mode}: round {round_ + 1} of {args.rounds}, {peer.name:<16}", end="", file=sys.stderr)
                answers.setdefault((mode, peer.name), []).append(peer.ask(mode))
                products.setdefault(peer.precision, []).extend(peer.ask("peak")["seconds"] or [])
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    peaks = {key: 2 * PEAK_SIZE**3 / np.median(times) / 1e9 for key, times in products.items() if times}
    return answers, peaks


@script
def main(argv=None):
    args = parse_args(argv)
    peers = []
    try:
        own = ["ours", *["ours-bf16"] * has_bfloat16(), *["ours-int8"] * has_int8()]
        own += EXPORTS if args.exports else []
        for name in [*own, *args.peers]:
            if not any(can(name, mode) for mode in args.modes):
                continue
            peers.append(PeerProcess(name, vars(args)))
            if peers[-1].missing:
                print(f"{name}: left out, {peers[-1].missing}", file=sys.stderr)
                peers.pop().close()
        figures = summarise(args, *measure(args, peers))
    finally:
        for peer in peers:
            peer.close()
    print(speed_table(figures))
    if args.json:
        write_json(args.json, figures)
    if args.plot:
        from comparison.speed import draw_speed

        draw_speed(figures, args.plot)


if __name__ == "__main__":
    sys.exit(main())
