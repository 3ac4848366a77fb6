"""A distance of image pairs, ST-LPIPS, that was fitted to the choices of people (Ghildyal, Liu 2022).

The weights come with the package stlpips-pytorch, of which nothing but its file of weights is used: its code imports
torchvision, which is large and not needed.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ssimgen.engine.taps import numbers

PACKAGE = "stlpips-pytorch"
WEIGHTS = "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth"
INSTALL = "an optional dependency: pip install 'ssimgen[judges]'"

_SIDE = 64  # of the patches that people compared
_BATCH = 8  # more are slower
_CONVOLUTIONS = (  # name in the file; channels in and out, side, padding
    ("slice1.0", 3, 64, 11, 2),
    ("slice2.5", 64, 192, 5, 2),
    ("slice3.9", 192, 384, 3, 1),
    ("slice4.11", 384, 256, 3, 1),
    ("slice5.13", 256, 256, 3, 1),
)


class PerceptualDistance(nn.Module):
    """The distance ST-LPIPS with AlexNet: pairs of images (B, 1 or 3, H, W) in [0, 1] -> distances (B,).

    The outputs of five layers, each normalised over its channels, are compared by squared differences with learned
    weights, and averaged over positions. The layers shrink by blurring, so that a shift of a pixel counts little.
    Images whose shorter side is less than 64 px are enlarged to that (bilinear), larger ones are taken as they are.

    Args:
        weights: the file of weights.

    Raises:
        ValueError: a file with other weights.

    Example:
        >>> from pathlib import Path
        >>> from ssimgen.evaluation import PerceptualDistance
        >>> try:
        ...     PerceptualDistance(Path("none.pth"))
        ... except OSError as error:
        ...     print(error.strerror)
        No such file or directory
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        content = torch.load(weights, map_location="cpu", weights_only=True)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, k, padding=p) for _, i, o, k, p in _CONVOLUTIONS)
        self.importance = nn.ParameterList(torch.empty(1, o, 1, 1) for _, _, o, _, _ in _CONVOLUTIONS)
        try:
            self.register_buffer("shift", content["scaling_layer.shift"])
            self.register_buffer("scale", content["scaling_layer.scale"])
            for i, (name, *_) in enumerate(_CONVOLUTIONS):
                parts = {part: content[f"net.{name}.{part}"] for part in ("weight", "bias")}
                self.convolutions[i].load_state_dict(parts)
                with torch.no_grad():
                    self.importance[i].copy_(content[f"lin{i}.model.1.weight"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"{weights} does not hold the weights of ST-LPIPS: install {PACKAGE} again") from error
        # faster on CPUs than channels first
        self.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        if x.shape != y.shape or x.shape[1] not in (1, 3):
            raise ValueError(
                f"pairs of grey or of colour images are compared, got shapes {tuple(x.shape)} and {tuple(y.shape)}"
            )
        return torch.cat([self._distances(a, b) for a, b in zip(x.split(_BATCH), y.split(_BATCH), strict=True)])

    def _distances(self, x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(self._layers(x), self._layers(y), self.importance, strict=True)
        return torch.stack([(w * (a - b).square()).sum(1).mean((1, 2)) for a, b, w in pairs]).sum(0)

    def _layers(self, images: Tensor) -> list[Tensor]:
        """The outputs of the five layers, each position of unit length over channels."""
        images = images.float()
        shorter = min(images.shape[-2:])
        if shorter < _SIDE:
            size = [round(side * _SIDE / shorter) for side in images.shape[-2:]]
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        h = (2 * images.expand(-1, 3, -1, -1) - 1 - self.shift) / self.scale  # type: ignore[operator]
        layers = []
        for i, convolution in enumerate(self.convolutions):
            if i in (1, 2):
                h = _halved(F.max_pool2d(h, 3, 1))
            h = convolution(h)
            h = torch.relu(_halved(h) if i == 0 else h)
            layers.append(h / (h.norm(dim=1, keepdim=True) + 1e-10))
        return layers


def _halved(h: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Every second position of both axes after a blur by 1 2 1."""
    taps = numbers((0.25, 0.5, 0.25), h)
    stencil = torch.outer(taps, taps).expand(h.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(h, (2, 2, 2, 2), mode="reflect"), stencil, stride=2, groups=h.shape[1])


def st_lpips() -> PerceptualDistance:
    """The distance ST-LPIPS with the weights of the installed package stlpips-pytorch; nothing is downloaded.

    Raises:
        ModuleNotFoundError: the optional dependencies "judges" are not installed.
        ValueError: its file of weights is another one.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import st_lpips
        >>> images = torch.rand(1, 3, 64, 64)
        >>> try:
        ...     distance = st_lpips()(images, images)
        ... except ModuleNotFoundError:  # the optional dependencies "judges" are not installed
        ...     distance = torch.zeros(1)
        >>> distance
        tensor([0.])
    """
    weights = weights_file()
    if weights is None:
        raise ModuleNotFoundError(f"the distance ST-LPIPS is {INSTALL}")
    return _loaded(weights)


def weights_file() -> Path | None:
    """The installed file of weights; None if there is none."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(WEIGHTS)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


_loaded = cache(PerceptualDistance)
