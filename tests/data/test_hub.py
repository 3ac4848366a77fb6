"""Hugging Face data sets, as Parquet files on this machine; nothing is fetched."""

import builtins
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from ssimgen.cli import main
from ssimgen.data import Source, load_images

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def pixels(n: int, *shape: int) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def write(path: Path, images: list[bytes], labels: list[int] | None = None, *, declared: bool = True) -> Path:
    """A Parquet file as the Hub has them: encoded pictures, and class numbers."""
    columns: dict[str, Any] = {"image": [{"bytes": content, "path": None} for content in images]}
    kinds: dict[str, Any] = {
        "image": datasets.Image() if declared else {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    }
    if labels is not None:
        columns["label"] = labels
        kinds["label"] = datasets.ClassLabel(num_classes=max(labels) + 1) if declared else datasets.Value("int64")
    frame = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    path.parent.mkdir(exist_ok=True, parents=True)
    frame.to_parquet(str(path))
    return path


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "plain columns"])
def test_images_and_classes(tmp_path: Path, declared: bool) -> None:
    drawn = pixels(20, 8, 9)
    path = write(tmp_path / "set.parquet", [png(x) for x in drawn], [i % 3 for i in range(20)], declared=declared)
    train, held_out = load_images(str(path))
    assert (len(train), len(held_out), train.shape, train.classes) == (16, 4, (1, 8, 9), 3)
    known = {x.tobytes(): i % 3 for i, x in enumerate(drawn)}
    for part in (train, held_out):
        for image, label in zip(part.pixels, part.labels, strict=True):  # type: ignore[arg-type]
            assert known[image.numpy().tobytes()] == label


def test_images_are_made_to_fit(tmp_path: Path) -> None:
    images = [png(pixels(1, 10, 20, 3)[0]), png(pixels(1, 16, 12)[0])] * 5
    train, _ = load_images(Source(str(write(tmp_path / "set.parquet", images)), size=8, grey=True))
    assert (train.shape, train.labels) == ((1, 8, 8), None)


def test_a_limit_reads_as_many_as_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1)  # instead of 5 s after each shuffle
    write(tmp_path / "set" / "a.parquet", [png(x) for x in pixels(30, 8, 8)])
    write(tmp_path / "set" / "b.parquet", [png(255 - x) for x in pixels(30, 8, 8)])
    whole = load_images(str(tmp_path / "set"))
    assert len(whole.train) + len(whole.held_out) == 60
    few = load_images(Source(str(tmp_path / "set"), limit=8))
    assert (len(few.train), len(few.held_out)) == (8, 2)
    assert few.train.digest == load_images(Source(str(tmp_path / "set"), limit=8)).train.digest


def test_damaged_pictures_are_left_out_or_refused(tmp_path: Path) -> None:
    good = [png(x) for x in pixels(12, 8, 8)]
    path = write(tmp_path / "set.parquet", [*good, good[0][:50], b"not a picture"])
    told: list[str] = []
    train, held_out = load_images(str(path), report=told.append)
    assert len(train) + len(held_out) == 12
    assert "left out 2 of 14 pictures: image 12 of" in told[0]
    assert "is damaged or incomplete" in told[0]
    with pytest.raises(ValueError, match=r"image 12 of .* is damaged or incomplete.*\(strict: "):
        load_images(Source(str(path), strict=True))


def test_different_sizes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", [png(pixels(1, 8, 8)[0]), png(pixels(1, 8, 9)[0])])
    with pytest.raises(
        ValueError, match=r"image 0 of .* is 8 x 8 px and image 1 of .* is 9 x 8 px: give a size to scale to"
    ):
        load_images(str(path))


