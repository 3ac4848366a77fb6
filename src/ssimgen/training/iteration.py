"""One iteration: the steps of the model that are due, each down the gradient of its weighted terms."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn

from ssimgen._arguments import NonFiniteResultError
from ssimgen.batches import Batch, mean_over_processes, processes
from ssimgen.models.steps import Model, Step
from ssimgen.training.errors import TAMER, NotFiniteError
from ssimgen.training.state import Mover, State


def iterate(state: State, batch: Batch) -> dict[str, float]:
    """Take the steps that are due; returns the terms by name."""
    torch.manual_seed(seed_of(state.training.seed, state.iteration))
    values: dict[str, float] = {}
    for mover in state.movers:
        progress = _progress(state, mover.step)
        if progress is not None and state.iteration % mover.step.every == 0:
            values |= _take(state, mover, batch, progress)
    state.iteration += 1
    state.average.update(state.iteration)
    return values


def seed_of(seed: int, iteration: int) -> int:
    """The seed of an iteration's random numbers."""
    return int(np.random.SeedSequence((seed, iteration)).generate_state(1, np.uint64)[0])


def rehearse(model: Model, batch: Batch) -> None:
    """Evaluate every step once on a copy of the model, also those that come late in the run.

    What does not fit the images raises ValueError here, before there is a folder or another process.
    """
    twin = copy.deepcopy(model).train()
    with torch.random.fork_rng():
        for step in twin.steps():
            with suppress(NonFiniteResultError):  # the run will tell in which iteration
                _evaluated(step, batch)


def _progress(state: State, step: Step) -> float | None:
    """How much of the step's span is over, or None outside of it."""
    first, last = (f * state.training.length for f in step.span)
    if state.training.seconds is None:
        first, last = round(first), round(last)
    return (state.done - first) / (last - first) if first <= state.done < last else None


def _take(state: State, mover: Mover, batch: Batch, progress: float) -> dict[str, float]:
    step, options = mover.step, state.optimiser
    for group in mover.optimiser.param_groups:
        group["lr"] = options.lr * step.lr_scale * options.lr_factor(progress)
    _require_gradients_of(mover, state.model)
    mover.optimiser.zero_grad()
    try:
        with state.fabric.autocast():
            terms = _evaluated(step, batch)
    except NonFiniteResultError as error:  # a discrepancy that refuses to be NaN
        raise _not_finite(state, "a term", step, f"not finite ({error})") from error
    loss = torch.stack([step.weights.get(n, 1.0) * t for n, t in terms.items() if step.weights.get(n, 1.0)]).sum()
    values = _checked(state, step, terms)
    state.fabric.backward(loss)
    _finish_gradients(state, mover)
    mover.optimiser.step()
    return {f"{step.name}/{name}": value for name, value in values.items()}


def _require_gradients_of(mover: Mover, model: Model) -> None:
    """And of nothing else in the model."""
    model.requires_grad_(False)
    for p in mover.parameters:
        p.requires_grad_(True)


def _evaluated(step: Step, batch: Batch) -> Mapping[str, Tensor]:
    """The terms of a step, which must include those that it weighs."""
    terms = step.terms(batch)
    if unknown := step.weights.keys() - terms.keys():
        raise ValueError(f"step {step.name!r} weighs {sorted(unknown)}, but its terms are {sorted(terms)}")
    return terms


def _checked(state: State, step: Step, terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The terms, averaged over devices, as numbers; all of them finite."""
    means = mean_over_processes(torch.stack([term.detach().float() for term in terms.values()]))
    values = dict(zip(terms, means.tolist(), strict=True))
    for name, value in values.items():
        if not math.isfinite(value):
            raise _not_finite(state, f"term {name!r}", step, value)
    return values


def _finish_gradients(state: State, mover: Mover) -> None:
    """Average over devices, check, clip."""
    gradients = [p.grad for p in mover.parameters if p.grad is not None]
    if processes() > 1:
        flat = mean_over_processes(torch.cat([g.flatten() for g in gradients]))  # one message, not one a parameter
        for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(mean.view_as(g))
    precision = state.fabric.strategy.precision
    precision.unscale_gradients(mover.optimiser.optimizer)
    norm = nn.utils.get_total_norm(gradients)
    scaled = getattr(precision, "scaler", None) is not None  # then steps of infinite gradient are left out
    if not scaled and not torch.isfinite(norm):
        raise _not_finite(state, "the gradient", mover.step, norm.item())
    if state.optimiser.clip:
        nn.utils.clip_grads_with_norm_(mover.parameters, state.optimiser.clip, norm)


def _not_finite(state: State, what: str, step: Step, value: float | str) -> NotFiniteError:
    return NotFiniteError(f"{what} of step {step.name!r} is {value} in iteration {state.iteration + 1}: {TAMER}")
