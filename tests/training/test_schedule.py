import numpy as np
import pytest

from training.schedule import learning_rates


def test_the_schedule():
    schedule = learning_rates("linear", 1e-4, total_steps=100, warmup_steps=10)
    rates = []
    for _ in range(101):
        rates.append(schedule.get_lr())
        schedule.step()
    assert rates[0] == 0
    assert rates[5] == pytest.approx(5e-5)
    assert rates[10] == max(rates) == pytest.approx(1e-4)
    assert rates[55] == pytest.approx(5e-5)
    assert rates[100] == 0
    assert learning_rates("linear", 1e-4, 10, 0).get_lr() == 1e-4


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append(schedule.get_lr())
        schedule.step()
    return found


def test_other_schedules():
    cosine = rates(learning_rates("cosine", 1.0, 100, 20), 101)
    assert cosine[10] == pytest.approx(0.5)
    assert cosine[20] == max(cosine) == 1
    assert cosine[60] == pytest.approx(0.5)
    assert cosine[40] == pytest.approx((1 + 2**-0.5) / 2)
    assert cosine[100] == pytest.approx(0)
    constant = rates(learning_rates("constant", 1.0, 100, 20), 101)
    assert constant[10] == pytest.approx(0.5)
    assert constant[20:] == [1] * 81
    stable = rates(learning_rates("warmup_stable_decay", 1.0, 100, 20, decay_steps=40), 101)
    assert stable[10] == pytest.approx(0.5)
    assert stable[20:61] == [1] * 41
    assert stable[70] == pytest.approx(0.75)
    assert stable[100] == 0
    longer = rates(learning_rates("warmup_stable_decay", 1.0, 200, 20, decay_steps=40), 101)
    assert longer[:61] == stable[:61]
    assert rates(learning_rates("warmup_stable_decay", 1.0, 100, 20), 101)[90:92] == pytest.approx([1, 0.9])
    assert rates(learning_rates("warmup_stable_decay", 1.0, 100, 80, decay_steps=40), 101)[70] == pytest.approx(
        0.75 * 70 / 80
    )


def test_the_original_s_schedule_falls_during_warm_up():
    """google-research/electra, model/optimization.py: polynomial decay of the rate, times min(1, step / warm-up)."""
    found = rates(learning_rates("linear", 1.0, 100, 10, decay_in_warmup=True), 101)
    expected = [(1 - step / 100) * min(1, step / 10) for step in range(101)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