def test_sets_without_images_are_refused(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a"], "label": [1]}).to_parquet(str(tmp_path / "set.parquet"))
    with pytest.raises(ValueError, match=r"no column of images, only text \(string\), label \(int64\): declare one as"):
        load_images(str(tmp_path / "set.parquet"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(OSError, match=r"cannot open the data set .*bad\.parquet"):
        load_images(str(tmp_path / "bad.parquet"))


def test_the_package_is_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "datasets":
            raise ModuleNotFoundError(name, name=name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["train", "vae", "--tau", "1", "--data", "hf:someone/something", "-o", str(tmp_path / "run")]) == 2
    assert "reading hf:someone/something needs datasets: pip install 'ssimgen[hf]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_one_line_says_that_a_file_is_damaged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The packages log what they raise too."""
    path = write(tmp_path / "cut.parquet", [png(x) for x in pixels(20, 8, 8)])
    path.write_bytes(path.read_bytes()[:300])
    capfd.readouterr()  # a progress bar of the writing
    assert main(["train", "vae", "--tau", "1", "--data", str(path), "-o", str(tmp_path / "run")]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_damage_behind_the_header_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", [png(x) for x in pixels(200, 8, 8)])
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"cannot (read on in|open the data set) .*set\.parquet"):
        load_images(str(path))


def test_data_sets_of_picture_files(tmp_path: Path) -> None:
    """Rows then hold paths, not bytes; a folder stands for a data set of the hub."""
    drawn = pixels(10, 8, 8)
    for i, x in enumerate(drawn):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(x).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    train, held_out = load_images(f"hf:{tmp_path}")
    known = {x.tobytes(): i % 2 for i, x in enumerate(drawn)}
    assert (len(train), len(held_out), train.classes) == (8, 2, 2)
    for image, label in zip(train.pixels, train.labels, strict=True):  # type: ignore[arg-type]
        assert known[image.numpy().tobytes()] == label


def test_a_set_larger_than_memory_lies_in_a_file(tmp_path: Path) -> None:
    """The same images, labels and hash; grey ones before the first coloured one become coloured in the file."""
    grey, coloured = pixels(30, 8, 8), pixels(30, 8, 8, 3)
    path = write(tmp_path / "set.parquet", [png(x) for x in [*grey, *coloured]], [i % 3 for i in range(60)])
    inside, outside = (load_images(Source(str(path), memory=memory)) for memory in (None, 500e-9))  # 7 images fit
    for here, there in zip(inside, outside, strict=True):
        assert (here.on_disk, there.on_disk) == (False, True)
        assert there.shape == (3, 8, 8)
        assert here.digest == there.digest
        assert here.labels is not None
        assert here.labels.equal(there.labels)  # type: ignore[arg-type]


class Opened(BaseHTTPRequestHandler):
    """A server of one picture that remembers who asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(png(pixels(1, 8, 8)[0]))

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "plain columns"])
def test_what_rows_name_is_not_opened(tmp_path: Path, declared: bool) -> None:
    """Neither an address nor a file beside; the row is left out and named, or refused."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(pixels(1, 8, 8)[0]))
    with HTTPServer(("127.0.0.1", 0), Opened) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/x.png"
        good = [{"bytes": png(x), "path": "of/no/meaning.png"} for x in pixels(8, 8, 8)]
        stored = [*good, {"bytes": None, "path": address}, {"bytes": None, "path": str(secret)}]
        table = pyarrow.table({"image": stored})
        if declared:
            table = table.cast(datasets.Features({"image": datasets.Image()}).arrow_schema)
        pyarrow.parquet.write_table(table, tmp_path / "set.parquet")
        told: list[str] = []
        train, held_out = load_images(tmp_path / "set.parquet", told.append)
        with pytest.raises(ValueError, match=r"image 8 of .*, train holds no bytes but names the file .*\(strict"):
            load_images(tmp_path / "set.parquet", strict=True)
        server.shutdown()
    assert len(train) + len(held_out) == 8
    assert Opened.asked == []
    (line,) = told
    assert line.startswith("left out 2 of 10 pictures: image 8 of ")
    assert f"names the file {address}, which is not opened: write the pictures themselves; image 9 of" in line
    assert str(secret) in line


def test_transparency_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", [png(x) for x in pixels(10, 8, 8, 4)])
    told: list[str] = []
    white, black = (load_images(path, told.append, background=name).train for name in ("white", "black"))
    assert told[0] == f"10 of 10 pictures of {path}, train have transparency, laid on white (option background)"
    assert (white.pixels > black.pixels).any()
