import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supermask.errors import SupermaskError
from theory import bounds
from theory.bounds.statement import Statement, states

SMALL = st.floats(1e-6, 0.4)
PROBABILITY = st.floats(1e-6, 0.999)
CONSTANT = st.floats(0.1, 20)
DIMENSIONS = st.lists(st.integers(1, 64), min_size=2, max_size=5)

# what each sufficient bound is called with: a function of (epsilon, failure, constant)
SUFFICIENT = {
    "lueker_items": lambda e, f, c: bounds.lueker_items(e, f, constant=c),
    "malach_pairs": lambda e, f, c: bounds.malach_pairs(e, f),
    "malach_products": lambda e, f, c: bounds.malach_products(e, f),
    "malach_widths": lambda e, f, c: sum(bounds.malach_widths((3, 4, 2), e, f)),
    "pensia_items": lambda e, f, c: bounds.pensia_items(8, 5, 3, e, f, constant=c),
    "pensia_widths": lambda e, f, c: sum(bounds.pensia_widths((3, 4, 2), e, f, constant=c)),
    "pensia_parameters": lambda e, f, c: bounds.pensia_parameters((3, 4, 2), e, f, constant=c),
    "orseau_neurons_per_weight": lambda e, f, c: bounds.orseau_neurons_per_weight(e, constant=c),
    "cunha_channels": lambda e, f, c: sum(bounds.cunha_channels((3, 4, 2), (5, 3), e, f, constant=c)),
    "cunha_parameters": lambda e, f, c: bounds.cunha_parameters((3, 4, 2), (5, 3), e, f, constant=c),
    "burkholz_widths": lambda e, f, c: sum(bounds.burkholz_widths((3, 4, 2), e, f, constant=c)),
    "burkholz_parameters": lambda e, f, c: bounds.burkholz_parameters((3, 4, 2), e, f, constant=c),
    "natale_items": lambda e, f, c: bounds.natale_items(40, e, constant=c),
    "natale_widths": lambda e, f, c: sum(bounds.natale_widths((3, 4, 2), e, 0.2, constant=c)),
}
NECESSARY = {
    "information_items": lambda e: bounds.information_items(e),
    "packing_parameters": lambda e: bounds.packing_parameters(6, e),
    "packing_parameters_at_density": lambda e: bounds.packing_parameters_at_density(6, e, 0.1),
    "natale_parameters": lambda e: bounds.natale_parameters(6, 40, min(e, 0.06)),
}


def test_every_bound_says_what_it_is():
    functions = {name for name in bounds.__all__ if inspect.isfunction(getattr(bounds, name))}
    assert functions - {"binary_entropy", "parameter_count"} == set(bounds.STATEMENTS)
    for name, statement in bounds.STATEMENTS.items():
        text = inspect.getdoc(getattr(bounds, name))
        assert any(word in text for word in ("Proven", "Claimed")), name
        assert all(word in text for word in ("Fitted:", "Measured:", "Args:", "Returns:")), name
        assert statement.source
        assert statement.quoted
        assert statement.unit
        assert statement.constant_known == ("for some constant" not in text), name


def test_every_bound_is_checked_below():
    directions = {"sufficient": set(SUFFICIENT), "necessary": {*NECESSARY, "information_success"}}
    for direction, names in directions.items():
        assert names == {name for name, s in bounds.STATEMENTS.items() if s.direction == direction}


def test_an_open_constant_must_be_asked_for():
    open_constant = Statement("paper", "quoted", "items", "sufficient", constant_known=False)
    with pytest.raises(TypeError, match="must ask for `constant`"):
        states(open_constant)(lambda epsilon, *, constant=1.0: 0)
    with pytest.raises(TypeError, match="constant"):
        bounds.lueker_items(0.01, 0.01)
    assert len([s for s in bounds.STATEMENTS.values() if not s.constant_known]) == 12


