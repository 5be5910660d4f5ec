"""A ticket over given weights takes them from the checkpoint that it was made for, and from no other."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from given_weights import INPUTS, Net, advance, pretrained, searched, tensors
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from supermask import Ticket
from supermask.errors import TicketError
from supermask.parameters.given import Checkpoint, load_given
from supermask.search import EdgePopup
from supermask.ticket.file import encode

pytestmark = pytest.mark.filterwarnings("ignore:The scores of")


APPLY = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_given import INPUTS, Net
from supermask import Ticket
ticket = Ticket.load(sys.argv[2])
for given in (sys.argv[3], sys.argv[4], torch.load(sys.argv[4], weights_only=True)):
    print(ticket.apply(Net(), given=given).eval()(INPUTS).tolist())
"""


def test_a_fresh_process_applies_it_to_a_file_of_either_kind(tmp_path):
    model = pretrained()
    safetensors.torch.save_model(model, tmp_path / "net.safetensors")  # which drops a name of the tied weight
    torch.save(model.state_dict(), tmp_path / "net.pt")
    search = advance(searched(model=model))
    search.ticket().save(tmp_path / "net.ticket")
    names = ("net.ticket", "net.safetensors", "net.pt")
    arguments = [str(Path(__file__).parent), *(str(tmp_path / name) for name in names)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", APPLY, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str(model.eval()(INPUTS).tolist())] * 3


@pytest.mark.parametrize("name", ["one.weight", "other.weight"])
def test_a_tied_weight_is_found_under_any_of_its_names(name):
    model = pretrained()
    given = {k: v for k, v in tensors(model).items() if k not in ("one.weight", "other.weight")}
    search = searched(model=model.eval())
    network = search.ticket().apply(Net(), given={**given, name: tensors(pretrained())["one.weight"]})
    assert network.one.weight is network.other.weight
    assert torch.equal(network.eval()(INPUTS), model(INPUTS))


class Tied(nn.Module):
    """A language model whose head reads the embedding's weight."""

    def __init__(self):
        super().__init__()
        self.wte, self.block, self.head = nn.Embedding(11, 4), nn.Linear(4, 4), nn.Linear(4, 11, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, tokens):
        return self.head(self.block(self.wte(tokens)).tanh())


def test_the_embedding_of_a_language_model_may_be_masked_under_the_name_of_its_head():
    torch.manual_seed(0)
    model, tokens = Tied(), torch.arange(11)
    given = {"head.weight": model.wte.weight.detach().clone(), **tensors(model.block)}
    given = {name if "head" in name else f"block.{name}": tensor for name, tensor in given.items()}
    search = EdgePopup(model, density=0.5, weights="given")
    expected = model(tokens)
    network = Ticket.from_bytes(search.ticket().to_bytes()).apply(Tied(), given=given)
    assert torch.equal(network(tokens), expected)


def flipped(tensor):
    """Return a tensor that differs in one bit."""
    bits = tensor.clone().reshape(-1).view(torch.uint8)
    bits[-1] ^= 1
    return bits.view(tensor.dtype).reshape(tensor.shape)


WRONG = {
    "a bit": (lambda t: {**t, "fc.weight": flipped(t["fc.weight"])}, "its fc.weight has other values"),
    "a pruned weight": (lambda t: {**t, "fc.weight": t["fc.weight"] * 1.5}, "its fc.weight has other values"),
    "a statistic": (lambda t: {**t, "norm.running_var": t["norm.running_var"] + 1}, "its norm.running_var has other"),
    "the sign of zero": (lambda t: {**t, "norm.bias": -t["norm.bias"]}, "its norm.bias has other values"),
    "missing": (lambda t: {k: v for k, v in t.items() if k != "token"}, "it lacks token"),
    "a dtype": (lambda t: {**t, "fc.weight": t["fc.weight"].double()}, "its fc.weight is float64, not float32"),
    "a shape": (lambda t: {**t, "fc.weight": t["fc.weight"].t()}, r"its fc.weight has shape \(6, 8\), not \(8, 6\)"),
    "no numbers": (lambda t: {**t, "token": t["token"].to("meta")}, "its token is not a plain tensor of numbers"),
    "sparse": (lambda t: {**t, "fc.weight": t["fc.weight"].to_sparse()}, "its fc.weight is not a plain tensor"),
    "many": (lambda t: {"x": torch.ones(1)}, r"it lacks token; it lacks fc.weight; it lacks fc.bias \(and"),
    "a list": (lambda t: [t], "given=list was passed; give the path of a checkpoint"),
    "what it lies in": (lambda t: {"state_dict": t}, r"holds no tensors by name \(state_dict\)"),
    "nothing": (lambda t: None, r"over the weights of the checkpoint net \(SHA-256 [0-9a-f]{16}…\), which it does not"),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_checkpoint_is_refused_and_the_model_left_alone(case):
    change, says = WRONG[case]
    ticket, model = searched(model=pretrained().eval()).ticket(), Net()
    before = tensors(model)
    with pytest.raises(TicketError, match=says):
        ticket.apply(model, given=change(tensors(pretrained())))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
@pytest.mark.parametrize("data", [b"", b"rubbish" * 9, None])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, name, data):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(TicketError, match=r"^Cannot read the checkpoint|is not a sound checkpoint"):
        searched().ticket().apply(Net(), given=tmp_path / name)


class Trap:
    def __reduce__(self):
        return print, ("unpickled",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"fc.weight": torch.ones(8, 6), "trap": Trap()}, tmp_path / "net.pt")
    with pytest.raises(TicketError, match="is not a sound checkpoint"):
        searched().ticket().apply(Net(), given=tmp_path / "net.pt")
    assert not capsys.readouterr().out


