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


def test_of_many_densities_those_with_room_are_written(drawn):
    axes = drawn({"imp": {0.8**k: Mean(0.5, None, 1) for k in range(21)}}, {})
    written = {text.get_text() for text in axes.get_xticklabels()} - {""}
    assert len(axes.get_xticks()) == 21
    assert 8 <= len(written) <= module.TICKS + 1
    assert "0.0115" in written


def test_the_axis_ends_where_accuracies_do(drawn):
    low, high = drawn({"a": {0.1: Mean(0.5, 3.0, 2), 0.5: Mean(0.9, 0.2, 2)}}, {}).get_ylim()
    assert (low, high) == (0.0, 101.0)
    low, high = drawn({"a": {0.1: Mean(0.7, 0.01, 2), 0.5: Mean(0.8, 0.01, 2)}}, {}).get_ylim()
    assert low > 60
    assert high < 85


def test_levels_and_lines_have_colors_of_their_own(drawn):
    axes = drawn(CURVES, LEVELS)
    assert (
        len({line.get_color() for line in axes.lines if line.get_label() == "dense" or len(line.get_xdata()) < 3}) == 3
    )
    assert axes.get_xlabel() == "weights remaining (density)"
