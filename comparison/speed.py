"""What benchmark.py measured: operations, floors, ratios, as JSON, Markdown and a picture."""

import runtime

import numpy as np

from comparison.peer import MASKED_SHARE, TEXT_LENGTH
from comparison.peers import PEERS
from cpu.machine import processor_name
from family.configurations import preset
from files.pictures import OTHERS, OURS, panels, write_picture
from pretraining.masking import most_masked

SST2_SENTENCES = 67_349  # in its training set
TIMES = {  # of every mode but "serve": what a picture calls it, and two columns of its table
    "infer": ("forward pass", "s per step", "tokens/s"),
    "train": ("training step", "s per step", "tokens/s"),
    "pretrain": ("step of pre-training", "s per step", "tokens/s"),
    "glue": ("epoch of SST-2", "s per SST-2 epoch", "tokens/s"),
    "latency": ("one text", "p50, ms", "p99, ms"),
}

RATIOS = {"ratios": "ours", "ratios_bf16": "ours-bf16"}  # in --json: peer → how many times faster that one of ours is


def matrix_flops(config, batch_size, length):
    """Floating-point operations of all matrix products of one forward pass of the classifier."""
    head = batch_size * config.hidden_size * (config.hidden_size + config.num_labels)
    return encoder_flops(config, batch_size, length) + 2 * head


def pretraining_flops(config, generator_config, batch_size, length):
    """The same of generator and discriminator, the generator's words at masked positions only."""
    replaced = batch_size * length * config.hidden_size * (config.hidden_size + 1)
    return (
        filling_flops(generator_config, batch_size, length) + encoder_flops(config, batch_size, length) + 2 * replaced
    )


def filling_flops(config, batch_size, length):
    """The same of a model that fills masked words, which are told at masked positions only."""
    masked = batch_size * most_masked(length, MASKED_SHARE)
    words = masked * config.embedding_size * (config.hidden_size + config.vocab_size)
    return encoder_flops(config, batch_size, length) + 2 * words


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


def summarise(args, answers, peaks):
    """The content of --json. answers: (mode, peer) → what its PeerProcess answered in every round."""
    runs = []
    for (mode, name), turns in answers.items():
        run = dict(peer=name, mode=mode, model=args.model, batch=args.batch_size, seq=args.seq_length)
        if mode == "serve":
            runs += [run | of_server for of_server in _server_runs(turns)]
        else:
            runs.append(run | _run(args, mode, PEERS[name].precision, turns, peaks))
    notes = []
    if "pretrain" in args.modes:
        from comparison.hugging_face_pretraining import nearest_generator

        generator = preset(f"{args.model}-generator")
        nearest = nearest_generator(generator)
        if nearest != generator:
            heads = generator.num_attention_heads, nearest.num_attention_heads
            notes.append("pretrain: ours has the published generator, of {} head; Hugging Face's has {}".format(*heads))
    machine = {"processor": processor_name(), "cores": runtime.cores(), "rounds": args.rounds}
    modes = [mode for mode in args.modes if mode in TIMES]
    per_token = {mode: _flops(args, mode) / _tokens(args, mode) for mode in modes if mode != "glue"}
    ratios = {name: {mode: _ratios(runs, mode, own) for mode in modes} for name, own in RATIOS.items()}
    best = {mode: _best_peers(runs, mode) for mode in modes}
    figures = dict(machine=machine, peak_gflops=peaks, flops_per_token=per_token, runs=runs, notes=notes)
    return dict(**figures, **ratios, best_peers=best)


def _run(args, mode, precision, turns, peaks):
    """The figures of a peer in a mode."""
    times = [seconds for turn in turns for seconds in turn["seconds"]]
    run = dict(median_s=float(np.median(times)), min_s=min(times), rss_mb=round(max(turn["rss_mb"] for turn in turns)))
    if mode == "glue":
        return run | dict(seq=None, tokens_per_s=None, floor_s=None, epoch_s=run["median_s"] * SST2_SENTENCES)
    run["tokens_per_s"] = _tokens(args, mode) / run["median_s"]
    run["floor_s"] = _flops(args, mode) / peaks[precision] / 1e9 if precision in peaks else None
    if mode == "latency":
        run |= dict(batch=1, seq=TEXT_LENGTH)
        run |= {f"p{share}_ms": 1000 * float(np.percentile(times, share)) for share in (50, 99)}
    return run


def _server_runs(turns):
    """The figures of every number of connections: medians of the rounds, and all their errors."""
    for loads in zip(*(turn["loads"] for turn in turns), strict=True):
        found = {key: float(np.median([load[key] for load in loads])) for key in ("requests_per_s", "p50_ms", "p99_ms")}
        found |= dict(connections=loads[0]["connections"], errors=sum(load["errors"] for load in loads))
        found |= dict(batch=None, seq=None, tokens_per_s=None, floor_s=None, min_s=None)
        memory = [turn["rss_mb"] for turn in turns]
        found["rss_mb"] = None if None in memory else round(max(memory))
        yield found | dict(median_s=found["p50_ms"] / 1000)


