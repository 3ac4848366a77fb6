"""The report: one file that refers to nothing outside, holds its pictures whole, and refuses what does not compare."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_runs import DISTANCE, FRECHET, KL, PSNR, SSIM, judge, place, sweep, write_run
from PIL import Image

from ssimgen.cli import main
from ssimgen.report import Verdict, embedding, write_report

REFERRING = ("src", "href", "srcset", "action", "data", "poster", "background", "xlink:href")
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The elements of a page; raises where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at line {self.getpos()[0]}"

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("study")
    sweep(folder / "runs")
    verdict = Verdict("Structure helps", ("by a <lot>",))
    path = write_report([folder / "runs"], folder / "report", title="A & B", verdict=verdict)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    return Page(path.read_text())


def test_nothing_outside_is_referred_to(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in REFERRING:
            target = attributes.get(name, "#")
            assert target.startswith(("#", "data:")), f"<{tag} {name}={target[:60]!r}>"
    assert "url(" not in page.html
    assert "@import" not in page.html
    assert "fetch(" not in page.html
    assert re.findall(r"https?://", page.html) == []
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none'")


def test_every_picture_decodes(page: Page) -> None:
    sources = [attributes["src"] for attributes in page.all("img")]
    assert len(sources) == 1 + 2 * 4 + 1  # real images, four of each of two variants, and what the dialog begins with
    for source in sources:
        kind, _, content = source.partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
            picture.load()
            assert picture.size == ((34, 34) if kind == "data:image/png" else (1, 1))
    assert all(attributes.get("alt") is not None for attributes in page.all("img"))


def test_anchors_exist(page: Page) -> None:
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(identifiers)) == len(identifiers)
    links = {a["href"][1:] for a in page.all("a")}
    assert links <= set(identifiers)
    assert {"verdict", "reconstruction", "samples", "matched", "rates", "losses", "pictures", "options"} <= links


def test_text_is_escaped(page: Page) -> None:
    assert "A &amp; B" in page.html
    assert "by a &lt;lot&gt;" in page.html


def test_the_table_is_ranked_and_marks_what_was_trained_on(page: Page) -> None:
    table = page.html.split('id="reconstruction"')[1].split("</table>")[0]
    body = re.sub(r"<[^>]*>", " ", table.split("<tbody>")[1].split("</tbody>")[0])
    order = re.findall(r"(l2|ssim) tau=(\d+)", body)
    # feature distance, mean over seeds 0, 1, 2: 11 - kl / 10, with ssim less 2.1
    assert order == [("ssim", "40"), ("ssim", "20"), ("l2", "30"), ("l2", "10")]
    assert "4.9" in body.split("ssim tau=20")[0]
    assert body.count("‡") == 2 * 2  # PSNR of l2, SSIM of ssim, at two points each
    assert "nearest training image" in table


def test_options_that_differ_are_shown(page: Page) -> None:
    options = page.html.split('id="options"')[1].split("<details>")[0]
    assert re.findall(r'<th scope="col">([^<]*)</th>', options) == ["tau", "objective"]
    lines = re.findall(r'<th scope="row" class="name">(.*?)</th>(.*?)</tr>', options)
    cells = {re.sub("<[^>]*>", "", name): re.findall(r"<td.*?>(.*?)</td>", line) for name, line in lines}
    assert cells == {  # the baseline first; what half of the models or more have is not marked
        "l2 tau=10 baseline": ["<mark>10.0</mark>", "l2"],
        "l2 tau=30 baseline": ["<mark>30.0</mark>", "l2"],
        "ssim tau=20": ["<mark>20.0</mark>", "<mark>ssim</mark>"],
        "ssim tau=40": ["<mark>40.0</mark>", "<mark>ssim</mark>"],
    }


def test_rates_can_be_chosen(tmp_path: Path) -> None:
    html = write_report(sweep(tmp_path / "runs"), tmp_path / "report", rates=[26.0]).read_text()
    assert summaries(html) == ["at 26 nats, 3 seeds"]


def summaries(html: str) -> list[str]:
    matched = html.split('id="matched"')[1].split("</section>")[0]
    return re.findall(r"<summary>([^<]*)</summary>", matched)


def words(html: str) -> str:
    """Text without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_models_are_compared_at_equal_rate(page: Page) -> None:
    """The middle rate is open; every metric of a model stands in one line: see `sweep` for the numbers."""
    assert summaries(page.html) == ["at 22.5 nats, 3 seeds", "at 25 nats, 3 seeds", "at 27.5 nats, 3 seeds"]
    (opened,) = re.findall(r"<details open>(.*?)</details>", page.html, re.DOTALL)
    assert "at 25 nats" in opened
    _, ssim, l2 = opened.split("<tbody>")[1].split("<tr>")  # ranked by the feature distance
    assert "l2 baseline" in words(l2)
    assert "(" not in words(l2)
    assert "6.4 ▲ better \N{MINUS SIGN}2.1 (\N{MINUS SIGN}2.35 to \N{MINUS SIGN}1.85) p = 0.00076" in words(ssim)
    assert 'class="better"' in ssim  # what no model was trained on
    assert re.search(r'‡</abbr> <span class="biased">', ssim)  # SSIM, on which it was


