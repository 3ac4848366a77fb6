"""One iteration on a toy model: what moves, by how much, and how often."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from toys import Toy, ToyConfig, fit, images

from ssimgen.batches import Batch
from ssimgen.training import Hook, Optimiser, Training, iteration, read_metrics


def test_only_the_modules_of_a_step_require_gradients(tmp_path: Path) -> None:
    model = fit(tmp_path)
    assert [name for name, _ in model.calls] == ["autoencoder", "critic"] * 12
    for name, required in model.calls:
        others = name == "autoencoder"
        assert required == {"encoder": others, "decoder": others, "critic": not others}


def test_an_iteration_is_plain_gradient_descent_on_the_weighted_terms(tmp_path: Path) -> None:
    model, reference = Toy(), Toy()
    data, training = images(), Training(iterations=1, batch=8, seed=3)
    fit(tmp_path, model, data=data, training=training, optimiser=Optimiser("sgd", lr=0.5, momentum=0.0))

    torch.manual_seed(iteration.seed_of(3, 0))
    batch = next(data.batches(8, 3))
    terms = reference.fit(batch)
    moving = [*reference.encoder.parameters(), *reference.decoder.parameters()]
    gradients = torch.autograd.grad(2 * terms["error"] + 0.5 * terms["moment"], moving)
    with torch.no_grad():
        for p, g in zip(moving, gradients, strict=True):
            p -= 0.5 * g
    critic = list(reference.critic.parameters())
    gradients = torch.autograd.grad(reference.judge(batch)["score"], critic)
    with torch.no_grad():
        for p, g in zip(critic, gradients, strict=True):
            p -= 0.5 * g
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, msg=key)


def test_steps_are_taken_as_often_and_as_long_as_they_ask(tmp_path: Path) -> None:
    model = fit(tmp_path, Toy(ToyConfig(every=3, span=(0.25, 0.75))))  # iterations 3 ... 8, of which 3 and 6
    order = [name for name, _ in model.calls]
    assert order.count("critic") == 2
    assert order[4] == order[8] == "critic"


def test_learning_rates_follow_the_schedule_over_the_span_of_the_step(tmp_path: Path) -> None:
    training = Training(iterations=8, batch=8, log_every=1)
    model = Toy(ToyConfig(span=(0.0, 0.5), lr_scale=0.1))
    fit(tmp_path, model, training=training, optimiser=Optimiser("sgd", lr=0.8, schedule="linear"))
    lines = read_metrics(tmp_path)
    assert [line["autoencoder/lr"] for line in lines] == pytest.approx([0.8 * (1 - i / 8) for i in range(8)])
    assert [line["critic/lr"] for line in lines[:4]] == pytest.approx([0.08 * (1 - i / 4) for i in range(4)])


def test_clipping_bounds_the_move(tmp_path: Path) -> None:
    model, before = Toy(), Toy()
    optimiser = Optimiser("sgd", lr=1.0, momentum=0.0, clip=1e-3)
    fit(tmp_path, model, training=Training(iterations=1, batch=8), optimiser=optimiser)
    parts = ("encoder", "decoder")
    moved = torch.cat(
        [
            (p - q).flatten()
            for part in parts
            for p, q in zip(getattr(model, part).parameters(), getattr(before, part).parameters(), strict=True)
        ]
    )
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_the_average_is_the_recursion_of_its_definition(tmp_path: Path) -> None:
    history: list[Tensor] = []
    training = Training(iterations=6, batch=8, ema=0.5, checkpoint_every=6)
    model = Toy()
    first = model.decoder[0].weight.detach().clone()
    live = model.decoder[0].weight

    original = model.judge

    def spy(batch: Batch) -> dict[str, Tensor]:
        history.append(live.detach().clone())  # the critic's step comes after the weights have moved
        return original(batch)

    model.judge = spy  # type: ignore[method-assign]
    seen: list[Tensor] = []
    fit(
        tmp_path,
        model,
        training=training,
        hooks=(Hook(6, lambda m, _: seen.append(m.decoder[0].weight.clone()) or {}),),
    )
    average = first
    for t, weight in enumerate(history[1:], start=1):  # the first was the rehearsal, before training
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(seen[0], average)
    assert torch.equal(model.decoder[0].weight, history[-1])  # and the live weights are back
    stored = safetensors.torch.load_file(tmp_path / "checkpoints" / "00000006.safetensors")
    torch.testing.assert_close(stored["average.decoder.0.weight"], average)
    assert "average.encoder.1.weight" not in stored
