""""""

import math
import sys

from files.errors import InputError

SKIPPED_IN_A_ROW = 10  # steps with a loss that is no number, after which a run gives up


def is_number(loss, step, state, last):
    """Whether a step's loss is a number. If not, that is said and counted in `state`; too often in a row ends the run.

    Args:
        state: the run's, with `skipped_steps`, `skipped_in_a_row` and the `step` that was saved last.
        last: the folder that holds what was saved.
    """
    if math.isfinite(loss):
        state["skipped_in_a_row"] = 0
        return True
    state["skipped_steps"] += 1
    state["skipped_in_a_row"] += 1
    print(f"warning: the loss of step {step} is {loss}: step skipped", file=sys.stderr)
    if state["skipped_in_a_row"] == SKIPPED_IN_A_ROW:
        kept = f"{last} holds step {state['step']}" if state["step"] else "nothing was saved yet"
        raise InputError(f"the loss was no number in {SKIPPED_IN_A_ROW} steps, up to step {step}; {kept}")
    return False
