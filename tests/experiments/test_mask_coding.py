from dataclasses import replace

import numpy as np
import pytest

from experiments import mask_coding
from experiments.mask_coding import EXPERIMENT, Drawn, TrainedMasks, ratio
from experiments.measuring.mask_codes import CODES, Case, Code, constriction_version, measured
from supermask.runs import Job, SearchOptions
from supermask.training import Recipe

SMALL = Drawn((60, 50), 0.1)
JOB = Job(data="synthetic", recipe=Recipe(epochs=1, batch_size=100), search=SearchOptions(density=0.3))


def test_a_tiny_version_has_its_rows_and_its_plot(report):
    groups = len(EXPERIMENT.groups)
    tasks = [*(replace(SMALL, seed=i) for i in range(groups - 4)), Drawn((60, 40), 0.5, group=4)]
    tasks += [TrainedMasks(replace(JOB, seed=seed)) for seed in range(3)]
    shown = report(EXPERIMENT, tasks)
    assert len([line for line in shown.splitlines() if line.startswith("| random")]) == 12
    assert "2 of each 4" in shown


def test_a_drawn_mask_has_its_density_and_its_codes(tmp_path):
    result = SMALL.run(tmp_path, device="cpu", data_folder=None)
    assert result.entries == 3000
    assert 200 < result.kept < 400
    assert result.codes["packed"].bytes == 375
    assert ratio(result, "ours") == pytest.approx(1, abs=0.03)
    assert "ours, seed known" not in result.codes
    assert ("constriction" in result.codes) == (constriction_version() is not None)


def test_groups_keep_as_many_each():
    mask = Drawn((60, 40), 0.5, group=4)._mask()
    assert (mask.reshape(-1, 4).sum(1) == 2).all()


def test_the_masks_of_a_search_take_less_where_the_seed_is_known(tmp_path):
    result = TrainedMasks(JOB).run(tmp_path, device="cpu", data_folder=None)
    assert ratio(result, "ours, seed known") < 0.7 < ratio(result, "ours")
    assert result.ticket_bytes > result.codes["ours, seed known"].bytes


def test_a_code_that_does_not_give_its_mask_back_is_found_out():
    wrong = Code(CODES["packed"].encode, lambda data, case: ~case.mask)
    with pytest.raises(AssertionError, match="did not give its mask back"):
        measured([Case(np.ones((3, 3), bool))], wrong)


def test_constriction_is_left_out_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(mask_coding, "constriction_version", lambda: None)
    assert set(mask_coding._compared([Case(SMALL._mask())]).codes) == {"ours", "packed", "zlib", "lzma"}
