"""Random chains and graphs, all domains, norms and dtypes: no error above `upper`, no `lower` above what there is.

The search of the test knows nothing of the certificate's: it goes through the modules, and it starts elsewhere.
"""

import collections
import copy

import pytest
import torch
from random_targets import drawn, inside, run_apart, search

from theory import ascent, construct
from theory.domains import Around, Ball, Box, Nonnegative


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr(ascent, "STEPS", 8)
    monkeypatch.setattr(ascent, "STARTS", 24)


@pytest.fixture
def tried(monkeypatch):
    """Returns the inputs on which `lower` was measured last."""
    inputs = []

    def difference(target, network, x, norm, *, measure=ascent._difference):
        inputs.append(x)
        return measure(target, network, x, norm)

    monkeypatch.setattr(ascent, "_difference", difference)
    return inputs


def check(seed, tried):
    """Build the target of a seed, attack its certificate, and return the case and how near the search came."""
    case = drawn(seed)
    built = construct(
        case.target, input_shape=case.shape, domain=case.domain, norm=case.norm, dtype=case.dtype, seed=seed,
        progress=False, **case.options,
    )  # fmt: skip
    certificate = built.certificate
    found = search(case, built.network)
    assert found <= certificate.upper, f"seed {seed}: {found} is above {certificate.upper}"
    assert certificate.lower <= certificate.upper, f"seed {seed}: {certificate.lower} is above {certificate.upper}"
    x = tried[-1]
    assert bool(inside(case.domain, x, case.norm).all()), f"seed {seed}: an input of lower is outside of the domain"
    there = float(run_apart(case.target, built.network, x, case.norm, case.dtype).max()) if len(x) else 0.0
    # batch norm rounds otherwise where it was folded
    of_target = copy.deepcopy(case.target).to(case.dtype)
    with torch.no_grad():
        read = built.target(x).double() - of_target(x).double() if len(x) else torch.zeros(1, 1)
    assert abs(certificate.lower - there) <= float(read.flatten(1).norm(dim=1).max()) * 1.001 + 1e-12 * there
    return case, found / certificate.upper if certificate.upper > 0.0 else 0.0


@pytest.mark.parametrize("seed", range(24))
def test_no_error_of_a_random_target_is_above_its_certificate(seed, tried):
    check(seed, tried)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_nor_is_one_of_a_thousand(part, tried):
    for seed in range(100 * part, 100 * part + 100):
        check(seed, tried)


def test_targets_of_all_kinds_are_drawn():
    cases = [drawn(seed) for seed in range(300)]
    kinds = collections.Counter(kind for case in cases for kind in case.kinds)
    assert len(kinds) == 15
    assert min(kinds.values()) >= 10
    for domain in (Ball, Nonnegative, Box, Around):
        for norm in ("l2", "linf"):
            for dtype in (torch.float64, torch.float32, torch.bfloat16):
                assert any(
                    type(case.domain) is domain and case.norm == norm and case.dtype is dtype for case in cases
                ), (domain, norm, dtype)
