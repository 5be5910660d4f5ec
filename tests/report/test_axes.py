"""The axes of plots: numbers that read as such, and means that fill the height."""

import pytest

from supermask.report.plot import COLORS, colored, frame_accuracies, new_figure, plain_log


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ((800, 3000), {"1,000", "1,500", "2,000", "3,000"}),
        ((0.005, 0.3), {"0.005", "0.01", "0.02", "0.05", "0.1", "0.2"}),
        ((1, 1e6), {"1", "10", "100", "1,000", "10,000", "100,000", "1,000,000"}),
    ],
)
def test_a_logarithmic_axis_has_plain_numbers(values, written):
    figure, axes = new_figure()
    axes.plot(values, [1, 2])
    plain_log(axes)
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert axes.get_xscale() == "log"
    assert written <= {label.get_text() for place, label in shown if low <= place <= high}
    assert not any(label.get_text() for label in axes.get_xticklabels(minor=True))


@pytest.mark.parametrize(
    ("means", "half_widths", "least", "most"),
    [
        ((95.0, 97.0), (0.2, 400.0), (93.0, 95.0), (97.2, 99.0)),  # the range of the means is left free, not more
        ((99.5, 99.9), (0.1, 0.1), (98.0, 99.4), (100.0, 101.0)),
        ((2.0, 60.0), (90.0, 90.0), (0.0, 0.0), (90.0, 101.0)),
    ],
)
def test_intervals_that_are_longer_than_the_range_of_the_means_leave_the_plot(means, half_widths, least, most):
    _, axes = new_figure()
    for place, (mean, half_width) in enumerate(zip(means, half_widths, strict=True)):
        axes.errorbar([place], [mean], yerr=[half_width])
    frame_accuracies(axes)
    low, high = axes.get_ylim()
    assert least[0] <= low <= least[1]
    assert most[0] <= high <= most[1]


def test_a_plot_without_points_is_left_as_it_is():
    _, axes = new_figure()
    before = axes.get_ylim()
    frame_accuracies(axes)
    assert axes.get_ylim() == before


def test_more_items_than_colors_are_all_drawn():
    items = list(range(2 * len(COLORS) + 1))
    found = list(colored(items))
    assert [item for _, item in found] == items
    assert {color for color, _ in found} == set(COLORS)
