"""What the graph of a target cannot hold is refused in one sentence."""

import math
import re

import einops
import pytest
import torch
import torch.nn.functional as F
from einops.layers.torch import Rearrange
from graph_targets import trained
from torch import nn

from supermask.errors import SupermaskError
from theory.graph import graph_of

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


class Doubled(nn.Linear):
    """A Linear that is none."""

    def forward(self, x):
        return 2 * super().forward(x)


class Padded(nn.Conv2d):
    """A Conv2d that is none."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x + 1.0, weight, bias)


class AlwaysDrops(nn.Dropout):
    """Dropout that stays on after training."""

    def train(self, mode=True):
        return super().train(True)


class MonteCarlo(nn.Dropout):
    """Dropout that stays on after training, in another way."""

    def forward(self, x):
        return F.dropout(x, self.p, True)


class Net(nn.Module):
    """A convolution, a Linear, a scale, and a forward pass that is given."""

    def __init__(self, run):
        super().__init__()
        self.conv, self.fc, self.norm = nn.Conv2d(4, 4, 1), nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.scale = nn.Parameter(torch.ones(6))
        self.relu = nn.ReLU(inplace=True)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


class Two(nn.Module):
    """Two inputs."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x, y):
        return self.fc(x)


class Residual(nn.Module):
    """A block deep inside a network."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return x + self.fc(x)


def discarded(self, x):
    y = self.fc(x)
    self.relu(y)
    return y


def aliased(self, x):
    y = self.conv(x)
    z = y.view(y.size(0), -1)
    y.relu_()
    return z


def hooked(register):
    target = nn.Sequential(nn.Linear(6, 2))
    getattr(target[0], register)(lambda module, *tensors: None)
    return target


def replaced():
    target = nn.Sequential(nn.Linear(6, 2))
    target[0].forward = lambda x: x[:, :2]
    return target


def broken(key, value, *modules):
    target = trained(nn.Sequential(*modules))
    with torch.no_grad():
        target.state_dict(keep_vars=True)[key].view(-1)[0] = value
    return target


def norm_of(module):
    norm = nn.BatchNorm1d(4)
    norm.running_var.zero_()
    norm.eps = 0.0
    return nn.Sequential(module, norm)


FC, CONV, FLAT = (lambda: nn.Linear(6, 4)), (lambda: nn.Conv2d(4, 4, 3)), nn.Flatten
ONLY = "only Linear and ReLU, Conv2d"
SAYS = "does not compute what its Linear and ReLU modules say: "
REFUSED = [
    (nn.Linear(3, 2), r"^The target is a Linear; give an nn\.Sequential"),
    ([nn.Linear(3, 2)], r"^The target is a list; give an nn\.Sequential"),
    (nn.ModuleList([FC()]), r"^The target is a ModuleList; give an nn\.Sequential"),
    (nn.Sequential(), "no Linear layer and no Conv2d"),
    (nn.Sequential(FLAT()), "no Linear layer and no Conv2d"),
    (nn.Sequential(nn.ReLU(), FC()), "^The target begins with a ReLU"),
    (nn.Sequential(FLAT(), nn.ReLU(), FC()), "^The target begins with a ReLU"),
    (nn.Sequential(FC(), nn.Tanh()), f"^The target's 1 is a Tanh; {ONLY}"),
    (nn.Sequential(FC(), nn.Sequential(nn.ReLU6())), rf"^The target's 1\.0 is a ReLU6; {ONLY}"),
    (nn.Sequential(FC(), nn.Softmax(1)), "^The target's 1 is a Softmax; .*; leave it off"),
    (nn.Sequential(FC(), nn.LogSoftmax(1)), "^The target's 1 is a LogSoftmax; .*; leave it off"),
    (nn.Sequential(nn.Conv3d(4, 2, 3)), "0 is a Conv3d; only"),
    (nn.Sequential(nn.ConvTranspose3d(4, 2, 3)), "0 is a ConvTranspose3d; only"),
    (nn.Sequential(CONV(), nn.MaxPool2d(2, return_indices=True)), "1 returns indices"),
    (nn.Sequential(CONV(), nn.AdaptiveMaxPool2d(2, return_indices=True)), "1 returns indices"),
    (nn.Sequential(CONV(), nn.MaxPool2d(2.5)), r"1 has the size 2\.5; give one integer or two"),
    (nn.Sequential(CONV(), nn.AdaptiveAvgPool2d((None, 2))), r"1 has the size \(None, 2\); give"),
    (nn.Sequential(CONV(), nn.AvgPool2d((1, 2, 3))), r"1 has the size \(1, 2, 3\); give"),
    (nn.Sequential(nn.ZeroPad2d(-1), CONV()), "0 cuts the image"),
    (nn.Sequential(CONV(), nn.Flatten(1, 2)), "1 flattens dimensions 1 to 2; only"),
    (nn.Sequential(nn.Flatten(0), FC()), "0 flattens dimensions 0 to -1; only"),
    (nn.Sequential(CONV(), Rearrange("b c h w -> b (h w c)")), r"1 rearranges 'b c h w -> b \(h w c\)'; only"),
    (nn.Sequential(CONV(), Rearrange("b c h w -> (b c) (h w)")), "1 rearranges"),
    (nn.Sequential(CONV(), Rearrange("b (c d) h w -> b (c d h w)", d=2)), "1 rearranges"),
    (nn.Sequential(CONV(), Rearrange("b c h w -> b c (h w)")), "1 rearranges"),
    (nn.Sequential(Rearrange("... c -> ... (c)"), FC()), "0 rearranges"),
    # what does not fit
    (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(5, 2)),
        r"^The target's 2 takes 5 inputs, but gets 4\.$",
    ),
    (
        nn.Sequential(CONV(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 1)),
        r"^The target's 2 takes images of 3 channels, but gets images of 4\.$",
    ),
    (nn.Sequential(CONV(), nn.Conv2d(6, 2, 1, groups=2)), r"1 takes images of 6 channels, but gets images of 4"),
    (nn.Sequential(FC(), nn.Flatten(), nn.Linear(5, 2)), r"2 takes 5 inputs, but gets 4\.$"),
    (nn.Sequential(FC(), nn.BatchNorm1d(5)), r"1 takes 5 inputs, but gets 4\.$"),
    (
        nn.Sequential(CONV(), nn.Linear(6, 2)),
        r"1 takes vectors, but gets images; put an nn\.Flatten before it\.$",
    ),
    (nn.Sequential(FC(), CONV()), "1 takes images, but gets vectors"),
    (nn.Sequential(FLAT(), CONV()), "1 takes images, but gets vectors"),
    (nn.Sequential(FC(), nn.MaxPool2d(2)), "1 takes images, but gets vectors"),
    # batch norm
    (nn.Sequential(CONV(), nn.BatchNorm1d(4)), "1 is a BatchNorm1d that takes vectors or sequences, but gets images"),
    (nn.Sequential(FC(), nn.BatchNorm2d(4)), "1 is a BatchNorm2d that takes images, but gets vectors"),
    (nn.Sequential(FC(), nn.BatchNorm1d(4, track_running_stats=False)), "1 has no running statistics"),
    (nn.Sequential(CONV(), nn.InstanceNorm2d(4)), "1 is a InstanceNorm2d; only"),
    (norm_of(FC()), r"^The target's 1\.running_var holds a variance that is not positive\.$"),
    (broken("1.running_var", -1.0, FC(), nn.BatchNorm1d(4)), r"1\.running_var holds a variance that is not positive"),
    # numbers
    (broken("0.weight", math.nan, FC()), r"^The target's 0\.weight holds NaN or infinity\.$"),
    (broken("0.bias", math.inf, FC()), r"^The target's 0\.bias holds NaN or infinity\.$"),
    (broken("0.0.weight", -math.inf, nn.Sequential(CONV())), r"^The target's 0\.0\.weight holds NaN or infinity\.$"),
    (broken("1.running_mean", math.nan, FC(), nn.BatchNorm1d(4)), r"^The target's 1\.running_mean holds NaN"),
    (broken("1.running_var", math.inf, FC(), nn.BatchNorm1d(4)), r"^The target's 1\.running_var holds NaN"),
    (broken("1.bias", math.nan, CONV(), nn.BatchNorm2d(4)), r"^The target's 1\.bias holds NaN"),
    (nn.Sequential(nn.Linear(6, 2, dtype=torch.complex64)), r"0\.weight is complex"),
    (nn.Sequential(nn.LazyLinear(3)), r"^The target's 0\.weight has no values yet"),
    (nn.Sequential(nn.Linear(6, 2, device="meta")), r"^The target's 0\.weight has no values yet"),
    # modules that do something else
    (nn.Sequential(Doubled(6, 2)), f"{SAYS}0 is a Doubled that computes something of its own; give a plain Linear"),
    (nn.Sequential(Padded(4, 2, 3)), f"{SAYS}0 is a Padded that .*; give a plain Conv2d"),
    (nn.Sequential(FC(), MonteCarlo()), f"{SAYS}1 is a MonteCarlo that"),
    (nn.Sequential(FC(), AlwaysDrops()), r"1 stays in training mode after eval\(\)"),
    (hooked("register_forward_hook"), f"{SAYS}0 has a forward hook; give plain modules without hooks"),
    (hooked("register_forward_pre_hook"), f"{SAYS}0 has a forward hook"),
    (replaced(), f"{SAYS}0 is called in a way of its own"),
    # no chain
    (Net(lambda self, x: self.scale), "The target's scale does not use the input"),
    (Net(lambda self, x: F.linear(x, self.fc.weight)), f"The target calls linear in forward; {ONLY}"),
    (Net(lambda self, x: torch.tanh(self.fc(x))), f"The target calls tanh in forward; {ONLY}"),
    (Net(lambda self, x: self.fc(x).tanh()), f"The target calls tanh in forward; {ONLY}"),
    (Net(lambda self, x: F.softmax(self.fc(x), dim=1)), "The target calls softmax in forward; .*; leave it off"),
    (Net(lambda self, x: self.fc(x).log_softmax(1)), "The target calls log_softmax in forward; .*; leave it off"),
    (Net(lambda self, x: einops.rearrange(self.conv(x), "b c h w -> b (w h c)")), "rearrange in forward rearranges"),
    (Net(lambda self, x: F.dropout(self.fc(x))), "dropout in forward drops units after training too"),
    (Net(lambda self, x: self.conv(x).flatten()), "flatten in forward flattens dimensions 0 to -1"),
    (Net(lambda self, x: self.conv(x).view(x.size(1), -1)), "view in forward depends on the size of its input"),
    (Net(lambda self, x: self.conv(x).view(self.scale.size(0), -1)), "view in forward depends on the size"),
    (Net(lambda self, x: self.conv(x).view(self.scale.shape[0], -1)), "view in forward depends on the size"),
    (Net(lambda self, x: self.conv(x).view(-1, 2, 3)), r"view in forward makes the shape \(-1, 2, 3\); only"),
    (Net(lambda self, x: self.conv(x).view(x.size(0), -1, 3)), r"makes the shape \(the batch, -1, 3\); only"),
    (Net(lambda self, x: self.conv(x).view(3, -1)), r"makes the shape \(3, -1\); only"),
    (Net(lambda self, x: self.fc(x).view(-1, 3)), r"view in forward takes 3 inputs, but gets 6\.$"),
    (Net(lambda self, x: self.fc(self.conv(x).view(-1, 7))), r"The target's fc takes 6 inputs, but gets 7\.$"),
    (
        Net(lambda self, x: self.conv(x).view(-1, 6)),
        "view in forward is followed by no Linear that takes its 6 outputs",
    ),
    (Net(lambda self, x: F.avg_pool2d(self.conv(x), x.size()[2:])), "avg_pool2d in forward depends on the size"),
    (
        Net(lambda self, x: F.max_pool2d(self.conv(x), 2, return_indices=True)[0]),
        "The target calls max_pool2d_with_indices in forward",
    ),
    (Net(lambda self, x: x.relu(self.fc(x))), "relu in forward brings 2 tensors together"),
    (Net(lambda self, x: self.fc(x).flatten(1, out=3)), "flatten in forward is called with arguments"),
    (Net(lambda self, x: self.fc(x) if x.sum() > 0 else x), "^The target's forward cannot be followed"),
    (Net(lambda self, x: nn.Linear(6, 2)(x)), "^The target's forward cannot be followed"),
    (Net(lambda self, x: (self.fc(x), x)), "^The target's forward returns a tuple"),
    (Net(discarded), "relu is beside what leads to the output; leave it out"),
    (Net(aliased), "relu_ in forward is beside what leads"),
    (Two(), "^The target's forward takes 2 inputs"),
]


@pytest.mark.parametrize(("target", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_cannot_be_built_is_refused_in_one_sentence(target, sentence):
    with pytest.raises(SupermaskError, match=sentence) as caught:
        graph_of(target)
    assert str(caught.value).endswith(".")
    assert not re.search(r"[a-z]\. ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_fold_that_overflows_is_refused():
    target = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)).double()
    nn.init.constant_(target[0].weight, 1e200)
    nn.init.constant_(target[1].weight, 1e200)
    with pytest.raises(SupermaskError, match="1, folded into the layer before it, holds NaN or infinity"):
        graph_of(target)


def test_a_weight_that_is_no_parameter_is_refused():
    target = nn.Sequential(nn.Linear(6, 2))
    del target[0].weight
    target[0].weight = torch.ones(2, 6, requires_grad=True) * 2.0
    with pytest.raises(SupermaskError, match=r"^The target cannot be copied"):
        graph_of(target)
