"""A search in transformers' Trainer: its steps are the optimizer's, and the Trainer's own checkpoints are enough."""

import pytest
import torch
from killed import kill, killed

from supermask import EdgePopup, Ticket
from supermask.masking.schedule import CubicRamp

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
STEPS = 12


class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, place):
        words = torch.randint(0, 20, (6,), generator=torch.Generator().manual_seed(place))
        return {"input_ids": words, "labels": (words.sum() % 3).reshape(())}


def bert():
    """With dropout, whose random numbers a run that goes on has to take up."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 8}
    config = transformers.BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=2, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def searched():
    return EdgePopup(bert(), density=0.4, schedule=CubicRamp(10), norm="frozen", include=("*position*", "*token_type*"))


def trainer(search, folder, *callbacks, evaluated=None, **options):
    settings = {"max_steps": STEPS, "per_device_train_batch_size": 4, "save_steps": 5, "use_cpu": True}
    settings |= {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "learning_rate": 0.01}
    arguments = transformers.TrainingArguments(str(folder), **{**settings, **options})
    optimizer = torch.optim.AdamW(search.parameters(), lr=0.01)
    search.follow(optimizer)
    return transformers.Trainer(
        search.model,
        arguments,
        train_dataset=Words(),
        eval_dataset=evaluated,
        optimizers=(optimizer, None),
        callbacks=[*callbacks],
    )


class Killing(transformers.TrainerCallback):
    def on_step_end(self, arguments, state, control, **_):
        if state.global_step == 8:
            kill()


def train_until_killed(folder):
    trainer(searched(), folder, Killing()).train()


def test_a_run_that_was_killed_goes_on_from_its_checkpoint_to_the_same_ticket(tmp_path):
    whole, resumed = searched(), searched()
    trainer(whole, tmp_path / "whole").train()
    killed(train_until_killed, tmp_path / "broken")
    run = trainer(resumed, tmp_path / "broken")
    run.train(resume_from_checkpoint=True)
    assert resumed.steps == whole.steps == run.state.global_step == STEPS
    assert all(torch.equal(scores, whole.scores()[name]) for name, scores in resumed.scores().items())
    assert resumed.ticket() == whole.ticket()
    (tmp_path / "bert.ticket").write_bytes(resumed.ticket().to_bytes())
    network = Ticket.load(tmp_path / "bert.ticket").apply(bert()).eval()
    words = Words()[0]["input_ids"][None]
    assert torch.equal(network(words).logits, resumed.model.eval()(words).logits)


@pytest.mark.parametrize(
    "options", [{"gradient_accumulation_steps": 4}, {"label_smoothing_factor": 0.1}, {"bf16": True}]
)
def test_the_steps_are_those_of_the_optimizer(options, tmp_path):
    search = searched()
    run = trainer(search, tmp_path, save_strategy="no", **options)
    run.train()
    assert search.steps == run.state.global_step == STEPS


def test_the_optimizer_that_the_trainer_makes_can_be_followed(tmp_path):
    search = searched()
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=3, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no"
    )
    run = transformers.Trainer(search.model, arguments, train_dataset=Words())
    search.follow(run.create_optimizer())
    run.train()
    assert search.steps == 3


def test_the_best_model_at_the_end_is_the_search_at_its_step(tmp_path):
    search = searched()
    options = {"eval_strategy": "steps", "eval_steps": 5, "load_best_model_at_end": True}
    run = trainer(search, tmp_path, evaluated=Words(), **options)
    run.train()
    assert search.steps == int(run.state.best_model_checkpoint.rpartition("-")[2])
    assert search.ticket().provenance["steps"] == search.steps