def _tokens(args, mode):
    return TEXT_LENGTH if mode == "latency" else args.batch_size * args.seq_length


def _flops(args, mode):
    """Of the matrix products of a step."""
    config, shape = preset(args.model), (args.batch_size, args.seq_length)
    if mode == "latency":
        return matrix_flops(config, 1, TEXT_LENGTH)
    if mode == "pretrain":
        return 3 * pretraining_flops(config, preset(f"{args.model}-generator"), *shape)
    return matrix_flops(config, *shape) * (3 if mode == "train" else 1)


def _ratios(runs, mode, own):
    """Peer → how many times faster `own` is."""
    medians = {run["peer"]: run["median_s"] for run in runs if run["mode"] == mode}
    return {name: median / medians[own] for name, median in medians.items() if own in medians and name != own}


def _best_peers(runs, mode):
    """Ours → the fastest of the others with products of the same type, and how many times faster ours is."""
    medians = {run["peer"]: run["median_s"] for run in runs if run["mode"] == mode}
    best = {}
    for own in (name for name in medians if PEERS[name].ours):
        precision = PEERS[own].precision
        others = [name for name in medians if not PEERS[name].ours and PEERS[name].precision == precision]
        if others:
            fastest = min(others, key=medians.get)
            best[own] = {"peer": fastest, "ratio": medians[fastest] / medians[own]}
    return best


def speed_table(figures):
    """The figures as Markdown."""
    peaks = ", ".join(f"{value:.0f} GFLOP/s {key}" for key, value in figures["peak_gflops"].items())
    lines = [f"{figures['machine']['processor']}, {figures['machine']['cores']} cores; matrix products: {peaks}"]
    operations = [f"{mode} {flops / 1e6:.1f} million" for mode, flops in figures["flops_per_token"].items()]
    lines += ["operations of all products, a token: " + ", ".join(operations)] * bool(operations)
    for mode in figures["ratios"]:
        lines += ["", *_mode_table(figures, mode)]
    served = [run for run in figures["runs"] if run["mode"] == "serve"]
    lines += ["", *_server_table(served)] if served else []
    lines += ["", *figures["notes"]] if figures["notes"] else []
    return "\n".join(lines)


def _mode_table(figures, mode):
    runs = [run for run in figures["runs"] if run["mode"] == mode]
    shape = f"{runs[0]['batch']} × {runs[0]['seq']}" if mode != "glue" else f"batch {runs[0]['batch']}"
    low, best = figures["ratios_bf16"][mode], figures["best_peers"][mode]
    columns = [f"{mode}, {runs[0]['model']}, {shape}", *TIMES[mode][1:], "peak MB", "× floor", "ours is faster"]
    columns += ["ours-bf16 is faster"] * bool(low) + ["best peer"] * bool(best)
    yield _row(columns)
    yield "| --- " * len(columns) + "|"
    for run in runs:
        if mode == "latency":
            times = f"{run['p50_ms']:.2f}", f"{run['p99_ms']:.2f}"
        else:
            tokens = f"{run['tokens_per_s']:,.0f}" if run["tokens_per_s"] else ""
            times = f"{run['epoch_s']:.0f}" if mode == "glue" else f"{run['median_s']:.3f}", tokens
        floor = f"{run['median_s'] / run['floor_s']:.2f}" if run["floor_s"] else ""
        cells = [run["peer"], *times, f"{run['rss_mb']:,}", floor, _factor(figures["ratios"][mode].get(run["peer"]))]
        cells += [_factor(low.get(run["peer"]))] * bool(low)
        if best:
            found = best.get(run["peer"])
            cells.append(f"{found['peer']}: {_factor(found['ratio'])}" if found else "")
        yield _row(cells)


def _server_table(runs):
    columns = f"serve, {runs[0]['model']}", "connections", "requests/s", "p50, ms", "p99, ms", "errors", "peak MB"
    yield _row(columns)
    yield "| --- " * len(columns) + "|"
    for run in runs:
        times = f"{run['requests_per_s']:.1f}", f"{run['p50_ms']:.1f}", f"{run['p99_ms']:.1f}"
        memory = f"{run['rss_mb']:,}" if run["rss_mb"] else ""
        yield _row([run["peer"], str(run["connections"]), *times, str(run["errors"]), memory])


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _factor(ratio):
    return f"{ratio:.2f} ×" if ratio else ""


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
        panel.bar_label(bars, list(map(_label, seconds)), padding=3)
        panel.set_xlim(0, 1.18 * max(seconds))
        shape = f"{runs[0]['batch']}" + (f" × {runs[0]['seq']}" if runs[0]["seq"] else "")
        panel.set_title(f"{runs[0]['model']}: {TIMES[mode][0]}, batch {shape}", fontsize=10)
    machine = figures["machine"]
    picture.text(0.01, 0.01, f"{machine['processor']}, {machine['cores']} cores; less is better", fontsize=8)
    write_picture(picture, path, bottom=0.05)


def _label(seconds):
    if seconds >= 100:
        return f"{seconds:.0f} s"
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"