@pytest.mark.parametrize("name", SUFFICIENT)
@given(epsilon=SMALL, failure=PROBABILITY, constant=CONSTANT, less=st.floats(0.01, 1))
def test_a_harder_task_never_needs_less(name, epsilon, failure, constant, less):
    bound = SUFFICIENT[name]
    needed = bound(epsilon, failure, constant)
    assert isinstance(needed, int)
    assert needed >= 1
    assert bound(epsilon * less, failure, constant) >= needed
    assert bound(epsilon, failure * less, constant) >= needed
    assert bound(epsilon, failure, constant * less) <= needed


@pytest.mark.parametrize("name", NECESSARY)
@given(epsilon=SMALL, less=st.floats(0.01, 1))
def test_a_smaller_error_is_never_excluded_less(name, epsilon, less):
    bound = NECESSARY[name]
    assert isinstance(bound(epsilon), int)
    assert bound(epsilon * less) >= bound(epsilon) >= 0


@given(DIMENSIONS, SMALL, PROBABILITY, CONSTANT, st.data())
def test_a_larger_target_never_needs_less(dimensions, epsilon, failure, constant, data):
    place = data.draw(st.integers(0, len(dimensions) - 1))
    larger = [d + (i == place) for i, d in enumerate(dimensions)]
    deeper = [*dimensions, dimensions[-1]]
    kernels = [3] * (len(dimensions) - 1)
    for bound in (
        lambda d: bounds.malach_widths(d, epsilon, failure),
        lambda d: bounds.pensia_widths(d, epsilon, failure, constant=constant),
        lambda d: bounds.burkholz_widths(d, epsilon, failure, constant=constant),
        lambda d: bounds.cunha_channels(d, [3] * (len(d) - 1), epsilon, failure, constant=constant),
    ):
        small = bound(dimensions)
        assert len(small) == len(dimensions) - 1
        assert all(a <= b for a, b in zip(small, bound(larger), strict=True))
        assert all(a <= b for a, b in zip(small, bound(deeper), strict=False))
    narrow = bounds.cunha_channels(dimensions, [1] * len(kernels), epsilon, failure, constant=constant)
    wide = bounds.cunha_channels(dimensions, kernels, epsilon, failure, constant=constant)
    assert all(a <= b for a, b in zip(narrow, wide, strict=True))


@given(st.integers(1, 40), SMALL, PROBABILITY, st.floats(0.01, 1))
def test_packing_grows_with_width_probability_and_sparsity(width, epsilon, probability, density):
    needed = bounds.packing_parameters(width, epsilon, probability=probability)
    assert bounds.packing_parameters(width + 1, epsilon, probability=probability) >= needed
    assert bounds.packing_parameters(width, epsilon, probability=probability / 2) <= needed
    sparse = bounds.packing_parameters_at_density(width, epsilon, density, probability=probability)
    assert sparse >= needed
    assert bounds.packing_parameters_at_density(width, epsilon, density / 2, probability=probability) >= sparse


