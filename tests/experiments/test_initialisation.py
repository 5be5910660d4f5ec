from dataclasses import replace

import pytest

from experiments.initialisation import EXPERIMENT, MaskCounts, _range
from supermask.baselines import SNIP, MagnitudeAtInitialisation, RandomUniform, SynFlow


def cells(shown, label):
    return [cell.strip() for cell in next(r for r in shown.splitlines() if r.startswith(f"| {label}")).split("|")[2:-1]]


def test_a_tiny_version_has_its_rows_and_its_plot(report):
    chosen = {
        "lenet_300_100, synflow": MaskCounts(SynFlow(iterations=2), "lenet_300_100", "synthetic", critical=False),
        "lenet_300_100, magnitude_init": MaskCounts(MagnitudeAtInitialisation(), "lenet_300_100", "synthetic"),
        "resnet20, snip": MaskCounts(SNIP(batch=5), "lenet_300_100", "synthetic"),
        "resnet20, random_uniform": MaskCounts(RandomUniform(), "lenet_300_100", "synthetic"),
    }
    groups = tuple(group for group in EXPERIMENT.groups if group.label in chosen)
    shown = report(replace(EXPERIMENT, groups=groups), list(chosen.values()))
    assert cells(shown, "lenet_300_100, synflow")[7:9] == ["-", "16,733"]
    assert cells(shown, "lenet_300_100, magnitude_init")[0] == "5,020 / 502 / 50"
    uniform = cells(shown, "resnet20, random_uniform")
    assert uniform[1:7] == ["100", "10", "1", "0", "0", "0"]
    assert int(uniform[7].replace(",", "")) > 1000


def test_the_measured_counts_are_those_of_the_masks(tmp_path):
    task = MaskCounts(SynFlow(iterations=2), "lenet_300_100", "synthetic")
    result = task.run(tmp_path, device="cpu", data_folder=None)
    assert {ratio: sum(kept.values()) for ratio, kept in result.kept.items()} == {10: 5020, 100: 502, 1000: 50}
    assert result.critical == result.maximal == pytest.approx(50200 / 3)
    assert list(result.sizes.values()) == [19200, 30000, 1000]


def test_a_range_names_its_ends_or_its_only_number():
    assert _range([3, 1, 2]) == "1 to 3"
    assert _range(iter([1200, 1200])) == "1,200"