def test_random_weights_take_no_checkpoint():
    ticket = EdgePopup(Net(), density=0.4).ticket()
    assert "given" not in ticket.contents().header
    with pytest.raises(TicketError, match="over random weights, which its seed regrows"):
        ticket.apply(Net(), given={})


FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.filterwarnings("ignore:density=")  # of small layers that keep nothing
@settings(max_examples=40, deadline=None)
@cases(
    st.lists(st.integers(0, 5), min_size=2, max_size=4),
    st.sampled_from(FLOATS),
    st.sampled_from(FLOATS),
    st.floats(0.1, 1.0),
    st.integers(0, 2**32),
)
def test_any_shape_and_dtype_comes_back_bit_for_bit(shape, dtype, into, density, seed):
    torch.manual_seed(seed)

    def model(dtype):
        holder = nn.Module()
        holder.register_parameter("weight", nn.Parameter(torch.randn(shape).to(dtype)))
        holder.register_parameter("more", nn.Parameter(torch.randn(3, 3).to(dtype)))
        return holder

    own = model(dtype)
    given = tensors(own)
    if not torch.cat([each.reshape(-1) for each in given.values()]).isfinite().all():
        return
    search = EdgePopup(own, density=density, weights="given", include=("more",))
    ticket = Ticket.from_bytes(search.ticket().to_bytes())
    assert ticket == search.ticket()
    for name, parameter in ticket.apply(model(into), given=given).named_parameters():
        assert torch.equal(parameter, torch.where(ticket.masks[name], given[name], 0.0).to(into))
    assert ticket.checkpoint == Checkpoint.of("", dict(reversed(given.items())))
    assert ticket.digest == Checkpoint.of("other name", given).digest
    if given["weight"].numel():
        with pytest.raises(TicketError, match="its weight has other values"):
            ticket.apply(model(dtype), given={**given, "weight": flipped(given["weight"])})


def test_views_and_strides_do_not_count():
    given = tensors(pretrained())
    odd = {name: each.t().contiguous().t() if each.ndim == 2 else each for name, each in given.items()}
    assert Checkpoint.of("", odd) == Checkpoint.of("", given)


def test_a_checkpoint_is_written_into_a_model_all_of_it_or_not_at_all(tmp_path):
    safetensors.torch.save_model(pretrained(), tmp_path / "net.safetensors")
    model = Net()
    load_given(model, tmp_path / "net.safetensors")
    assert all(torch.equal(tensor, tensors(pretrained())[name]) for name, tensor in model.state_dict().items())
    wide = Net()
    wide.head = nn.Linear(8, 5)
    before = tensors(wide)
    with pytest.raises(TicketError, match=r"its head.weight has shape \(3, 8\), not \(5, 8\).*with learned="):
        load_given(wide, tmp_path / "net.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in wide.state_dict().items())
    load_given(wide, tmp_path / "net.safetensors", spared=("head.*",))
    assert torch.equal(wide.head.weight, before["head.weight"])
    assert torch.equal(wide.fc.weight, model.fc.weight)


def test_a_ticket_holds_together():
    ticket = searched(model=pretrained().eval(), learned=("head.*",)).ticket()
    assert copy.deepcopy(ticket) == ticket
    assert hash(copy.deepcopy(ticket)) == hash(ticket)
    other = replace(ticket, checkpoint=replace(ticket.checkpoint, name="another"))
    assert other != ticket
    assert other.digest == ticket.digest
    with pytest.raises(TicketError, match="no random weights: it is over the checkpoint net"):
        ticket.random_weights()
    random = EdgePopup(pretrained(), density=0.4).ticket()
    for changes, says in [
        ({"digest": "0" * 64}, "The digest of the ticket is not that of its checkpoint"),
        ({"weights": random.weights}, "over random weights or over given ones, not over both"),
        ({"checkpoint": None}, "has no random weight"),
        ({"learned": {"fc.bias": torch.ones(8)}}, "fc.bias is both given and stored"),
        ({"checkpoint": ticket.checkpoint.only(["fc.weight"])}, "The mask of one.weight has no given weight"),
    ]:
        with pytest.raises(TicketError, match=says):
            replace(ticket, **changes)


@pytest.mark.parametrize("given", [{}, {"name": "x", "tensors": {"fc.weight": [[8, 6], "float32"]}}, 3, None])
def test_a_header_that_describes_no_checkpoint_is_refused(given):
    contents = searched().ticket().contents()
    data = encode(replace(contents, header={**contents.header, "given": given}))
    with pytest.raises(TicketError, match=r"given|tensors|fc.weight"):
        Ticket.from_bytes(data)
