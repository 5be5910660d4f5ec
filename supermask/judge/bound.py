"""What the length of a ticket's file alone proves: a bound of its error on examples to come, and a code of labels.

Occam's bound (Blumer et al. 1987; Langford 2005, "Tutorial on practical prediction theory for classification", section
4). Give each file a prior of 2^-bits. A network of true error p has an error of q <= p or less on n independent
examples with probability exp(-n kl(q || p)) at most (Chernoff), so that

    n kl(q || p) <= bits ln 2 + ln(1 / delta)

for all files at once with probability 1 - delta: each may fail with delta 2^-bits, and these add up to delta at most,
because the priors add up to one at most. No term ln(2 sqrt(n)) is needed; it belongs to the bound for random masks
(Maurer 2004), where an average over masks is bounded by one over examples. Langford's bound inverts the binomial tail
in place of Chernoff's: a few nats tighter, some hundredths of a point for a file of a kilobyte or more, and not used.

Why the priors add up to one at most (Kraft): a file begins with the lengths of its sections, and nothing follows
them, so no file begins with another. The lengths are what a choice of length costs. What the rest of a file fixes, its
mark and its checksums (`container.FIXED` bytes), tells no two files apart and is not counted.
"""

import math
from dataclasses import dataclass, replace

from supermask.errors import SupermaskError
from supermask.report import table
from supermask.ticket import Ticket
from supermask.ticket.container import FIXED, unseal

MAURER = 8
"""The fewest examples that the bound for random masks is proved for."""


