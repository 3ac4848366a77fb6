"""Exponential moving average of the weights of some sub-modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Follows the parameters of the sub-modules `names`: a <- d a + (1 - d) w after each iteration t.

    d = min(decay, (1 + t) / (10 + t)), so that the first weights, which mean nothing, are soon forgotten.
    Buffers (statistics of batch normalisation) are copied. With decay 0 or no names it holds nothing.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...], decay: float) -> None:
        self._decay = decay
        prefixes = tuple(f"{name}." for name in names) if decay else ()
        state = model.state_dict(keep_vars=True)
        self._live = {key: value for key, value in state.items() if key.startswith(prefixes)} if prefixes else {}
        self.tensors = {key: value.detach().clone() for key, value in self._live.items()}

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """Take in the weights after `iteration` iterations."""
        decay = min(self._decay, (1 + iteration) / (10 + iteration))
        for key, value in self._live.items():
            if isinstance(value, nn.Parameter):
                self.tensors[key].lerp_(value, 1 - decay)
            else:
                self.tensors[key].copy_(value)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the averages from a checkpoint."""
        for key, value in self.tensors.items():
            value.copy_(tensors[key])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts, the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for key, live in self._live.items():
            kept = live.clone()
            live.copy_(self.tensors[key])
            self.tensors[key].copy_(kept)
