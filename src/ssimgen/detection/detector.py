"""A trained autoencoder as a detector of defects, for images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen._numbers import positive_integer
from ssimgen.data.fitting import scaled, scaled_size
from ssimgen.detection.maps import WINDOW, Residual, anomaly_map
from ssimgen.detection.tiles import check_overlap, reconstruct_in_tiles
from ssimgen.models import MODELS, Autoencoder, Model
from ssimgen.windows import Window


class Detection(NamedTuple):
    """What is found in an image.

    Attributes:
        reconstruction: of the image, in its size.
        map: the anomaly map, in its size.
        score: the greatest value of the map, before it was scaled to the size of the image.

    Example:
        >>> import torch
        >>> from ssimgen.detection import Detection
        >>> found = Detection(torch.zeros(1, 8, 8), torch.zeros(8, 8), 0.0)
        >>> found.score
        0.0
    """

    reconstruction: Float[Tensor, "C H W"]
    map: Float[Tensor, "H W"]
    score: float


@dataclass(frozen=True, eq=False)
class Detector:
    """An autoencoder that was trained on good images, and how images are compared with what it gives back.

    Attributes:
        model: of `ssimgen.training.load_model`, or your own :class:`ssimgen.models.Autoencoder`.
        residual: "l2", "ssim", "ms_ssim" or "distance", as :func:`anomaly_map`.
        window: patches of all but "l2", as :func:`anomaly_map`.
        smoothing: standard deviation in pixels of the Gaussian that maps are filtered with; 0: none.
        k1, k2: stability constants, as :func:`ssimgen.ssim`.
        overlap: share of a tile that its neighbour covers too, as :func:`reconstruct_in_tiles`.
        size: images are scaled until their shorter side has so many pixels, and maps are scaled back; None: no scaling.

    Raises:
        ValueError: a model that does not reconstruct images, or options out of range, as of :func:`anomaly_map`.

    Example:
        >>> import torch
        >>> from ssimgen.detection import Detector
        >>> from ssimgen.models import PlainAutoencoder, PlainAutoencoderConfig, make_model
        >>> model = make_model(PlainAutoencoder, PlainAutoencoderConfig(), (1, 16, 16)).eval()
        >>> found = Detector(model)(torch.rand(1, 24, 40))
        >>> found.map.shape, found.score == found.map.max().item()
        (torch.Size([24, 40]), True)
    """

    model: Model
    residual: Residual = "ssim"
    window: Window = WINDOW
    smoothing: float = 2.0
    k1: float = 0.01
    k2: float = 0.03
    overlap: float = 0.5
    size: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, Autoencoder):
            able = ", ".join(name for name, (model, _) in MODELS.items() if issubclass(model, Autoencoder))
            raise ValueError(f"a {self.model.name} draws images but does not reconstruct them: take one of {able}")
        check_overlap(self.overlap)
        if self.size is not None:
            positive_integer("size", self.size, "pixels")
        black = torch.zeros(1, *self.model.shape)
        self._map(black, black)  # options that do not fit are refused here

    def _map(self, x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H W"]:
        return anomaly_map(
            x,
            y,
            data_range=1.0,
            residual=self.residual,
            window=self.window,
            smoothing=self.smoothing,
            k1=self.k1,
            k2=self.k2,
        )

    def __call__(self, image: Float[Tensor, "C H W"]) -> Detection:
        """What is found in an image in [0, 1].

        Raises:
            ValueError: it has other channels than those of the model, or is smaller than these.
        """
        assert isinstance(self.model, Autoencoder)
        channels, *side = self.model.shape
        if len(image) == 1:
            image = image.expand(channels, -1, -1)
        if len(image) != channels:
            raise ValueError(f"has {len(image)} channels, and the model was trained on grey images: turn it into grey")
        size = self.seen_size(*image.shape[1:])
        seen = image if image.shape[1:] == size else scaled(image[None], size)[0]
        back = reconstruct_in_tiles(
            self.model.reconstruct, seen.to(self.model.device), (side[0], side[1]), self.overlap
        )
        back = back.to(seen).clamp(0, 1)
        values = self._map(seen[None], back[None])
        own = image.shape[1:]
        return Detection(_enlarged(back[None], own)[0], _enlarged(values[None], own)[0, 0], values.max().item())

    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to which an image is scaled."""
        if self.size is None:
            return height, width
        return scaled_size(height, width, self.size)


def _enlarged(images: Float[Tensor, "B C h w"], size: tuple[int, ...]) -> Float[Tensor, "B C H W"]:
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False)