def test_rates_that_do_not_meet_are_said(tmp_path: Path) -> None:
    for seed in range(2):
        for variant, rates in (("l2", (1.0, 2.0)), ("ssim", (3.0, 4.0))):
            for rate in rates:
                values = {KL: rate + 0.1 * seed, DISTANCE: 1.0}
                study = place(variant, tau=rate)
                write_run(tmp_path / f"{variant}{rate}{seed}", values, seed=seed, study=study)
    section = words(write_report([tmp_path], tmp_path / "report").read_text().split('id="matched"')[1])
    assert "Nothing can be compared at equal rate" in section
    assert "l2 1 to 2.1, ssim 3 to 4.1." in section


@pytest.mark.parametrize("reached", [True, False])
def test_runs_that_were_brought_to_one_rate_are_compared_at_it(reached: bool, tmp_path: Path) -> None:
    for seed in range(2):
        for variant, rate in (("l2", 19.9), ("ssim", 20.2 if reached else 25.0)):
            options = {"objective": variant, "kl_target": 20.0}
            values = {KL: rate + 0.1 * seed, DISTANCE: 1.0 + 0.1 * seed}
            write_run(tmp_path / f"{variant}{seed}", values, seed=seed, study=place(variant), options=options)
    text = words(write_report([tmp_path], tmp_path / "report").read_text())
    assert ("All runs were brought to 20 nats in training" in text) == reached
    assert ("Nothing can be compared at equal rate" in text) != reached
    assert ("Rates may differ" in text) != reached


def test_judges_that_are_left_out_are_named_with_their_reason(tmp_path: Path) -> None:
    for seed in range(2):
        for variant, value in (("l2", 1.0), ("ssim", 2.0 + 0.01 * seed)):
            study, checks = place(variant), [judge(DISTANCE, passed=False), judge(FRECHET)]
            values = {DISTANCE: value, FRECHET: value}
            options = {"objective": variant}
            write_run(tmp_path / f"{variant}{seed}", values, seed=seed, study=study, judges=checks, options=options)
    html = Page(write_report([tmp_path], tmp_path / "report").read_text()).html
    section = html.split('id="judges"')[1].split("</section>")[0]
    assert "Left out of every verdict: feature distance. What judges models must first rank" in words(section)
    assert "feature distance may not judge: it does not rank real images (0) before mean image (0)." in words(section)
    assert "Frechet distance may judge. spread : real images 0, mean image 50." in words(section)
    reconstructions = words(html.split('id="reconstruction"')[1].split("</section>")[0])
    assert "No judge is fit for these images, and the order says nothing; press a heading" in reconstructions
    assert "no judge here" in reconstructions
    compared = html.split('id="compared"')[1].split("</section>")[0]
    assert compared.count('class="worse"') == 1  # by the Frechet distance alone


def test_judges_that_nobody_checked_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {PSNR: 3.0, FRECHET: 3.0}, judges=[])
    section = words(write_report([run], tmp_path / "report").read_text().split('id="judges"')[1].split("</section>")[0])
    assert "Left out of every verdict: Frechet distance." in section
    assert "Frechet distance may not judge: nobody has checked whether it ranks degraded images as it must." in section


def test_judges_that_ranked_what_they_must_are_said_to_have(page: Page) -> None:
    section = words(page.html.split('id="judges"')[1].split("</section>")[0])
    assert "What judges models here has first ranked real images and degraded ones" in section
    assert "Left out" not in section


def test_metrics_are_explained(page: Page) -> None:
    terms = re.findall(r"<dt>(.*?)</dt>", page.html)
    assert terms == ["KL, nats", "PSNR, dB", "SSIM", "feature distance", "Frechet distance"]


def test_groups_of_models_have_options_charts_and_comparisons_of_their_own(tmp_path: Path) -> None:
    for group in ("vae", "other"):
        for variant in ("l2", "ssim"):
            study = {**place(variant), "group": group}
            write_run(tmp_path / group / variant, {PSNR: 1.0}, options={"objective": variant}, study=study)
    html = write_report([tmp_path], tmp_path / "report").read_text()
    for section in ("compared", "losses", "options"):
        of_section = html.split(f'id="{section}"')[1].split("</section>")[0]
        assert re.findall(r"<h3>(.*?)</h3>", of_section) == ["other", "vae"]
    legends = re.findall(r'<g class="s(\d)">.*?</svg> (\w+)</li>', html.split('id="losses"')[1])
    assert legends == [("0", "l2"), ("1", "ssim")] * 2  # colours begin anew


def test_missing_and_broken_pictures_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {PSNR: 3.0, FRECHET: 3.0})
    broken = run / "samples/00000020.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (run / "worst.png").unlink()
    (run / "real.png").unlink()
    html = write_report([run], tmp_path / "report").read_text()
    assert html.count("no picture in the run folder") == 2
    assert len(re.findall(r'<img src="data:image/png', html)) == 2


