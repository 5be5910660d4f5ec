import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supermask.errors import SupermaskError
from supermask.masking.schedule import Constant, CubicRamp

DENSITY = st.floats(0.0, 1.0)
STEPS = st.integers(1, 1000)


@given(st.integers(0, 1000), DENSITY)
def test_a_constant_schedule_is_at_the_end_from_the_start(step, final):
    assert Constant().density(step, final) == final


@given(STEPS, DENSITY, DENSITY, st.integers(0, 1000))
def test_the_ramp_is_that_of_zhu_and_gupta(steps, initial, final, step):
    """Their eq. 1 in sparsities: s_t = s_f + (s_i - s_f) (1 - t / n)^3, then constant."""
    left = (1 - min(step, steps) / steps) ** 3
    sparsity = (1 - final) + ((1 - initial) - (1 - final)) * left
    assert CubicRamp(steps, initial).density(step, final) == pytest.approx(1 - sparsity, abs=1e-12)


@given(STEPS, DENSITY, DENSITY, st.integers(0, 100))
def test_the_ramp_begins_near_its_start_and_ends_exactly(steps, initial, final, after):
    ramp = CubicRamp(steps, initial)
    assert ramp.density(0, final) == pytest.approx(initial, abs=1e-15)
    assert ramp.density(steps + after, final) == final


@given(STEPS, DENSITY, DENSITY)
def test_the_ramp_is_monotone_and_stays_between_its_ends(steps, initial, final):
    densities = [CubicRamp(steps, initial).density(step, final) for step in range(min(steps, 50) + 1)]
    assert densities == sorted(densities, reverse=initial >= final)
    assert all(min(initial, final) - 1e-15 <= density <= max(initial, final) + 1e-15 for density in densities)
    assert all(0.0 <= density <= 1.0 for density in densities)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_ramp_takes_a_step_at_least(steps):
    with pytest.raises(SupermaskError, match=rf"CubicRamp\(steps={steps}\) is too short"):
        CubicRamp(steps)


@pytest.mark.parametrize("initial", [-0.1, 1.5, math.nan])
def test_a_ramp_starts_at_a_density(initial):
    with pytest.raises(SupermaskError, match=r"CubicRamp\.initial=.* is out of range"):
        CubicRamp(10, initial)