def test_known_values():
    assert bounds.information_items(0.01) == 6  # log2(50) = 5.64
    assert bounds.information_items(0.005, length=0.5) == 6
    assert bounds.information_success(3, 0.01) == pytest.approx(0.16)
    # d^2 log2(1 / (2 eps)) - 1 = 211.6, 1443.8 and 5778.3
    assert [bounds.packing_parameters(d, e) for d, e in ((8, 0.05), (16, 0.01), (32, 0.01))] == [212, 1444, 5779]
    assert bounds.packing_parameters(1, 0.6) == 0
    assert bounds.packing_parameters_at_density(8, 0.05, 0.1) == 445  # 211.61 / (0.1 log2(10 e) = 0.47646)
    assert bounds.malach_pairs(0.2, 0.1) == 1199  # 400 ln 20 = 1198.3
    assert bounds.malach_products(0.1, 0.1) == 173  # 40 ln 20 / ln 2 = 172.9
    assert bounds.malach_widths((1, 1), 0.5, 0.2) == (590,)  # 64 / 0.25 ln 10 = 589.5
    # 2 3 = inputs outputs, 64 l^2 s^2 n / eps^2 ln(2 n s l / delta) = 64 4 4 3 / 0.25 ln(240) = 67346.06
    assert bounds.malach_widths((2, 3, 1), 0.5, 0.1)[0] == 6 * 67347
    assert bounds.pensia_items(784, 500, 2, 0.01, 0.01, constant=3) == 59  # 3 ln(3.136e8) = 58.69
    assert bounds.pensia_widths((784, 500, 10), 0.01, 0.01, constant=3) == (2 * 784 * 59, 2 * 500 * 46)
    assert bounds.parameter_count((784, 500, 10), (92512, 46000)) == 92512 * 1284 + 46000 * 510
    assert bounds.pensia_parameters((784, 500, 10), 0.01, 0.01, constant=3) == 92512 * 1284 + 46000 * 510
    assert bounds.orseau_neurons_per_weight(0.01, constant=2) == 14  # 13.3
    assert bounds.cunha_channels((1, 6, 16), (5, 5), 0.01, 0.1, constant=3) == (2 * 31, 12 * 40)
    assert bounds.cunha_parameters((1, 6, 16), (5, 5), 0.01, 0.1, constant=3) == 62 * (1 + 150) + 480 * (6 + 400)
    assert bounds.burkholz_widths((784, 500, 10), 0.01, 0.1, constant=3) == (784 * 55, 500 * 42)  # 54.5 and 41.5
    assert bounds.burkholz_parameters((4, 3, 2), 0.5, 0.5, constant=1) == 4 * 16 + 16 * 12 + 12 * 2
    assert bounds.binary_entropy(0.25) == pytest.approx(2 - 0.75 * math.log2(3))
    assert bounds.binary_entropy(0) == bounds.binary_entropy(1) == 0
    assert bounds.natale_items(1, 2.0**-8, constant=1) == 95  # 94 H2(1/94) = 7.990 and 95 H2(1/95) = 8.005
    # log2^2(2 4 0.25 / 0.1 n) / H2(0.25) = 169.97 at n = 170 and 169.74 at n = 169
    assert bounds.natale_widths((2, 2), 0.1, 0.25, constant=1) == (4 * 170,)
    assert bounds.natale_parameters(4, 20, 0.01) == 164  # 8 log2(2000) = 87.726 <= 164 H2(20/164) = 87.731


@pytest.mark.parametrize(
    "bound",
    [
        lambda e, f: bounds.pensia_widths((784, 500, 10), e, f, constant=3),
        lambda e, f: bounds.burkholz_widths((784, 500, 10), e, f, constant=3),
        lambda e, f: bounds.cunha_channels((1, 6, 16), (5, 5), e, f, constant=3),
    ],
)
def test_the_smaller_of_error_and_failure_counts(bound):
    assert bound(0.01, 0.3) == bound(0.3, 0.01) == bound(0.01, 0.01) > bound(0.3, 0.3)


@given(st.integers(1, 50), SMALL, CONSTANT)
def test_natale_items_is_the_smallest_that_satisfies_its_inequality(size, epsilon, constant):
    def holds(n):
        return n * bounds.binary_entropy(size / n) >= constant * math.log2(size / epsilon)

    if not holds(2.0**53):
        with pytest.raises(SupermaskError, match="size is too small"):
            bounds.natale_items(size, epsilon, constant=constant)
        return
    found = bounds.natale_items(size, epsilon, constant=constant)
    assert found >= 2 * size
    assert holds(found)
    assert found == 2 * size or not holds(found - 1)


@given(st.integers(1, 20), st.integers(1, 400), st.floats(1e-6, 0.0624))
def test_natale_parameters_is_the_smallest_that_satisfies_its_inequality(width, kept, epsilon):
    def holds(m):
        return m * bounds.binary_entropy(kept / m) >= width**2 / 2 * math.log2(kept / epsilon)

    if not holds(2.0**53):
        with pytest.raises(SupermaskError, match="kept is too small"):
            bounds.natale_parameters(width, kept, epsilon)
        return
    found = bounds.natale_parameters(width, kept, epsilon)
    assert holds(found)
    assert not holds(found - 1) or found == kept


