"""How the learning rate rises and falls."""

import numpy as np
import paddle


def learning_rates(kind, highest, total_steps, warmup_steps, decay_in_warmup=False):
    """The scheduler that rises in a straight line over `warmup_steps` and then goes down to 0 at `total_steps`.

    Args:
        kind: "linear" falls in a straight line (PaddleNLP's LinearDecayWithWarmup), "cosine" in half a wave, "constant"
            not at all.
        decay_in_warmup: as in T, where the fall begins with the first step and warm-up is a factor on top.
    """
    fallen = {
        "linear": lambda share: 1.0 - share,
        "cosine": lambda share: 0.5 * (1.0 + np.cos(np.pi * share)),
        "constant": lambda share: 1.0,
    }[kind]
    start = 0 if decay_in_warmup else warmup_steps

    def factor(step):
        rise = min(1.0, step / warmup_steps) if warmup_steps else 1.0
        return rise * fallen(min(1.0, max(0, step - start) / max(1, total_steps - start)))

    return paddle.optimizer.lr.LambdaDecay(highest, factor)
