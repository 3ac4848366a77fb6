"""Charts: round ticks, points where they belong, and SVG that parses."""

import xml.etree.ElementTree as ET

import pytest

from ssimgen.report.charts import Point, Series, line_chart, swatch, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 10.0, [0, 2, 4, 6, 8, 10]),
        (0.013, 0.047, [0.02, 0.03, 0.04]),
        (-3.0, 3.0, [-2, 0, 2]),
        (5.0, 5.0, [5.0]),
    ],
    ids=["tens", "hundredths", "negative", "a single value"],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def circles(svg: str) -> list[tuple[float, float]]:
    found = [node for node in ET.fromstring(svg).iter() if node.tag.endswith("circle")]
    return [(float(node.get("cx", "")), float(node.get("cy", ""))) for node in found]


def test_points_are_in_proportion() -> None:
    series = Series("a", (Point(0, 0), Point(1, 1), Point(2, 4)), 0)
    (x0, y0), (x1, y1), (x2, y2) = circles(line_chart([series], x_label="x", y_label="y"))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)  # a decimal is printed
    assert y0 - y2 == pytest.approx(4 * (y0 - y1), abs=0.5)
    assert y2 < y0  # up is more


def test_logarithmic_decades_are_equally_far_apart() -> None:
    series = Series("a", (Point(0, 1), Point(1, 10), Point(2, 100)), 0)
    (_, y0), (_, y1), (_, y2) = circles(line_chart([series], x_label="x", y_label="y", log=True))
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)


def test_names_are_escaped_and_intervals_drawn() -> None:
    series = Series("<b>&", (Point(0, 1, 0.5, 1.5), Point(1, 2)), 1)
    svg = line_chart([series], x_label="x < 1", y_label='"y"')
    root = ET.fromstring(svg)
    assert root.get("aria-label") == '"y" against x < 1: <b>&'
    groups = [node for node in root if node.get("class") == "s1"]
    assert len([node for node in groups[0] if node.tag == "line"]) == 1


def test_many_lines_can_be_told_apart() -> None:
    swatches = [swatch(style) for style in range(32)]
    assert len(set(swatches)) == 32


def test_no_points() -> None:
    with pytest.raises(ValueError, match="a chart needs points"):
        line_chart([], x_label="x", y_label="y")