@given(st.integers(1, 64), st.integers(1, 64), SMALL, st.floats(0.001, 0.5), CONSTANT)
def test_natale_widths_are_a_fixed_point(inputs, outputs, epsilon, density, constant):
    (found,) = bounds.natale_widths((inputs, outputs), epsilon, density, constant=constant)
    share = density / max(inputs / outputs, outputs / inputs)

    def needed(n):
        return constant * math.log2(2 * inputs * outputs * share * n / epsilon) ** 2 / bounds.binary_entropy(share)

    n, rest = divmod(found, 2 * inputs)
    assert rest == 0
    assert n >= needed(n)
    assert n == math.ceil(1 / share) or n - 1 < needed(n - 1)


@given(SMALL, PROBABILITY, CONSTANT)
def test_lueker_items_is_the_smallest_whose_failure_is_small_enough(epsilon, failure, constant):
    found = bounds.lueker_items(epsilon, failure, constant=constant)
    assert bounds.lueker_failure(found, epsilon, constant=constant) <= failure * (1 + 1e-9)
    assert found == 1 or bounds.lueker_failure(found - 1, epsilon, constant=constant) > failure * (1 - 1e-9)


def test_lueker_failure_is_the_theorems_formula():
    eta, items, constant = 0.05, 40, 1.5
    expected = math.exp(-((items / 2 - constant * math.log(1 / eta)) ** 2) / (2 * items))
    assert bounds.lueker_failure(items, 2 * eta, constant=constant) == pytest.approx(expected)
    assert bounds.lueker_failure(8, 2 * eta, constant=constant) == 1  # the theorem's condition fails: nothing is said


BAD = {
    "epsilon": [0.0, -0.1, math.nan, math.inf],
    "failure": [0.0, 1.0, -0.5, math.nan],
    "probability": [0.0, 1.0, math.nan],
    "density": [0.0, -1.0, 1.5, math.nan],
    "constant": [0.0, -1.0, math.nan, math.inf],
    "length": [0.0, math.inf],
    "width": [0, 2.5],
    "kept": [0, -1],
    "size": [0],
    "items": [-1, 3.5],
    "inputs": [0],
    "outputs": [0],
    "layers": [0],
    "dimensions": [(), (4,), (4, 0), (4, 2.5)],
    "channels": [(3,), (3, -1)],
    "kernels": [(), (3, 3), (0,)],
}
GOOD = (
    dict.fromkeys(("epsilon", "failure"), 0.05)
    | {
        "constant": 1.0,
        "density": 0.1,
        "dimensions": (3, 2),
        "channels": (3, 2),
        "kernels": (3,),
        "probability": 0.5,
        "length": 1.0,
    }
    | dict.fromkeys(("width", "kept", "size", "items", "inputs", "outputs", "layers"), 4)
)


@pytest.mark.parametrize("name", bounds.STATEMENTS)
def test_bad_arguments_are_refused_in_one_sentence(name):
    function = getattr(bounds, name)
    good = {argument: GOOD[argument] for argument in inspect.signature(function).parameters}
    function(**good)
    for argument in good:
        for value in BAD[argument]:
            with pytest.raises(SupermaskError, match=r"^[^\n]*\.$"):
                function(**good | {argument: value})


def test_numpy_integers_do_not_overflow():
    wide = np.array([2**20, 2**20, 2**20])
    assert bounds.malach_widths(wide, 1e-3, 1e-3) == bounds.malach_widths([2**20] * 3, 1e-3, 1e-3)
    assert bounds.burkholz_parameters(wide, 1e-3, 1e-3, constant=2) > 2**40


def test_a_density_beyond_half_of_the_items_is_refused():
    with pytest.raises(SupermaskError, match="too high"):
        bounds.natale_widths((3, 3), 0.01, 0.6, constant=1)
    with pytest.raises(SupermaskError, match="below 1/16"):
        bounds.natale_parameters(3, 4, 1 / 16)
    with pytest.raises(SupermaskError, match="probability"):
        bounds.binary_entropy(1.1)
