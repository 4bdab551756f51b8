"""The picture of a pre-training run."""

from files.pictures import OTHERS, OURS, panels, write_picture


def draw_pretraining(state, path):
    """Losses, learning rate and accuracies of a pre-training run by step; `state` as run_pretrain.py keeps it."""
    picture, parts = panels(1, 4, (16, 3.4))
    titles = {"gen_loss": "generator: loss", "disc_loss": "discriminator: loss", "lr": "learning rate"}
    names = [*titles, ("gen_acc", "disc_acc", "disc_recall")]
    for panel, group in zip(parts[0], names, strict=True):
        panel.set_xlabel("step")
        single = isinstance(group, str)
        panel.set_title(titles[group] if single else "accuracies", fontsize=10)
        for number, name in enumerate([group] if single else group):
            for entries, style in ((state["log"], "-"), (state["evaluations"], "o--")):
                entries = [entry for entry in entries if name in entry]
                if not entries:
                    continue
                where = "training" if style == "-" else "held out"
                color = (OTHERS if style == "-" else OURS) if single else f"C{number}"
                label = where if single else f"{name}, {where}"
                panel.plot(
                    [e["step"] for e in entries], [e[name] for e in entries], style, ms=4, color=color, label=label
                )
        if panel.lines:
            beside = {} if single else dict(loc="center left", bbox_to_anchor=(1, 0.5))
            panel.legend(fontsize=8, frameon=False, **beside)
    write_picture(picture, path)
