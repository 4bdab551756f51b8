"""Speed and memory of this project's ConvBERT beside Hugging Face's and PaddleNLP's, all in one run.

    python benchmark.py --modes infer train

Every implementation runs in a process of its own, and they take turns: times on a shared machine are only comparable
within a run, as ratios. The floor is the time of the model's matrix products alone, at the speed of a product of two
2048 × 2048 matrices measured in the same run.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from checkpoint_files import write_json
from command_line import ArgumentParser, script
from configuration import PRESETS, ConvBertConfig
from masking import most_masked
from onednn import has_bfloat16
from peer_process import PEAK_SIZE, PeerProcess
from peers import MASKED_SHARE, PEERS

SST2_SENTENCES = 67_349  # in its training set
EXPORTS = ["ours-paddle", "ours-onnx", "ours-onnx-int8"]  # programs by export.py, which only infer
SAMPLES = Path(__file__).parent / "samples"


def parse_args(argv):
    parser = ArgumentParser("Measure ConvBERT's speed and memory beside other implementations.")
    what = parser.add_argument_group("what to measure")
    published = [name for name in PRESETS if not name.endswith("-generator")]
    what.add_argument("--model", default="convbert-small", choices=published, help="model size")
    what.add_argument("--batch_size", type=int, default=32, help="sequences in a batch")
    what.add_argument("--seq_length", type=int, default=128, help="tokens in a sequence")
    what.add_argument(
        "--modes", nargs="+", default=["infer", "train"], choices=["infer", "train", "pretrain", "glue"],
        help="a forward pass; a training step; a step of pre-training; training on SST-2's sentences from raw text",
    )  # fmt: skip
    others = [name for name in PEERS if not name.startswith("ours")]
    what.add_argument("--peers", nargs="+", default=others, choices=others, help="to compare with")
    what.add_argument(
        "--exports", action=argparse.BooleanOptionalAction, default=True,
        help="with --modes infer, also run what export.py makes of ours",
    )  # fmt: skip
    what.add_argument("--rounds", type=int, default=5, help="turns of every implementation")

    data = parser.add_argument_group("data, for --modes glue")
    data.add_argument("--data_dir", default=str(SAMPLES), help="folder with SST-2/train.tsv")
    data.add_argument("--vocab_file", default=str(SAMPLES / "vocab.txt"), help="vocabulary of its sentences")
    data.add_argument("--sentences", type=int, default=1600, help="sentences in a turn")

    output = parser.add_argument_group("output")
    output.add_argument("--json", help="file for all figures")
    output.add_argument("--plot", help="file for a bar chart")
    args = parser.parse_args(argv)
    for name in ("batch_size", "seq_length", "rounds", "sentences"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(args, name)}")
    return args


# -------------------------------------------------------------------------------------------------------------- figures


def matrix_flops(config, batch_size, length):
    """Floating-point operations of all matrix products of one forward pass of the classifier."""
    head = batch_size * config.hidden_size * (config.hidden_size + config.num_labels)
    return encoder_flops(config, batch_size, length) + 2 * head


def pretraining_flops(config, generator_config, batch_size, length):
    """The same of generator and discriminator, the generator's words at masked positions only."""
    masked, rows = batch_size * most_masked(length, MASKED_SHARE), batch_size * length
    words = masked * config.embedding_size * (generator_config.hidden_size + config.vocab_size)
    replaced = rows * config.hidden_size * (config.hidden_size + 1)
    return sum(encoder_flops(c, batch_size, length) for c in (config, generator_config)) + 2 * (words + replaced)


def encoder_flops(config, batch_size, length):
    rows, hidden, inner = batch_size * length, config.hidden_size, config.intermediate_size
    width = config.heads_of_each_kind * config.head_size
    layer = hidden * 4 * width  # query, key, value, convolution value
    layer += hidden * width  # pointwise convolution
    layer += width * config.heads_of_each_kind * config.conv_kernel_size  # kernels
    layer += 2 * width * hidden  # output
    layer += 2 * hidden * inner // config.num_groups  # feed-forward
    layer += 2 * length * width  # scores, context
    project = config.embedding_size * hidden if config.embedding_size != hidden else 0
    return 2 * rows * (config.num_hidden_layers * layer + project)


def measure(args, peers):
    """Runs all rounds. Returns (mode, peer) → seconds of every step, the same → megabytes, precision → GFLOP/s."""
    seconds, memory, products = {}, {}, {}
    for mode in args.modes:
        for round_ in range(args.rounds):
            for peer in peers:
                if not hasattr(PEERS[peer.name], "epoch" if mode == "glue" else mode):
                    continue
                print(f"\r{mode}: round {round_ + 1} of {args.rounds}, {peer.name:<16}", end="", file=sys.stderr)
                answer = peer.ask(mode)
                seconds.setdefault((mode, peer.name), []).extend(answer["seconds"])
                memory[mode, peer.name] = max(memory.get((mode, peer.name), 0), answer["rss_mb"])
                products.setdefault(peer.precision, []).extend(peer.ask("peak")["seconds"] or [])
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    peaks = {key: 2 * PEAK_SIZE**3 / np.median(times) / 1e9 for key, times in products.items() if times}
    return seconds, memory, peaks


