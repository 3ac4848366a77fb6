"""Arithmetic of our own in the dtype of its tensors, whatever the caller's autocast asks of matrix products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off; nothing on a device that has none, such as "meta"."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()
