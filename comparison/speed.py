"""What benchmark.py measured: operations, floors, ratios, as JSON, Markdown and a picture."""

import runtime

import numpy as np

from comparison.peers import MASKED_SHARE
from cpu.machine import processor_name
from family.configurations import preset
from files.pictures import OTHERS, OURS, panels, write_picture
from pretraining.masking import most_masked

SST2_SENTENCES = 67_349  # in its training set


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
    convolves = config.model_type == "convbert"
    width = config.heads_of_each_kind * config.head_size if convolves else hidden
    layer = hidden * 3 * width  # query, key, value
    if convolves:
        layer += hidden * 2 * width  # convolution value, pointwise convolution
        layer += width * config.heads_of_each_kind * config.conv_kernel_size  # kernels
        layer += width * hidden  # the convolution's half of the output
    layer += width * hidden  # output
    layer += 2 * hidden * inner // config.num_groups  # feed-forward
    layer += 2 * length * width  # scores, context
    project = config.embedding_size * hidden if config.embedding_size != hidden else 0
    return 2 * rows * (config.num_hidden_layers * layer + project)


def summarise(args, peers, seconds, memory, peaks):
    """The content of --json."""
    config = preset(args.model)
    shape = args.batch_size, args.seq_length
    flops = {"infer": matrix_flops(config, *shape), "train": 3 * matrix_flops(config, *shape)}
    notes = []
    if "pretrain" in args.modes:
        from comparison.hugging_face_pretraining import nearest_generator

        generator = preset(f"{args.model}-generator")
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

    machine = {"processor": processor_name(), "cores": runtime.cores(), "rounds": args.rounds}
    ratios = dict(ratios=ratios_to("ours"), ratios_bf16=ratios_to("ours-bf16"))
    tokens = args.batch_size * args.seq_length
    per_token = {mode: operations / tokens for mode, operations in flops.items() if mode in args.modes}
    return dict(machine=machine, peak_gflops=peaks, flops_per_token=per_token, runs=runs, notes=notes, **ratios)


def speed_table(figures):
    """The figures as Markdown."""
    peaks = ", ".join(f"{value:.0f} GFLOP/s {key}" for key, value in figures["peak_gflops"].items())
    lines = [f"{figures['machine']['processor']}, {figures['machine']['cores']} cores; matrix products: {peaks}"]
    operations = [f"{mode} {flops / 1e6:.1f} million" for mode, flops in figures["flops_per_token"].items()]
    lines += ["operations of all products, a token: " + ", ".join(operations)] * bool(operations)
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


def draw_speed(figures, path):
    """Bars of the median time of every implementation, one panel per mode; `figures` as summarise gives them."""
    modes = list(figures["ratios"])
    picture, parts = panels(1, len(modes), (5.2 * len(modes), 3.2))
    for panel, mode in zip(parts[0], modes, strict=True):
        runs = [run for run in figures["runs"] if run["mode"] == mode]
        runs.sort(key=lambda run: run["median_s"], reverse=True)  # the fastest on top
        seconds = [run.get("epoch_s", run["median_s"]) for run in runs]
        colors = [OURS if run["peer"].startswith("ours") else OTHERS for run in runs]
        bars = panel.barh([run["peer"] for run in runs], seconds, color=colors)
        panel.bar_label(bars, [f"{value:.0f} s" if value >= 100 else f"{value:.2f} s" for value in seconds], padding=3)
        panel.set_xlim(0, 1.18 * max(seconds))
        names = dict(
            infer="forward pass", train="training step", pretrain="step of pre-training", glue="epoch of SST-2"
        )
        what = names[mode]
        shape = f"{runs[0]['batch']}" + (f" × {runs[0]['seq']}" if runs[0]["seq"] else "")
        panel.set_title(f"{runs[0]['model']}: {what}, batch {shape}", fontsize=10)
    machine = figures["machine"]
    picture.text(0.01, 0.01, f"{machine['processor']}, {machine['cores']} cores; less is better", fontsize=8)
    write_picture(picture, path, bottom=0.05)