def test_models_that_do_not_reconstruct_miss_no_picture(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {FRECHET: 3.0})
    (run / "worst.png").unlink()
    html = write_report([run], tmp_path / "report").read_text()
    assert "no picture" not in html
    assert "worst reconstructions" not in html


def test_many_large_pictures_are_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = sweep(tmp_path / "runs")
    monkeypatch.setattr(embedding, "LIMIT", 9_000)  # nine noise pictures of 1.2 kB
    html = write_report(runs, tmp_path / "report").read_text()
    assert "Pictures are compressed (WebP, quality " in html
    found = re.findall(r"data:image/webp;base64,([^\"]*)", html)
    assert len(found) == 9
    for content in found:
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            picture.load()
            assert picture.size == (34, 34)
    assert "Pictures are compressed" not in write_report(runs[:1], tmp_path / "other").read_text()


def test_one_run_makes_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {FRECHET: 3.0})
    page = Page(write_report([run], tmp_path / "report").read_text())
    assert "Runs on noise" in page.html
    assert 'id="matched"' not in page.html


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {PSNR: 3.0}, study=place("<script>alert(1)</script>"))
    html = write_report([run], tmp_path / "report").read_text()
    assert html.count("<script>") == 1


def test_pytorch_is_not_needed() -> None:
    code = "import sys, ssimgen.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- refusals -----------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["report", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_runs_of_different_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a", {PSNR: 1.0})
    b = write_run(tmp_path / "b", {PSNR: 1.0}, data_hash="e" * 64)
    error = refused(capsys, a, b, "-o", tmp_path / "report")
    assert "runs of different images cannot stand in one report" in error
    assert f"content hash {'e' * 12}" in error
    assert not (tmp_path / "report").exists()


def test_runs_evaluated_differently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a", {PSNR: 1.0})
    b = write_run(tmp_path / "b", {PSNR: 1.0}, images=50)
    assert "were evaluated differently (images: 100 and 50)" in refused(capsys, a, b, "-o", tmp_path / "report")


def test_what_is_no_evaluated_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", {KL: 1.0, PSNR: 1.0, SSIM: 1.0, DISTANCE: 1.0})
    (tmp_path / "empty").mkdir()
    assert "holds no run" in refused(capsys, tmp_path / "empty")
    assert "is not a folder" in refused(capsys, tmp_path / "none")
    assert "name one or more folders" in refused(capsys)
    (run / "evaluation.json").write_text("{")
    assert "evaluation.json is damaged" in refused(capsys, run)
    (run / "evaluation.json").write_text('{"format": 7}')
    assert "has format 7, this version of ssimgen reads 1" in refused(capsys, run)
    (run / "evaluation.json").write_text('{"format": 1}')
    assert "evaluation.json is damaged: it has no 'iteration'" in refused(capsys, run)
    (run / "evaluation.json").unlink()
    assert f"has not been evaluated: ssimgen evaluate {run}" in refused(capsys, run)
    write_run(tmp_path / "second", {PSNR: 1.0})
    third = write_run(tmp_path / "third", {PSNR: 1.0})
    (third / "evaluation.json").unlink()
    assert f"2 of 3 runs have not been evaluated: ssimgen evaluate {run} and so on" in refused(capsys, tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "evaluation.json",
            '"metric": "SSIM"',
            '"metrik": "SSIM"',
            "it has no 'rows[1].metric': evaluate the run again",
        ),
        (
            "evaluation.json",
            '"value": 20.0',
            '"value": "x"',
            "'rows[0].value' is 'x', not a number or null: evaluate the run again",
        ),
        ("evaluation.json", '"rows": [', '"rows": [3, ', "'rows[0]' is 3, not a table: evaluate the run again"),
        ("config.json", '"seed": 0', '"sed": 0', "it has no 'training.seed': train the run again, or leave it out"),
        ("config.json", '"hash": "f', '"hash": 3, "h": "f', "'data.hash' is 3, not a text: train the run again"),
        ("config.json", '"variant"', '"varint"', "it has no 'study.variant'"),
        ("metrics.jsonl", '"iteration": 10,', '"iteration" 10,', 'line 1 is \'{"iteration" 10'),
    ],
)
def test_damaged_files_are_named(
    name: str, old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", {PSNR: 20.0, SSIM: 0.5}, study=place("l2"))
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new))
    error = refused(capsys, run, "-o", tmp_path / "report")
    assert f"{run / name} is damaged: {message}" in error
    assert not (tmp_path / "report").exists()


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {PSNR: 20.0})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 30, "sec')
    assert "Losses" in write_report([run], tmp_path / "report").read_text()


def test_runs_that_collapsed_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "dead", {KL: 0.02, PSNR: 12.0}, options={"objective": "ssim"})
    write_run(tmp_path / "alive", {KL: 20.0, PSNR: 20.0}, options={"objective": "l2"})
    html = write_report([tmp_path / "dead", tmp_path / "alive"], tmp_path / "report").read_text()
    assert "dead cannot be compared: its code says 0.02 nats of an image." in html
    assert "alive cannot be compared" not in html
