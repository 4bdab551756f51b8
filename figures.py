"""Every picture the project draws. Each function writes one PNG or SVG file, by the ending of its name."""

OURS, OTHERS = "#0b6e4f", "#a9b4c2"


def draw_speed(figures, path):
    """Bars of the median time of every implementation, one panel per mode; `figures` as benchmark.report gives them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    modes = list(figures["ratios"])
    picture, panels = pyplot.subplots(1, len(modes), figsize=(5.2 * len(modes), 3.2), squeeze=False)
    for panel, mode in zip(panels[0], modes, strict=True):
        runs = [run for run in figures["runs"] if run["mode"] == mode]
        runs.sort(key=lambda run: run["median_s"], reverse=True)  # the fastest on top
        seconds = [run.get("epoch_s", run["median_s"]) for run in runs]
        colors = [OURS if run["peer"].startswith("ours") else OTHERS for run in runs]
        bars = panel.barh([run["peer"] for run in runs], seconds, color=colors)
        panel.bar_label(bars, [f"{value:.0f} s" if value >= 100 else f"{value:.2f} s" for value in seconds], padding=3)
        panel.set_xlim(0, 1.18 * max(seconds))
        what = {"infer": "forward pass", "train": "training step", "glue": "epoch of SST-2"}[mode]
        shape = f"{runs[0]['batch']}" + (f" × {runs[0]['seq']}" if runs[0]["seq"] else "")
        panel.set_title(f"{runs[0]['model']}: {what}, batch {shape}", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    machine = figures["machine"]
    picture.text(0.01, 0.01, f"{machine['processor']}, {machine['cores']} cores; less is better", fontsize=8)
    picture.tight_layout(rect=(0, 0.05, 1, 1))
    picture.savefig(path, dpi=120)
    pyplot.close(picture)


def draw_layers(models, path):
    """Lines of the largest and the mean difference after each layer; `models`: name → parity.layers' findings."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    picture, panel = pyplot.subplots(figsize=(7.5, 4))
    for number, (name, findings) in enumerate(models.items()):
        for what, values, style in (
            ("largest", [finding.max for finding in findings], "o-"),
            ("mean", [finding.mean for finding in findings], ".:"),
        ):
            panel.plot(values, style, color=f"C{number}", label=f"{name}, {what}")
    longest = max(models.values(), key=len)
    panel.set_xticks(range(len(longest)), ["emb.", *range(len(longest) - 1)])
    allowed = longest[0].allowed
    for limit, words in ((allowed, "allowed"), (allowed / 10, "allowed for the mean")):
        panel.axhline(limit, color="black", lw=0.6)
        panel.text(len(longest) - 1, limit * 1.05, words, fontsize=8, ha="right", va="bottom")
    panel.set_yscale("log")
    panel.set_ylim(top=allowed * 2)
    panel.set_xlabel("after layer")
    panel.set_ylabel("|difference|")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, ncols=min(3, len(models)), loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    picture.tight_layout()
    picture.savefig(path, dpi=120)
    pyplot.close(picture)
