"""How the learning rate rises and falls."""

import numpy as np
import paddle


def learning_rates(kind, highest, total_steps, warmup_steps, decay_in_warmup=False, decay_steps=None):
    """The scheduler that rises in a straight line over `warmup_steps` and then goes down to 0 at `total_steps`.

    Args:
        kind: "linear" falls in a straight line (PaddleNLP's LinearDecayWithWarmup), "cosine" in half a wave, "constant"
            not at all, "warmup_stable_decay" in a straight line over the last `decay_steps`: until these begin, a run
            does as a longer one does.
        decay_in_warmup: as in T, where the fall begins with the first step and warm-up is a factor on top.
        decay_steps: None: a tenth of all.
    """
    start = 0 if decay_in_warmup else warmup_steps
    if kind == "warmup_stable_decay":
        kind, start = "linear", max(0, total_steps - (decay_steps or -(-total_steps // 10)))
    fallen = {
        "linear": lambda share: 1.0 - share,
        "cosine": lambda share: 0.5 * (1.0 + np.cos(np.pi * share)),
        "constant": lambda share: 1.0,
    }[kind]

    def factor(step):
        rise = min(1.0, step / warmup_steps) if warmup_steps else 1.0
        return rise * fallen(min(1.0, max(0, step - start) / max(1, total_steps - start)))

    return paddle.optimizer.lr.LambdaDecay(highest, factor)
