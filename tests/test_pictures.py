"""Pictures are read as they are stored, at every depth, or refused by name."""

import io
import os
import random
import socket
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from ssimgen import pictures
from stored_pictures import chunk, png
from waiting import within


def pixels(content: bytes, background: str = "white") -> np.ndarray:
    """(H, W, C) in [0, 1]."""
    return pictures.decode(content, "it", background).image.movedim(0, -1).numpy()


def values(*shape: int, seed: int = 0, below: int = 65536) -> np.ndarray:
    """Random numbers."""
    return np.random.default_rng(seed).integers(0, below, shape)


def tiff(array: np.ndarray, **options: object) -> bytes:
    """A TIFF file."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file of a format that Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# --- 16 bits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("filtered", range(5))
@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits(colour: int, channels: int, filtered: int, interlaced: bool) -> None:
    """Both bytes of every value, opacity too: over black a pixel is value times opacity."""
    stored = values(9, 11, channels)
    expected = stored[..., :3] if channels > 2 else stored[..., :1]
    read = pictures.decode(png(stored, 16, colour, filtered=filtered, interlaced=interlaced), "it", "black")
    assert (read.bits, read.transparent) == (16, channels in (2, 4))
    opacity = stored[..., -1:] / 65535 if channels in (2, 4) else 1.0
    np.testing.assert_allclose(read.image.movedim(0, -1), expected / 65535 * opacity, rtol=0, atol=2e-7)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"compression": "zlib", "rowsperstrip": 3}]
)
@pytest.mark.parametrize("extra", [None, "unspecified", "unassalpha"])
def test_tiff_of_16_bits(extra: str | None, options: dict[str, object], order: str) -> None:
    stored = values(9, 11, 3 if extra is None else 4).astype(np.uint16)
    samples = {} if extra is None else {"extrasamples": [extra]}
    opacity = stored[..., 3:] / 65535 if extra == "unassalpha" else 1.0
    read = pixels(tiff(stored, byteorder=order, photometric="rgb", **samples, **options), "black")
    np.testing.assert_allclose(read, stored[..., :3] / 65535 * opacity, rtol=0, atol=2e-7)
    grey = tiff(stored[..., 0].copy(), byteorder=order, photometric="minisblack", **options)
    np.testing.assert_allclose(pixels(grey)[..., 0], stored[..., 0] / 65535, rtol=0, atol=2e-7)


def test_grey_maps_of_16_bits() -> None:
    stored = values(5, 7)
    raw = b"P5 7 5 65535\n" + stored.astype(">u2").tobytes()
    np.testing.assert_allclose(pixels(raw)[..., 0], stored / 65535, rtol=0, atol=1e-7)
    plain = f"P2 7 5 1023\n{' '.join(map(str, (stored % 1024).ravel()))}\n".encode()
    np.testing.assert_allclose(pixels(plain)[..., 0], stored % 1024 / 1023, rtol=0, atol=1e-5)


def test_orientation_at_16_bits() -> None:
    stored = values(4, 6, 3)
    turned = tiff(stored.astype(np.uint16), photometric="rgb", extratags=[(274, "H", 1, 6, True)])  # by 90 degrees
    np.testing.assert_allclose(pixels(turned), np.rot90(stored, -1) / 65535, rtol=0, atol=1e-7)


def test_one_value_that_is_transparent() -> None:
    """The chunk tRNS, at every depth of grey and in both depths of colour."""
    for bits in (1, 2, 4, 8, 16):
        stored = np.arange(16).reshape(2, 8, 1) % 2**bits
        key = chunk(b"tRNS", (1).to_bytes(2, "big"))
        expected = np.where(stored == 1, 0.5, stored / (2**bits - 1))
        np.testing.assert_allclose(pixels(png(stored, bits, 0, before=key), "#808080"), expected, atol=2.1e-3)
    for bits in (8, 16):
        stored = values(2, 8, 3, below=2**bits)
        key = chunk(b"tRNS", b"".join(int(v).to_bytes(2, "big") for v in stored[1, 3]))
        expected = stored / (2**bits - 1)
        expected[1, 3] = 0
        np.testing.assert_allclose(pixels(png(stored, bits, 2, before=key), "black"), expected, atol=1e-6)


# --- kinds --------------------------------------------------------------------------------------------------------


def test_few_bits_are_the_brightness_that_they_mean() -> None:
    for bits in (1, 2, 4):
        stored = np.arange(16).reshape(2, 8, 1) % 2**bits
        np.testing.assert_allclose(pixels(png(stored, bits, 0)), stored / (2**bits - 1), atol=1e-6)
    low = b"P5 3 1 3\n" + bytes([0, 1, 3])
    np.testing.assert_allclose(pixels(low).ravel(), [0, 1 / 3, 1], atol=2e-3)


def test_kinds_that_would_be_cut_are_refused_by_name(tmp_path: Path) -> None:
    deep, real = values(6, 7, 3).astype(np.uint16), np.random.default_rng(0).random((6, 7), np.float32)
    cmyk = values(6, 7, 4).astype(np.uint16)
    lab = Image.frombytes("LAB", (7, 6), bytes(values(126, below=256).astype(np.uint8)))
    kinds = {
        "float.tif": (tiff(real), "signed or floating-point values"),
        "signed16.tif": (tiff(deep[..., 0].astype(np.int16)), "signed or floating-point values"),
        "signed8.tif": (tiff(deep[..., 0].astype(np.int8)), "signed or floating-point values"),
        "whole32.tif": (tiff(deep[..., 0].astype(np.uint32)), "32 bits a channel"),
        "negative.tif": (tiff(deep[..., 0].copy(), photometric="miniswhite"), "0 for white"),
        "planes.tif": (tiff(deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), "separate planes"),
        "packed-planes.tif": (
            tiff(deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib"),
            "separate planes",
        ),
        "multiplied.tif": (tiff(cmyk, photometric="rgb", extrasamples=["assocalpha"]), "cannot be read in full"),
        "cmyk.tif": (tiff(cmyk, photometric="separated"), "cannot be read in full"),
        "lab.tif": (encoded(lab, "TIFF"), "mode LAB"),
        "colour.ppm": (b"P6 7 6 65535\n" + deep.astype(">u2").tobytes(), "16 bits a channel"),
        "colour10.ppm": (b"P6 7 6 1023\n" + (deep % 1024).astype(">u2").tobytes(), "16 bits a channel"),
        "plain.ppm": (f"P3 7 6 65535\n{' '.join(map(str, deep.ravel()))}\n".encode(), "16 bits a channel"),
        "float.ppm": (b"Pf 7 6 -1.0\n" + real.tobytes(), "32 bits a channel"),
    }
    for name, (content, problem) in kinds.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} has .*{problem}.*save it as grey or RGB of 8 bits, or of 16"):
            pictures.read(tmp_path / name)


def test_kinds_of_8_bits() -> None:
    colours = Image.fromarray(values(6, 7, 3, below=256).astype(np.uint8))
    array = np.asarray(colours) / 255
    for kind, options in (("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("PPM", {})):
        np.testing.assert_allclose(pixels(encoded(colours, kind, **options)), array, atol=1e-7)
    np.testing.assert_allclose(pixels(encoded(colours, "WEBP", lossless=True)), array, atol=1e-7)
    palette = colours.quantize(8)
    np.testing.assert_allclose(pixels(encoded(palette, "GIF")), np.asarray(palette.convert("RGB")) / 255, atol=1e-7)
    inks = colours.convert("CMYK")  # no black: each ink is the complement of a colour
    np.testing.assert_allclose(pixels(encoded(inks, "TIFF")), array, atol=1e-7)
    moving = encoded(palette, "GIF", save_all=True, append_images=[palette.transpose(0)])
    np.testing.assert_allclose(pixels(moving), np.asarray(palette.convert("RGB")) / 255, atol=1e-7)
    assert pixels(encoded(colours, "JPEG", quality=95)).shape == (6, 7, 3)


# --- transparency -------------------------------------------------------------------------------------------------


def test_the_background_is_seen_through_what_is_transparent() -> None:
    half = np.full((2, 2, 4), 100, np.uint8)
    half[0, 0, 3], half[1, 1, 3] = 255, 0
    content = encoded(Image.fromarray(half), "PNG")
    read = pixels(content, "#ff0080") * 255
    np.testing.assert_allclose(read[0, 0], [100, 100, 100], atol=1e-4)
    np.testing.assert_allclose(read[1, 1], [255, 0, 128], atol=1e-4)
    share = 100 / 255
    np.testing.assert_allclose(
        read[0, 1], [100 * share + (1 - share) * v for v in (255, 0, 128)], atol=1e-4
    )  # a x + (1 - a) b


def test_grey_pictures_stay_grey_unless_a_colour_shows_through() -> None:
    content = encoded(Image.fromarray(np.full((2, 2, 2), 100, np.uint8)), "PNG")
    assert pixels(content).shape == pixels(content, "gray").shape == (2, 2, 1)
    assert pixels(content, "red").shape == (2, 2, 3)


def test_only_what_is_transparent_is_called_so() -> None:
    layer = np.full((2, 2, 4), 255, np.uint8)
    assert not pictures.decode(encoded(Image.fromarray(layer), "PNG"), "it").transparent
    layer[0, 0, 3] = 254
    assert pictures.decode(encoded(Image.fromarray(layer), "PNG"), "it").transparent


@pytest.mark.parametrize("name", ["whit", "", "#12345", "#ffffff80", "rgb(300)", "12"])
def test_backgrounds_that_are_no_colours(name: str) -> None:
    with pytest.raises(ValueError, match=r"background must be a colour such as white, black or '#a0c0ff', got"):
        pictures.colour(name)


# --- damage -------------------------------------------------------------------------------------------------------


def originals() -> dict[str, bytes]:
    """A small picture of every format, with the parts in which damage is dangerous."""
    colours = Image.fromarray(values(12, 13, 3, below=256).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "words"
    key = chunk(b"tRNS", b"\0\1\0\2\0\3")
    return {
        "png": encoded(colours.convert("RGBA"), "PNG", exif=exif, dpi=(72, 72)),
        "palette.png": encoded(colours.quantize(16), "PNG", transparency=b"\0\x7f\xff"),
        "deep.png": png(values(12, 13, 3), 16, 2, before=key),
        "jpg": encoded(colours, "JPEG", exif=exif, progressive=True),
        "tif": encoded(colours, "TIFF", compression="tiff_lzw"),
        "raw.tif": encoded(colours.convert("LA"), "TIFF"),
        "deep.tif": tiff(values(12, 13, 3).astype(np.uint16), photometric="rgb", compression="zlib"),
        "gif": encoded(colours.quantize(16), "GIF", save_all=True, append_images=[colours.quantize(8)]),
        "webp": encoded(colours.convert("RGBA"), "WEBP", exif=exif),
        "bmp": encoded(colours, "BMP"),
        "ppm": encoded(colours, "PPM"),
        "plain.pgm": b"P2 3 2 300\n0 10 20 30 40 300\n",
    }


@pytest.mark.parametrize("kind", originals())
def test_damaged_pictures_are_decoded_or_named(kind: str, tmp_path: Path) -> None:
    """Whatever is done to the bytes: an image in [0, 1], or one error of ours; no warnings, which are errors here."""
    original, dice, path = originals()[kind], random.Random(kind), tmp_path / f"damaged.{kind}"
    refused = []
    for _ in range(200):
        content = bytearray(original)
        for _ in range(dice.choice((1, 1, 2, 5, 20))):
            place = dice.randrange(min(len(content), dice.choice((60, 400, 10**6))))
            content[place] = dice.choice((0, 1, 255, dice.randrange(256), content[place] ^ 1 << dice.randrange(8)))
        if dice.random() < 0.2:
            del content[dice.randrange(len(content)) :]
        path.write_bytes(content)
        try:
            image = pictures.read(path)
        except ValueError as error:
            refused.append(str(error))
        else:
            assert image.dtype == torch.float32
            assert image.numel() > 0
            assert 0 <= image.min() <= image.max() <= 1
    assert len(refused) > 20
    assert all(message.startswith(f"{path} ") for message in refused)


def test_pictures_declared_large_are_no_warning() -> None:
    """Between one and two times the size that Pillow warns of."""
    header = png(np.zeros((1, 1, 1), int), 1, 0)
    large = header.replace(header[12:33], chunk(b"IHDR", b"\0\0\x27\x10\0\0\x26\xac\1\0\0\0\0")[4:])  # 10000 x 9900
    with pytest.raises(ValueError, match="it is damaged or incomplete"):
        pictures.decode(large, "it")


def test_filters_of_warnings_are_left_as_they_were() -> None:
    """In many threads at once, of which some are reading."""
    content, before = encoded(Image.new("L", (64, 64)), "PNG"), list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: pictures.decode(content, "it"), range(200)))
    assert warnings.filters == before


# --- what is no file ----------------------------------------------------------------------------------------------


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        for name in ("pipe.png", "socket.png", "/dev/zero"):
            with pytest.raises(OSError, match=f"{name} is not an ordinary file but a pipe, a socket or a device"):
                within(lambda name=name: pictures.read(Path(name)))
    with pytest.raises(OSError, match=r"\. is a folder, not a file"):
        pictures.read(Path())
    with pytest.raises(FileNotFoundError, match=r"no such file: none\.png"):
        pictures.read(Path("none.png"))


# --- ranges -------------------------------------------------------------------------------------------------------


def in_range(content: bytes, data_range: pictures.Range) -> np.ndarray:
    return pictures.decode(content, "it", "black", data_range).image.movedim(0, -1).numpy()


def test_values_between_the_ends_of_a_range() -> None:
    """12 bits in 16 (PNG, TIFF), bytes of an 8-bit picture, transparency."""
    twelve = values(5, 7, 1, below=4096)
    for content in (png(twelve, 16, 0), tiff(twelve[..., 0].astype(np.uint16), photometric="minisblack")):
        np.testing.assert_allclose(in_range(content, 4095), twelve / 4095, rtol=0, atol=2e-7)
        np.testing.assert_allclose(in_range(content, (100, 3000)), (twelve - 100) / 2900, rtol=0, atol=2e-7)
    eight = values(5, 7, 3, below=256)
    np.testing.assert_allclose(in_range(png(eight, 8, 2), (16, 235)), (eight - 16) / 219, rtol=0, atol=2e-7)
    clear = values(5, 7, 4, below=256)
    expected = clear[..., :3] / 200 * clear[..., 3:] / 255
    np.testing.assert_allclose(in_range(png(clear, 8, 6), 200), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int32])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_without_a_range_of_its_own(dtype: type[np.generic], compression: str | None, order: str) -> None:
    stored = np.random.default_rng(0).uniform(-1000, 3000, (5, 7)).astype(dtype)
    content = tiff(stored, byteorder=order, compression=compression)
    expected = (stored.astype(float) + 1024) / 4095
    np.testing.assert_allclose(in_range(content, (-1024, 3071))[..., 0], expected, rtol=0, atol=2e-7)
    with pytest.raises(ValueError, match=r"without a fixed range: give it as data_range, or save it"):
        pictures.decode(content, "it")


def test_large_numbers_of_a_tiff_keep_their_digits() -> None:
    stored = 10**9 + np.arange(35, dtype=np.int32).reshape(5, 7)
    np.testing.assert_allclose(
        in_range(tiff(stored), (10**9, 10**9 + 34))[..., 0].ravel(), np.arange(35) / 34, rtol=1e-6
    )


def test_tiff_of_no_numbers_or_of_others() -> None:
    real = np.ones((5, 7, 3), np.float32)
    with pytest.raises(ValueError, match=r"^it holds NaN or infinite values: repair it$"):
        in_range(tiff(np.where(np.eye(5, 7) > 0, np.nan, real[..., 0])), 1.0)
    for content in (tiff(real, photometric="rgb"), tiff(real[..., 0], photometric="miniswhite")):
        with pytest.raises(ValueError, match=r"^it (has signed or floating|is not a picture|has \d+ bits)"):
            in_range(content, 1.0)


@pytest.mark.parametrize("bad", [0, -1, (1, 1), (2, 1), (0, 1, 2), float("nan")], ids=repr)
@pytest.mark.usefixtures("no_shape_checks")
def test_what_is_no_range(bad: pictures.Range) -> None:
    with pytest.raises(ValueError, match=r"^data_range must be a positive number l .* got .*: 4095 for 12 bits in 16$"):
        in_range(png(values(5, 7, 1), 16, 0), bad)
