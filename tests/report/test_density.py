"""The plot of accuracy by density: what is drawn where."""

import pytest

from supermask.report import Mean
from supermask.report import density as module

CURVES = {
    "a": {0.5: Mean(0.9, 0.01, 3), 0.0: Mean(0.1, None, 1), 0.1: Mean(0.8, None, 1)},
    "b": {0.1: Mean(0.7, 0.02, 2)},
}
LEVELS = {"dense": Mean(0.95, 0.01, 3)}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return a function that draws and gives the axes back."""

    def draw(curves, levels):
        figures = []
        monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure))
        module.plot_accuracy_by_density(curves, levels, tmp_path / "plot.png", "title")
        return figures[0].axes[0]

    return draw


def test_a_line_per_label_over_a_logarithmic_axis_and_a_level_for_what_has_no_density(drawn):
    axes = drawn(CURVES, LEVELS)
    assert axes.get_xscale() == "log"
    assert list(axes.get_xticks()) == [0.1, 0.5]
    first, second = (container.lines[0] for container in axes.containers)
    assert first.get_xydata().tolist() == [[0.1, 80.0], [0.5, 90.0]], "in order, and without density 0"
    assert second.get_xydata().tolist() == [[0.1, 70.0]]
    bars = [segment.tolist() for segment in axes.containers[0].lines[2][0].get_segments()]
    assert [end[1] for end in bars[1]] == pytest.approx([89.0, 91.0])
    level = next(line for line in axes.lines if line.get_label() == "dense")
    assert set(level.get_ydata()) == {95.0}
    assert level.get_linestyle() == "--"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["dense", "a", "b"]


def test_levels_alone_are_drawn(drawn):
    assert drawn({}, LEVELS).get_xscale() == "linear"


def test_many_lines_are_told_apart_by_color_and_marker_together(drawn):
    axes = drawn({str(number): {0.1: Mean(0.5, None, 1)} for number in range(20)}, {})
    looks = {(container.lines[0].get_color(), container.lines[0].get_marker()) for container in axes.containers}
    assert len(looks) == 20
