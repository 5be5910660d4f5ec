"""Modules of transformers, timm and torchvision: tickets are whole, and masks move in every layer that is used."""

from importlib.util import find_spec

import pytest

from experiments.measuring.module_catalog import SUBJECTS
from experiments.measuring.module_trial import Trial

UNUSED = {
    "transformers: DebertaV2Model": {"encoder.rel_embeddings.weight"},  # no attention to positions is asked for
}
SMALL = 0.85
"""Least share of the parameters that is masked; Mamba has its state matrices beside the weights."""


@pytest.mark.parametrize("subject", [subject for subject in SUBJECTS if subject.name == "squeezenet1_1"], ids=str)
def test_a_module_of_torchvision(subject):
    _check(subject)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of other packages
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_module_of_another_package(subject):
    if find_spec(subject.package) is None:
        pytest.skip(f"{subject.package} is not installed")
    _check(subject)


def _check(subject):
    result = Trial(subject).measure()
    assert result.equal
    assert result.masked > SMALL
    still = {*result.still} - UNUSED.get(str(subject), set())
    # biases of relative positions and maps between heads have a handful of weights, which ten steps may not reorder
    assert len(still) <= 1, still


def test_the_catalog_has_sixty_modules_of_three_packages():
    assert len({str(subject) for subject in SUBJECTS}) == len(SUBJECTS) >= 60
    assert {subject.package for subject in SUBJECTS} == {"transformers", "timm", "torchvision"}
