"""The ticket: a seed and a mask, and the few tensors that no seed regrows."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from supermask.errors import TicketError
from supermask.files import write_whole
from supermask.masking.parametrization import hold
from supermask.parameters.given import GIVEN, Checkpoint
from supermask.parameters.mismatch import differences, unlike
from supermask.parameters.parameters import bypass
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import (
    RandomWeight,
    checked_seed,
    describe_all,
    digest,
    from_descriptions,
    grow_all,
)
from supermask.shown import printable, shortened
from supermask.ticket import hub
from supermask.ticket.coding.drawn import Drawn
from supermask.ticket.file import Contents, decode, encode, fingerprint, read_sound


@dataclass(frozen=True, eq=False, repr=False)
class Ticket:
    """A network that was found or built in a random one.

    Attributes:
        seed: regrows the random weights.
        weights: parameter name to what its random tensor is made of; nothing if weights are given.
        masks: parameter name to bool tensor, True = kept; a weight without a mask is kept whole and is not prunable.
        learned: tensors that training or the given model put there: batch-norm statistics, learned biases, ...
        constants: parameter name to the one value that all its entries have.
        bypassed: names of the normalisation layers that the network goes without.
        treatments: parameter name to what is done to its random weights besides masking; nothing where there is none.
        presets: parameter name to what of its mask the seed fixes, so that the file need not hold it.
        drawn: parameter name to the bits that draw its mask, which the file then holds in place of the mask.
        digest: SHA-256 of the random weights (of the first draw), by which a machine that regrows others is found out;
            of given weights, that of their checkpoint.
        provenance: plain values: algorithm, options, model, data set, metrics, versions.

        checkpoint: the given weights that the masks are over in place of random ones, buffers too; the ticket names
            them and does not hold them. None where weights are random.

    Raises:
        TicketError: the parts contradict each other.

    """

    seed: int
    weights: Mapping[str, RandomWeight]
    masks: Mapping[str, Tensor]
    digest: str
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    bypassed: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    drawn: Mapping[str, Drawn] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    _encoded: tuple[bytes, bytes] = field(default=(b"", b""), init=False)  # a fingerprint, and the bytes of the file

    def __post_init__(self) -> None:
        checked_seed(self.seed)
        shapes, kind = self._frozen_shapes(), "given" if self.checkpoint else "random"
        for name, mask in self.masks.items():
            _check_mask(name, mask, shapes, kind)
        for name in [*self.constants, *self.learned]:
            if name in shapes:
                raise TicketError(f"{name} is both {kind} and stored; it must be one of them.")
        if self.checkpoint:
            self._check_given(self.checkpoint)
        for name in self.constants.keys() & self.learned.keys():
            raise TicketError(f"{name} is both constant and learned; it must be one of them.")
        for name in [*self.treatments, *self.presets, *self.drawn]:
            if name not in self.masks:
                raise TicketError(f"{name} has a treatment, a preset or bits that draw its mask, but no mask.")
        for name, treatment in self.treatments.items():
            treatment.check(name, self.masks[name])
        for name, preset in self.presets.items():
            preset.check(self.seed, name, self.masks[name])
        for name, bits in self.drawn.items():
            bits.check(self.seed, name, self.masks[name])
        for name in ("weights", "masks", "learned", "constants", "treatments", "presets", "drawn"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __repr__(self) -> str:
        found = self.provenance.get("algorithm", "unknown origin")
        origin = printable(shortened(str(found)))
        return f"Ticket(seed={self.seed}, {self.kept:,} of {self.prunable:,} weights kept, {origin})"

    def __eq__(self, other: object) -> bool:
        """Return whether both tickets have the same file, byte for byte, without coding either."""
        if not isinstance(other, Ticket):
            return NotImplemented
        return fingerprint(self.contents()) == fingerprint(other.contents())

    def __hash__(self) -> int:
        return hash(fingerprint(self.contents()))

    def __reduce__(self) -> tuple[Callable[[bytes], "Ticket"], tuple[bytes]]:
        # through the bytes of the file: a copy, a pickle and a process's argument are checked as a file is
        return partial(type(self).from_bytes, memory=sys.maxsize), (self.to_bytes(),)  # it fitted into memory once

    def _repr_html_(self) -> str:
        """Return a table of the layers, which notebooks show."""
        cells = [
            (
                *(printable(name), "x".join(map(str, mask.shape)), f"{int(mask.count_nonzero()):,}"),
                *(f"{mask.numel():,}", f"{int(mask.count_nonzero()) / max(1, mask.numel()):.2%}"),
            )
            for name, mask in self.masks.items()
        ]
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        heads = "".join(f"<th>{head}</th>" for head in ("parameter", "shape", "kept", "of", "density"))
        return f"<p>{escape(repr(self))}</p><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"

    @property
    def prunable(self) -> int:
        """Number of weights that the density is a fraction of: those that have a mask."""
        return sum(mask.numel() for mask in self.masks.values())

    @property
    def kept(self) -> int:
        """Number of prunable weights that the masks keep."""
        return sum(int(mask.count_nonzero()) for mask in self.masks.values())

    @property
    def density(self) -> float:
        """Kept over prunable; 0 when nothing is prunable."""
        return self.kept / self.prunable if self.prunable else 0.0

    @property
    def size(self) -> int:
        """Bytes of the ticket's file."""
        return len(self.to_bytes())

    def remasked(self, masks: Mapping[str, Tensor]) -> "Ticket":
        """Return the ticket with other masks of the same layers.

        What is done to single weights (signs, coats, redraws) goes to the weights that the new masks keep, in their
        order; nothing of the new masks is taken for fixed or drawn by the seed.
        """
        treatments = {name: each.moved_to(self.masks[name], masks[name]) for name, each in self.treatments.items()}
        return replace(self, masks=masks, treatments=treatments, presets={}, drawn={})

    def random_weights(self) -> dict[str, Tensor]:
        """Return the random tensors of the first draw, unpruned and untreated, checked against the digest.

        They are float32 on the CPU.

        Raises:
            TicketError: this machine regrows other weights than the ticket was made with, or its weights are given.

        """
        if self.checkpoint:
            raise TicketError(f"The ticket has no random weights: it is over the checkpoint {self.checkpoint.title}.")
        grown = grow_all(self.weights, self.seed)
        if digest(grown) != self.digest:
            raise TicketError(
                "The random weights regrown from the seed are not those of the ticket; it was made by another version"
                f" of the generator ({self.provenance.get('versions', 'versions unknown')})."
            )
        return grown

    @torch.no_grad()
    def apply(
        self,
        model: nn.Module,
        *,
        held: bool = False,
        grown: Mapping[str, Tensor] | None = None,
        given: str | Path | Mapping[str, Tensor] | None = None,
    ) -> nn.Module:
        """Turn a freshly built model into the ticket's network.

        Args:
            model: of the architecture that the ticket was made from, on any device; changed in place.
            held: keep pruned weights at zero in any training to come (see `masking.parametrization.hold`); otherwise
                the module stays plain.
            grown: the random tensors of the first draw, float32 on the CPU, from a caller who still has them: they are
                checked against the digest and not grown again.
            given: the checkpoint of a ticket over given weights: a file of safetensors, a file of torch.save, or
                tensors by name, as `state_dict()` returns them.

        Returns:
            The model. Its pruned weights are +0, its parameters keep their dtype and device.

        Raises:
            TicketError: the model is of another architecture (the sentence names the first differences), or the random
                or the given weights are not the ticket's; the model is untouched.

        """
        self.check_fits(model)
        grown = self._frozen(model, grown, given)
        bypass(model, self.bypassed)
        for name, parameter in model.named_parameters():
            parameter.copy_(self._value(name, grown, parameter))
        buffers = dict(model.named_buffers())
        for name, buffer in buffers.items():
            if name in self.learned or (self.checkpoint and name in self.checkpoint.tensors):
                buffer.copy_(self._value(name, grown, buffer))
        return hold(model, self.masks) if held else model

    def save(self, file: str | Path | BinaryIO) -> None:
        """Write the ticket to one file: to a path whole or not at all, or to a binary file that is open.

        Raises:
            SupermaskError: the folder cannot be written, or the provenance holds what is not a plain value.

        """
        if isinstance(file, str | Path):
            write_whole(file, self.to_bytes())
        else:
            file.write(self.to_bytes())

    @classmethod
    def load(cls, file: str | Path | BinaryIO, *, memory: int | None = None) -> "Ticket":
        """Read a ticket's file, by its path or from a binary file that is open, which is read to its end.

        Args:
            file: its path, or the open file itself.
            memory: bytes that reading it may take. None is what a file of its size needs in earnest (half a gigabyte
                below 1 KB, 4 GiB from 8 KB on); give more for a larger network whose file you trust.

        Raises:
            TicketError: the file is missing, cut short, changed in any byte, not a ticket, or would take more memory;
                the message says which.

        """
        return read_sound(file, "ticket", partial(cls.from_bytes, memory=memory))

    def push_to_hub(
        self,
        repo: str,
        *,
        file: str = hub.FILE,
        message: str | None = None,
        private: bool = False,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Send the ticket's file to a repository of a model hub, with a README where there is none yet.

        Args:
            repo: "owner/name"; it is made where there is none.
            file: the ticket's path in the repository.
            message: of the commit; by default it names the ticket.
            private: whether a repository that is made is private.
            token: of the hub; None is the one that was logged in with.
            endpoint: address of the hub; None is the one that huggingface_hub knows.

        Returns:
            The address of the commit.

        Raises:
            SupermaskError: the hub refused or cannot be reached, or huggingface_hub is not installed.

        """
        about = repr(self)
        model, checkpoint = self.provenance.get("model"), self.checkpoint.title if self.checkpoint else None
        card = hub.card(repo, file, about=about, size=self.size, model=model, checkpoint=checkpoint)
        return hub.send(
            self.to_bytes(),
            card,
            repo,
            file=file,
            message=message or f"Add {about}",
            private=private,
            token=token,
            endpoint=endpoint,
        )

    @classmethod
    def from_hub(
        cls,
        repo: str,
        *,
        file: str = hub.FILE,
        revision: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> "Ticket":
        """Read a ticket from a repository of a model hub; a file that was fetched before is not fetched again.

        Args:
            repo: "owner/name".
            file: the ticket's path in the repository.
            revision: a branch, a tag or a commit; None is the newest.
            token: of the hub; None is the one that was logged in with.
            endpoint: address of the hub; None is the one that huggingface_hub knows.

        Raises:
            SupermaskError: there is no such file, the hub cannot be reached, or huggingface_hub is not installed.
            TicketError: the file is not a ticket, or was changed; the message says which.

        """
        return cls.from_bytes(hub.fetch(repo, file=file, revision=revision, token=token, endpoint=endpoint))

    def to_bytes(self) -> bytes:
        """Return the bytes of the ticket's file; equal tickets give equal bytes.

        They are made once. A ticket does not change, but its tensors and its provenance can still be written into by
        whoever made them, so that the bytes are only used again for what they were made of.

        Raises:
            TicketError: the provenance holds what is not a plain value.

        """
        contents = self.contents()
        mark = fingerprint(contents)
        if self._encoded[0] != mark:
            object.__setattr__(self, "_encoded", (mark, encode(contents)))
        return self._encoded[1]

    @classmethod
    def from_bytes(cls, data: bytes, *, memory: int | None = None) -> "Ticket":
        """Return the ticket whose file has these bytes.

        Args:
            data: the bytes.
            memory: bytes that reading them may take, as `load` takes it.

        Raises:
            TicketError: they are cut short, changed in any byte, not those of a ticket, or would take more memory; the
                message says which.

        """
        return cls.from_contents(decode(data, memory=memory))

    def contents(self) -> Contents:
        """Return what the ticket's file holds."""
        header = {
            "seed": self.seed,
            **describe_all(self.weights),
            "constants": dict(self.constants),
            "bypassed": list(self.bypassed),
            "digest": self.digest,
            "provenance": dict(self.provenance),
            **({GIVEN: self.checkpoint.describe()} if self.checkpoint else {}),
        }
        return Contents(header, self.masks, self.learned, self.treatments, self.presets, self.drawn)

    @classmethod
    def from_contents(cls, contents: Contents) -> "Ticket":
        """Return the ticket whose file holds this.

        Raises:
            TicketError: it is not what a ticket's file holds, or its parts contradict each other.

        """
        header = contents.header
        missing = [repr(name) for name in _NEEDED if name not in header]
        if missing:
            raise TicketError(f"its header does not describe a ticket, without {', '.join(missing)}.")
        return cls(
            seed=header["seed"],
            weights=from_descriptions(header),
            masks=contents.masks,
            digest=header["digest"],
            learned=contents.learned,
            constants=header["constants"],
            bypassed=tuple(header["bypassed"]),
            provenance=header["provenance"],
            treatments=contents.treatments,
            presets=contents.presets,
            drawn=contents.drawn,
            checkpoint=Checkpoint.from_description(header[GIVEN]) if GIVEN in header else None,
        )

    def _frozen(
        self,
        model: nn.Module,
        grown: Mapping[str, Tensor] | None,
        given: str | Path | Mapping[str, Tensor] | None,
    ) -> Mapping[str, Tensor]:
        """Return the frozen tensors, random or given, checked to be those of the ticket."""
        if self.checkpoint is None:
            if given is not None:
                raise TicketError("The ticket is over random weights, which its seed regrows; leave given= out.")
            return self.random_weights() if grown is None else self._checked(grown)
        if given is None:
            raise TicketError(
                f"The ticket is over the weights of the checkpoint {self.checkpoint.title}, which it does not hold;"
                " give them: apply(model, given=FILE or state_dict), or --given FILE."
            )
        return self.checkpoint.read(given, model)

    def _frozen_shapes(self) -> dict[str, tuple[int, ...]]:
        frozen = self.checkpoint.tensors if self.checkpoint else self.weights
        return {name: each.shape for name, each in frozen.items()}

    def _check_given(self, checkpoint: Checkpoint) -> None:
        if self.weights:
            raise TicketError("A ticket is over random weights or over given ones, not over both.")
        if self.digest != checkpoint.digest:
            raise TicketError("The digest of the ticket is not that of its checkpoint.")
        for name, treatment in self.treatments.items():
            if treatment.redraws is not None:
                raise TicketError(f"{name} has redraws, but given weights are not drawn.")

    def _checked(self, grown: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return random weights that the caller has, if they are those of the ticket to the last bit."""
        # the digest is of float32, so it would not see what other dtypes have beyond that
        if any(tensor.dtype is not torch.float32 for tensor in grown.values()) or digest(grown) != self.digest:
            raise TicketError(
                "The random weights given are not those of the ticket; give those that its seed grows, unchanged and"
                " float32, or none."
            )
        return grown

    def _value(self, name: str, grown: Mapping[str, Tensor], like: Tensor) -> Tensor:
        if name in self.constants:
            return torch.full_like(like, self.constants[name])
        if name in self.learned:
            return self.learned[name]
        if name not in self.masks:
            return grown[name]
        mask, treatment = self.masks[name].cpu(), self.treatments.get(name)
        if treatment is None:
            return torch.where(mask, grown[name], 0.0)

        def draw(number: int) -> Tensor:
            random = self.weights[name].grow(self.seed, name, draw=number) if number else grown[name]
            return random.to(like.dtype)

        return treatment.apply(mask, draw, self.seed, name)

    def check_fits(self, model: nn.Module) -> None:
        """Refuse a model of another architecture; one on the meta device takes no memory for that.

        Raises:
            TicketError: its tensors are others than the ticket's; the sentence names the first differences.

        """
        shapes = self._frozen_shapes()
        shapes |= {name: tuple(tensor.shape) for name, tensor in self.learned.items()}
        problems = differences(model, shapes, self.constants, self.bypassed) + unlike(model, self.learned)
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            made_from = self.provenance.get("model")
            raise TicketError(
                f"The model is of another architecture than the ticket: {'; '.join(problems[:3])}{more};"
                f" build the one it was made from{f' ({shortened(str(made_from))})' if made_from else ''}."
            )


_NEEDED = ("seed", "distributions", "weights", "constants", "bypassed", "digest", "provenance")


def _check_mask(name: str, mask: Tensor, shapes: Mapping[str, tuple[int, ...]], kind: str) -> None:
    if name not in shapes:
        raise TicketError(f"The mask of {name} has no {kind} weight; every masked parameter needs one.")
    if mask.dtype is not torch.bool:
        raise TicketError(f"The mask of {name} is {mask.dtype}; a mask is a bool tensor.")
    if tuple(mask.shape) != shapes[name]:
        raise TicketError(f"The mask of {name} has shape {tuple(mask.shape)}; its weight has {shapes[name]}.")
