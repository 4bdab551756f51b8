from training import curves
from training.curves import Curves


def test_a_picture_is_not_drawn_all_the_time(monkeypatch):
    drawn, now = [], [100.0]
    monkeypatch.setattr(curves.time, "time", lambda: now[0])
    figures = Curves(draw=lambda: drawn.append(now[0]))
    for now[0] in (101.0, 119.0, 121.0, 125.0, 142.0):
        figures.redraw()
    assert drawn == [121.0, 142.0]
    figures.close()
    assert len(drawn) == 3  # the last state is always drawn
    nothing = Curves()
    nothing.redraw()
    nothing.close()