def report(args, peers, seconds, memory, peaks):
    """The content of --json."""
    import runtime

    config = ConvBertConfig.from_preset(args.model)
    shape = args.batch_size, args.seq_length
    flops = {"infer": matrix_flops(config, *shape), "train": 3 * matrix_flops(config, *shape)}
    notes = []
    if "pretrain" in args.modes:
        from hugging_face_pretraining import nearest_generator

        generator = ConvBertConfig.from_preset(f"{args.model}-generator")
        flops["pretrain"] = 3 * pretraining_flops(config, generator, *shape)
        nearest = nearest_generator(generator)
        if nearest != generator:
            heads = generator.num_attention_heads, nearest.num_attention_heads
            notes.append("pretrain: ours has the published generator, of {} head; Hugging Face's has {}".format(*heads))
    runs = []
    for (mode, name), times in seconds.items():
        precision = next(peer.precision for peer in peers if peer.name == name)
        run = dict(peer=name, mode=mode, model=args.model, batch=args.batch_size, seq=args.seq_length)
        run |= dict(median_s=float(np.median(times)), min_s=min(times), rss_mb=round(memory[mode, name]))
        if mode == "glue":
            run |= dict(seq=None, tokens_per_s=None, floor_s=None, epoch_s=run["median_s"] * SST2_SENTENCES)
        else:
            run["tokens_per_s"] = args.batch_size * args.seq_length / run["median_s"]
            run["floor_s"] = flops[mode] / peaks[precision] / 1e9 if precision in peaks else None
        runs.append(run)

    def ratios_to(own):
        ratios = {}
        for mode in args.modes:
            medians = {run["peer"]: run["median_s"] for run in runs if run["mode"] == mode}
            others = {name: median for name, median in medians.items() if own in medians and name != own}
            ratios[mode] = {name: median / medians[own] for name, median in others.items()}
        return ratios

    machine = {"processor": runtime.processor_name(), "cores": runtime.cores(), "rounds": args.rounds}
    ratios = dict(ratios=ratios_to("ours"), ratios_bf16=ratios_to("ours-bf16"))
    return dict(machine=machine, peak_gflops=peaks, runs=runs, notes=notes, **ratios)


def table(figures):
    """The figures as Markdown."""
    peaks = ", ".join(f"{value:.0f} GFLOP/s {key}" for key, value in figures["peak_gflops"].items())
    lines = [f"{figures['machine']['processor']}, {figures['machine']['cores']} cores; matrix products: {peaks}"]
    for mode, ratios in figures["ratios"].items():
        runs = [run for run in figures["runs"] if run["mode"] == mode]
        shape = f"{runs[0]['batch']} × {runs[0]['seq']}" if mode != "glue" else f"batch {runs[0]['batch']}"
        unit = "s per SST-2 epoch" if mode == "glue" else "s per step"
        what = f"{mode}, {runs[0]['model']}, {shape}"
        low = figures["ratios_bf16"][mode]
        columns = [what, unit, "tokens/s", "peak MB", "× floor", "ours is faster"] + ["ours-bf16 is faster"] * bool(low)
        lines += ["", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
        for run in runs:
            time_ = f"{run['epoch_s']:.0f}" if mode == "glue" else f"{run['median_s']:.3f}"
            tokens = f"{run['tokens_per_s']:,.0f}" if run["tokens_per_s"] else ""
            floor = f"{run['median_s'] / run['floor_s']:.2f}" if run["floor_s"] else ""
            ratio = f"{ratios[run['peer']]:.2f} ×" if run["peer"] in ratios else ""
            line = f"| {run['peer']} | {time_} | {tokens} | {run['rss_mb']:,} | {floor} | {ratio} |"
            if low:
                line += f" {low[run['peer']]:.2f} × |" if run["peer"] in low else " |"
            lines.append(line)
    lines += ["", *figures["notes"]] if figures["notes"] else []
    return "\n".join(lines)


@script
def main(argv=None):
    args = parse_args(argv)
    peers = []
    try:
        own = ["ours", "ours-bf16"] if has_bfloat16() else ["ours"]
        own += EXPORTS if args.exports and "infer" in args.modes else []
        for name in [*own, *args.peers]:
            peers.append(PeerProcess(name, vars(args)))
            if peers[-1].missing:
                print(f"{name}: left out, {peers[-1].missing} is not installed", file=sys.stderr)
                peers.pop().close()
        figures = report(args, peers, *measure(args, peers))
    finally:
        for peer in peers:
            peer.close()
    print(table(figures))
    if args.json:
        write_json(args.json, figures)
    if args.plot:
        from figures import draw_speed

        draw_speed(figures, args.plot)


if __name__ == "__main__":
    sys.exit(main())
