"""A search in a LightningModule: its steps are the optimizer's, and Lightning's own checkpoints are enough to go on."""

import copy
import logging

import pytest
import torch
from killed import kill, killed
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from supermask import EdgePopup
from supermask.errors import SupermaskError
from supermask.masking.schedule import CubicRamp
from supermask.search import GemMiner

L = pytest.importorskip("lightning")
IMAGES = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
LABELS = IMAGES[:, :3].argmax(1)


def batches():
    return DataLoader(TensorDataset(IMAGES, LABELS), batch_size=8)


def batch_of(step):
    part = slice(step % 8 * 8, step % 8 * 8 + 8)
    return IMAGES[part], LABELS[part]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def gradual(model):
    return EdgePopup(model, density=0.3, schedule=CubicRamp(20))


class Searched(L.LightningModule):
    def __init__(self, start=gradual, at=None, what=kill):
        super().__init__()
        self.model = network()
        self.search = start(self.model)
        self.at, self.what = at, what

    def training_step(self, batch, _):
        if self.global_step == self.at:
            self.what()
        # not the loader's own: Lightning begins it again where a checkpoint is from within an epoch
        images, labels = batch_of(self.global_step)
        return nn.functional.cross_entropy(self.model(images), labels)

    def validation_step(self, batch, _):
        self.log("loss", nn.functional.cross_entropy(self.model(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.search.parameters(), lr=0.3, momentum=0.9)
        self.search.follow(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24),
                "interval": "step",
            },
        }


def trainer(folder, *callbacks, **options):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    settings = {"max_epochs": 3, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    settings |= {"enable_model_summary": False, "default_root_dir": folder, "enable_checkpointing": False}
    return L.Trainer(**{**settings, **options}, callbacks=[*callbacks])


def kept(folder):
    """Keeps the state after every five steps, which is not the end of an epoch."""
    return L.pytorch.callbacks.ModelCheckpoint(folder, save_last=True, every_n_train_steps=5)


def fit_until_killed(folder, start):
    trainer(folder, kept(folder), enable_checkpointing=True).fit(Searched(start, at=13), batches())


def fitted(folder, start=gradual, checkpoint=None, **options):
    module = Searched(start)
    run = trainer(folder, kept(folder), enable_checkpointing=True, **options)
    run.fit(module, batches(), ckpt_path=checkpoint)
    assert module.search.steps == run.global_step
    return module.search


def plain(start, steps=24):
    """The same by hand."""
    search = start(network())
    optimizer = torch.optim.SGD(search.parameters(), lr=0.3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24)
    for step in range(steps):
        optimizer.zero_grad()
        images, labels = batch_of(step)
        nn.functional.cross_entropy(search.model(images), labels).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
        schedule.step()
    return search


def miner(model):
    return GemMiner(model, density=0.3, steps=24, pull=0.1)


@pytest.mark.parametrize("start", [gradual, miner])
def test_a_fit_is_the_loop_by_hand(start, tmp_path):
    search = fitted(tmp_path, start)
    assert search.steps == 24
    assert search.ticket() == plain(start).ticket()


@pytest.mark.parametrize("start", [gradual, miner])
def test_a_run_that_was_killed_goes_on_from_its_checkpoint_to_the_same_ticket(start, tmp_path):
    killed(fit_until_killed, tmp_path, start)
    state = torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert state["global_step"] == 10
    resumed, whole = fitted(tmp_path / "on", start, tmp_path / "last.ckpt"), plain(start)
    assert all(torch.equal(scores, whole.scores()[name]) for name, scores in resumed.scores().items())
    assert resumed.ticket() == whole.ticket()


def test_a_second_fit_with_its_new_optimizer_goes_on(tmp_path):
    module = Searched()
    trainer(tmp_path, max_epochs=1).fit(module, batches())
    trainer(tmp_path, max_epochs=2).fit(module, batches())
    assert module.search.steps == 24


def test_accumulated_batches_and_clipped_gradients_are_one_step(tmp_path):
    search = fitted(tmp_path, accumulate_grad_batches=4, gradient_clip_val=0.5)
    assert search.steps == 6


class Overflowing(Searched):
    def training_step(self, batch, index):
        return super().training_step(batch, index) * (float("inf") if index in (1, 3) else 1.0)


def test_a_step_that_a_scaler_skips_is_not_one(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    plugin = L.pytorch.plugins.MixedPrecision("16-mixed", "cpu", scaler=scaler)
    module = Overflowing()
    trainer(tmp_path, plugins=[plugin], max_epochs=1).fit(module, batches())
    assert module.search.steps == 6


def test_bfloat16_and_validations_leave_the_count_alone(tmp_path):
    module = Searched()
    trainer(tmp_path, precision="bf16-mixed", val_check_interval=3, max_epochs=1).fit(module, batches(), batches())
    assert module.search.steps == 8
    assert module.search.ticket().kept


class Averaging(L.Callback):
    """As the page of recipes has it."""

    def on_fit_start(self, trainer, module):
        self.average = AveragedModel(module.model, multi_avg_fn=get_ema_multi_avg_fn(0.8))

    def on_train_batch_end(self, trainer, module, *_):
        self.average.update_parameters(module.model)


def test_an_average_gives_the_network_of_its_scores(tmp_path):
    averaging, module = Averaging(), Searched()
    trainer(tmp_path, averaging).fit(module, batches())
    network = module.search.averaged(averaging.average)
    scores = averaging.average.module[0].parametrizations.weight.original
    kept = int(module.search.masks()["0.weight"].sum())
    assert torch.equal(network[0].weight != 0, scores.abs() >= scores.abs().flatten().sort().values[-kept])


def test_an_average_that_lightning_writes_into_the_model_is_refused(tmp_path):
    module = Searched()
    averaging = L.pytorch.callbacks.EMAWeightAveraging(decay=0.8)
    trainer(tmp_path, averaging).fit(module, batches())
    with pytest.raises(SupermaskError, match="written into"):
        module.search.ticket()


def test_a_module_can_be_copied_with_its_search(tmp_path):
    module = Searched()
    trainer(tmp_path, max_epochs=1).fit(module, batches())
    twin = copy.deepcopy(module)
    assert twin.search.model is twin.model
    trainer(tmp_path, max_epochs=1).fit(twin, batches())
    assert (module.search.steps, twin.search.steps) == (8, 16)
