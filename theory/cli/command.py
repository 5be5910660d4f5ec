"""`supermask construct`: a ticket for a trained target."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

from tyro.conf import arg

from supermask.cli.options import DATA_SETS, Common
from supermask.data import DataSet
from supermask.errors import RunError, SupermaskError
from supermask.files import held, make_folder, relative, write_json
from supermask.models import InputShape
from theory.build import Built, construct
from theory.cli.compare import check_takes, compare, images_of, largest_norm
from theory.cli.exact import ExactReport, compare_exactly, whole_inputs
from theory.cli.plot import plot_errors
from theory.cli.report import ConstructionReport, layer_reports
from theory.cli.targets import Architecture, TargetNetwork, target_network
from theory.domains import Ball, Nonnegative
from theory.exact import construct_exact
from theory.norms import Norm

INEXACT = ("epsilon", "construction", "radius", "domain", "norm", "both_halves", "calibrate")
"""Options of tickets that miss their target by an epsilon."""
MOST_HIDDEN = 1_000_000
"""Hidden units per input of a target layer; an epsilon of 1e-6 wants a hundred."""


@dataclass(frozen=True)
class Construct(Common):
    """Build a ticket for a trained target: prune one random network to it, and prove how far the two are apart.

    The random network is drawn once. Where it does not contain the target within epsilon, the table says so.
    """

    target: str = field(kw_only=True)
    """A file of a state dict (.safetensors, or of torch.save), the folder of a run of supermask train, or a model's
    name as supermask train --help lists them, which is then freshly initialised from --seed."""

    model: str | None = None
    """Model whose weights the file holds; by default a fully connected ReLU network, whose layers the file has in
    their order. Where the file's names differ from the model's, layers are matched in their order; biases may be
    missing."""

    model_width: float | None = None
    """Factor on the hidden widths of the model; by default 1, or that of the run folder."""

    input_shape: InputShape | None = None
    """Channels, height and width of the target's images; by default those of --data, or what the model is for."""

    classes: int | None = None
    """Outputs of the model; by default those of --data, or 10."""

    epsilon: float = 0.01
    """Largest difference of the outputs that is wanted over the ball of inputs, in the norm."""

    construction: Literal[
        "relu_diamond", "linear_diamond", "leaky_diamond", "sign_diamond", "convolution", "malach", "malach_products"
    ] = "relu_diamond"
    """How paths of the random network stand for weights: relu_diamond (fully connected targets), convolution (those
    with convolutions too), linear_diamond (without ReLUs), leaky_diamond (leaky ReLUs between the hops), sign_diamond
    (weights of one size), malach, malach_products (one path a weight; the last three for small targets)."""

    hidden: int | None = None
    """Hidden units per input of each target layer; by default as many as epsilon wants, with probability 0.99."""

    radius: float | None = None
    """Radius of the input ball; by default the largest norm of the training images of --data, 1 without."""

    domain: Literal["ball", "nonnegative"] = "ball"
    """Inputs that the certificate holds for: the ball, or its part without negative entries, where raw pixels are, for
    which one half of each block is enough."""

    norm: Norm = "l2"
    """Norm of inputs and outputs: l2 (Euclidean) or linf (the largest entry; the ball is then a box)."""

    both_halves: bool = False
    """Give paths to negative inputs also behind a ReLU, as the theorem does; they change nothing there."""

    grouped: bool = False
    """Leave out the weights of the first hops that are always pruned: less memory for large targets."""

    calibrate: bool = False
    """Prune the one random network again until the certificate spends nine tenths of epsilon: fewer weights kept."""

    exact: bool = False
    """Round the target to --bits and its pixels to whole numbers from 0 to 255, and prune a random network of integers
    to it without any error; what belongs to an epsilon has no place then."""

    bits: int = 8
    """Bits of a weight for --exact, sign included: 2 to 16."""

    data: Annotated[
        str | None,
        arg(help=f"Data set on whose test set the target and the ticket are compared: {DATA_SETS}; by default none."),
    ] = None

    pixels: Literal["normalized", "raw"] = "normalized"
    """How the target takes pixels: normalized as supermask train does, or raw in [0, 1]."""

    seed: int = 0
    """Seed of the random network, and of the target where it is a model's name."""

    device: str = "cpu"
    """Where to compute: only the cpu."""

    out: Path | None = None
    """Folder for network.ticket, construction.json and errors.png; by default one below runs."""

    def __call__(self) -> None:
        """Build the ticket, and show how good it is."""
        self._check()
        images = None if self.data is None else images_of(self.data, self.data_folder, raw=self.pixels == "raw")
        given = Architecture(self.model, self.model_width, self.input_shape, self.classes)
        target = target_network(self.target, given, seed=self.seed, data_set=images, data_folder=self.data_folder)
        if images is not None:
            check_takes(target, images)
        out = self._folder(target)
        with held(out):
            (self._carry_out_exactly if self.exact else self._carry_out)(target, images, out)

    def _carry_out(self, target: TargetNetwork, images: DataSet | None, out: Path) -> None:
        began = monotonic()
        radius = largest_norm(images, self.norm) if self.radius is None else self.radius
        built = self._build(target, radius)
        seconds = monotonic() - began
        found = compare(target.network, built, images) if images is not None else None
        ticket = replace(built.ticket, provenance={**built.ticket.provenance, **self._made(target)})
        path = out / "network.ticket"
        layers = layer_reports(built)
        ticket.save(path)
        report = ConstructionReport(target.name, built, layers, found, path.stat().st_size, seconds)
        plot_errors(built, layers, out / "errors.png", f"{target.name} by {self.construction}")
        write_json(out / "construction.json", {"options": self._options(), **report.values()})
        print(report.text(self.construction, self.seed, self.data))
        print(f"In {relative(out)}: network.ticket, construction.json, errors.png")

    def _carry_out_exactly(self, target: TargetNetwork, images: DataSet | None, out: Path) -> None:
        inputs = whole_inputs(self.pixels, images)
        began = monotonic()
        built = construct_exact(
            target.network,
            bits=self.bits,
            inputs=inputs,
            seed=self.seed,
            width=self.hidden,
            grouped=self.grouped,
            input_shape=target.input_shape,
        )
        seconds = monotonic() - began
        found = compare_exactly(target, built, images) if images is not None else None
        made = {**self._made(target), "pixels": built.ticket.provenance["pixels"]}
        path = out / "network.ticket"
        replace(built.ticket, provenance={**built.ticket.provenance, **made}).save(path)
        report = ExactReport(target.name, built, found, path.stat().st_size, seconds)
        write_json(out / "construction.json", {"options": self._options(), **report.values()})
        print(report.text(self.seed, self.data))
        print(f"In {relative(out)}: network.ticket, construction.json")

    def _check(self) -> None:
        for option in INEXACT if self.exact else ():
            if getattr(self, option) != getattr(type(self), option):
                name = option.replace("_", "-")
                raise SupermaskError(f"--{name} is for tickets that miss their target; leave it out with --exact.")
        if not self.exact and self.bits != type(self).bits:
            raise SupermaskError("--bits is for exact tickets; give --exact too.")
        if self.device not in ("auto", "cpu"):
            raise SupermaskError(f"--device {self.device}: construct runs on the CPU only; give --device cpu.")
        if self.hidden is not None and self.hidden < 1:
            raise SupermaskError(f"--hidden {self.hidden} is too small; give at least one hidden unit per input.")
        if self.hidden is not None and self.hidden > MOST_HIDDEN:
            raise SupermaskError(f"--hidden {self.hidden} is too large; give at most {MOST_HIDDEN:,} units per input.")
        replace(self, device="cpu").prepare()

    def _folder(self, target: TargetNetwork) -> Path:
        how = f"exact-{self.bits}bits" if self.exact else f"{self.construction}-epsilon{self.epsilon:g}"
        name = f"construct-{target.slug}-{how}-seed{self.seed}"
        out = make_folder(self.out or Path("runs", name))
        if (out / "config.json").exists():
            raise RunError(f"{out} holds a run; give another --out.")
        return out

    def _build(self, target: TargetNetwork, radius: float) -> Built:
        return construct(
            target.network,
            self.epsilon,
            construction=self.construction,
            seed=self.seed,
            width=self.hidden,
            domain=(Ball if self.domain == "ball" else Nonnegative)(radius),
            norm=self.norm,
            both_halves=self.both_halves,
            grouped=self.grouped,
            calibrate=self.calibrate,
            input_shape=target.input_shape,
        )

    def _made(self, target: TargetNetwork) -> dict[str, str]:
        """Return what `supermask evaluate` reads from the ticket: the target, its pixels and its data set."""
        return {"target": target.name, "pixels": self.pixels, **({"data": self.data} if self.data else {})}

    def _options(self) -> dict[str, object]:
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}
