import numpy as np
import pytest

from theory import laws


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figure that was last saved."""
    saved = []
    monkeypatch.setattr("theory.laws.plot.save_figure", lambda figure, path: saved.append(figure.axes[0]))
    return saved


def failures():
    return {float(n): laws.clopper_pearson(k, 50) for n, k in ((4, 50), (6, 20), (8, 0))}


def test_a_failure_curve_has_its_intervals_and_its_bound(drawn, tmp_path):
    laws.plot_failures({"measured": failures()}, tmp_path / "p.png", "title", bounds={"bound": {4.0: 1.0, 8.0: 0.2}})
    (axes,) = drawn
    points, bars = axes.containers[0].lines[0], axes.containers[0].lines[2][0]
    assert points.get_xydata().tolist() == [[4, 1], [6, 0.4], [8, 0]]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [(p.low, p.high) for p in failures().values()], atol=1e-12)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["bound", "measured"]
    assert axes.lines[-1].get_xydata().tolist() == [[4, 1], [8, 0.2]]


@pytest.mark.parametrize("x_scale", ["linear", "log"])
def test_a_slope_is_drawn_and_named(x_scale, drawn, tmp_path):
    """The series is exact, 3 2^(-2x) or 3 x^-2 for every draw, so that the line goes through all of its medians."""
    places = np.array([4.0, 8.0, 16.0])
    exact = 3 * (2.0 ** (-2 * places) if x_scale == "linear" else places**-2)
    series = {"Malach": {x: np.full(20, y) for x, y in zip(places.tolist(), exact, strict=True)}}
    laws.plot_slopes(series, tmp_path / "p.png", "title", x_scale=x_scale)
    (axes,) = drawn
    assert axes.get_legend().get_texts()[0].get_text() == "Malach: slope -2.000 (-2.000 to -2.000)"
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), exact)
    assert (axes.get_xscale(), axes.get_yscale()) == (x_scale, "log")


def test_plots_are_equal_for_equal_results(tmp_path):
    series = {"a": {n: np.random.default_rng(0).exponential(size=30) for n in (4.0, 8.0)}}
    for name in "ab":
        laws.plot_failures({"measured": failures()}, tmp_path / f"{name}.failures", "title")
        laws.plot_slopes(series, tmp_path / f"{name}.slopes", "title")
    for kind in ("failures", "slopes"):
        first = (tmp_path / f"a.{kind}").read_bytes()
        assert first.startswith(b"\x89PNG")
        assert first == (tmp_path / f"b.{kind}").read_bytes()