@dataclass(frozen=True)
class GeneralizationBound:
    """A bound of the error on examples to come, with all that it rests on.

    Attributes:
        error: the bound, a fraction from 0 to 1.
        train_error: fraction of the training examples that are wrong, for random masks on average over them.
        examples: training examples.
        confidence: probability, over the draw of the training examples, that the bound holds for all files.
        bits: of the file that are counted; of a bound for random masks, those that are not of a mask.
        kl: nats of the random masks about their prior; None where the file's mask is the one that is bounded.
        tried: choices of what no file holds, among which this one was made.
        checkpoint: the given weights that the file does not hold; None where its seed regrows them.

    """

    error: float
    train_error: float
    examples: int
    confidence: float
    bits: int
    kl: float | None = None
    tried: int = 1
    checkpoint: str | None = None

    @property
    def nats(self) -> float:
        """What n kl(training error || error) is at most."""
        counted = self.bits * math.log(2.0) + math.log(self.tried) - math.log1p(-self.confidence)
        if self.kl is None:
            return counted
        return counted + self.kl + math.log(2.0 * math.sqrt(self.examples))

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions under which the bound holds, one sentence each; it does not check them."""
        chosen = "was fixed" if self.tried == 1 else f"was one of {self.tried:,} choices, each of them fixed"
        unheld = "the file format, the generator, the code of the architecture, how inputs are prepared"
        unheld += "" if self.checkpoint is None else f", the checkpoint {self.checkpoint}"
        return (
            f"The {self.examples:,} examples and those to come are independent draws from one distribution.",
            f"What no file holds {chosen} without these examples: {unheld}.",
            f"With probability {self.confidence:g} over the draw of these examples it holds for all files at once.",
        )

    def text(self) -> str:
        """Return the bound and what it is made of, in one line."""
        of = f"{self.bits / 8:,.0f} bytes" + ("" if self.kl is None else f" and {self.kl:,.1f} nats")
        return (
            f"at most {100 * self.error:.1f} % with confidence {self.confidence:g}, from {of} and"
            f" {100 * self.train_error:.2f} % of {self.examples:,} training examples"
        )


def generalization_bound(
    ticket: Ticket,
    *,
    train_error: float,
    examples: int,
    confidence: float = 0.95,
    kl: float | None = None,
    tried: int = 1,
) -> GeneralizationBound:
    """Return a bound of a ticket's error on examples to come, by the length of its file; no test example is needed.

    It holds for independent examples of one distribution, and if what no file holds was fixed without them: the format
    of the file, the generator, the code of the architecture, the preparation of inputs, and a checkpoint that the
    ticket is over. Which ticket was taken, its seed, density or step, costs nothing more, because it holds for all
    files at once; examples that chose a step may be counted among the training examples. The file is believed to be
    the whole network: of a weak ticket, the error is that of its network before training.

    Args:
        ticket: whose file is counted.
        train_error: fraction of the training examples that its network gets wrong (0-1 loss, without augmentation);
            of random masks, its mean over them. It is rounded up to whole examples, for random masks not.
        examples: training examples that it was measured on.
        confidence: that the bound is to hold with.
        kl: KL(q || p) in nats, for masks that are drawn from q again for each example, with the prior p. The ticket
            then holds the rest (seed, p, stored tensors), the code of its masks is not counted, and the bound is that
            of PAC-Bayes (Maurer 2004, theorem 5), for the mean error over the masks.
        tried: how many architectures, checkpoints, formats or generators were tried, each of them fixed beforehand; a
            choice among them costs ln(tried).

    Raises:
        SupermaskError: an argument is out of range.

    """
    _check(train_error, examples, confidence, kl, tried)
    size = ticket.size - FIXED - (0 if kl is None else len(unseal(ticket.to_bytes()).coded))
    wrong = _whole(train_error * examples) / examples if kl is None else train_error
    title = None if ticket.checkpoint is None else ticket.checkpoint.title
    found = GeneralizationBound(1.0, wrong, examples, confidence, 8 * size, kl, tried, title)
    return replace(found, error=kl_inverse(wrong, found.nats / examples))


def binary_kl(first: float, second: float) -> float:
    """Return kl(first || second) in nats, of coins that show heads with these probabilities."""
    parts = ((first, second), (1.0 - first, 1.0 - second))
    if any(one > 0.0 and other <= 0.0 for one, other in parts):
        return math.inf
    return sum(one * math.log(one / other) for one, other in parts if one > 0.0)


def kl_inverse(error: float, nats: float) -> float:
    """Return the largest p with kl(error || p) <= nats, rounded up.

    Args:
        error: from 0 to 1.
        nats: not negative.

    """
    # each of the two terms of kl is below 40 nats where p is a float64 below 1, so that its rounding is below 1e-13
    wanted = nats + 1e-12 * (1.0 + nats)
    low, high = error, 1.0
    # until no number lies between: what is returned is one at which kl is larger than wanted, or 1
    while low < (middle := (low + high) / 2.0) < high:
        low, high = (middle, high) if binary_kl(error, middle) <= wanted else (low, middle)
    return high


@dataclass(frozen=True)
class LabelCode:
    """The length of a two-part code of labels: a file, then the labels by what its network says of them.

    It is ideal: an arithmetic coder adds a few bits, and both ends have to compute the same probabilities.

    Attributes:
        file_bits: of the whole file.
        label_bits: of the labels once the network is known, the sum of -log2 of the probabilities that it gives them.
        examples: how many labels there are.
        classes: how many different ones.

    """

    file_bits: int
    label_bits: float
    examples: int
    classes: int

    @property
    def bits(self) -> float:
        """Of both parts."""
        return self.file_bits + self.label_bits

    @property
    def uniform_bits(self) -> float:
        """Of the labels without any network."""
        return self.examples * math.log2(self.classes)

    def text(self) -> str:
        """Return the length in thousands of bits, and what it is made of."""
        return (
            f"{self.bits / 1000:.1f} kbit: file {self.file_bits / 1000:.1f}, {self.examples:,} labels"
            f" {self.label_bits / 1000:.1f} (without a network {self.uniform_bits / 1000:.1f})"
        )

    def table(self) -> str:
        """Return it as a Markdown table, beside what was published of MNIST where it is of all 60,000 labels."""
        rows = [["this file, two parts", f"{self.bits / 1000:.1f}"], ["uniform", f"{self.uniform_bits / 1000:.1f}"]]
        if (self.examples, self.classes) == (60_000, 10):
            rows += [[f"{name} (published)", kbit] for name, kbit in PUBLISHED.items()]
        return table(["code of the training labels", "kbit"], rows)


PUBLISHED = {"two parts, compressed network": "> 400", "variational": "22.2", "prequential": "4.10"}
"""Of the labels of MNIST in kbit, Blier & Ollivier 2018, table 1; as others quote it, not read in the paper."""


def label_code_length(ticket: Ticket, *, train_loss: float, examples: int, classes: int = 10) -> LabelCode:
    """Return the length of the two-part code of training labels that a ticket gives.

    Args:
        ticket: whose file is the first part.
        train_loss: mean cross entropy of its network over the examples, in nats.
        examples: that it was measured on.
        classes: of their labels.

    Raises:
        SupermaskError: the loss is negative or not finite, or a count is too small.

    """
    if not 0.0 <= train_loss < math.inf:
        raise SupermaskError(f"train_loss={train_loss} is out of range; it is a mean cross entropy in nats.")
    _check_count("examples", examples, 1)
    _check_count("classes", classes, 1)
    return LabelCode(8 * ticket.size, examples * train_loss / math.log(2.0), examples, classes)


def _whole(count: float) -> int:
    """Return a count that was multiplied out of a fraction, rounded up but for the rounding of that."""
    nearest = round(count)
    return nearest if abs(count - nearest) <= 1e-9 * max(1.0, count) else math.ceil(count)


def _check(train_error: float, examples: int, confidence: float, kl: float | None, tried: int) -> None:
    if not 0.0 <= train_error <= 1.0:
        raise SupermaskError(f"train_error={train_error} is out of range; it is a fraction from 0 to 1.")
    if not 0.0 < confidence < 1.0:
        raise SupermaskError(f"confidence={confidence} is out of range; give a number between 0 and 1, e.g. 0.95.")
    if kl is not None and not 0.0 <= kl < math.inf:
        raise SupermaskError(f"kl={kl} is out of range; it is a divergence in nats, not negative and finite.")
    _check_count("examples", examples, 1 if kl is None else MAURER)
    _check_count("tried", tried, 1)


def _check_count(name: str, count: int, least: int) -> None:
    # a bool is an int in Python
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise SupermaskError(f"{name}={count!r} is out of range; it is a whole number, at least {least}.")
