"""The palette: seen on both grounds, told apart by every kind of eye, and unique with shape or dash."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from bench.analysis.stats import Array
from bench.report.charts.look import DASHES, DIRECTION_COLOURS, GROUND, PALETTE, SHAPES, systems_scale

EYES = {
    "all cones": np.eye(3),
    "no long cones": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no middle cones": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "no short cones": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
"""What an eye sees of linear RGB: G. Machado et al. (2009), table 1, severity 1.0."""
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> Array:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(light: Array) -> Array:
    """Return CIE 1976 L*a*b* of linear sRGB (ISO/CIE 11664-4)."""
    share = XYZ @ np.clip(light, 0.0, 1.0) / WHITE
    x, y, z = np.where(share > (6 / 29) ** 3, np.cbrt(share), share * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: str, other: str, eye: str) -> float:
    return float(np.linalg.norm(lab(EYES[eye] @ linear(one)) - lab(EYES[eye] @ linear(other))))


def contrast(one: str, other: str) -> float:
    """Return the ratio of WCAG 2.2."""
    dark, light = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def test_the_measures_agree_with_published_figures() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0, abs=0.01)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)


@pytest.mark.parametrize("ground", GROUND.values())
def test_every_colour_is_seen_on_both_grounds(ground: str) -> None:
    for colour in (*PALETTE, *DIRECTION_COLOURS["range"]):
        assert contrast(colour, ground) >= 3.0, colour


@pytest.mark.parametrize("eye", EYES)
def test_every_eye_tells_systems_apart_and_neighbours_easily(eye: str) -> None:
    for one, other in combinations(PALETTE, 2):
        assert difference(one, other, eye) >= 15.0, (one, other)
    for one, other in pairwise(PALETTE):
        assert difference(one, other, eye) >= 30.0, (one, other)


@pytest.mark.parametrize("eye", EYES)
def test_every_eye_tells_better_from_worse(eye: str) -> None:
    better, worse, *_ = DIRECTION_COLOURS["range"]
    assert difference(better, worse, eye) >= 40.0


@pytest.mark.parametrize("marks", [SHAPES, DASHES])
def test_a_colour_with_a_shape_or_a_dash_belongs_to_one_of_64_systems(marks: tuple[object, ...]) -> None:
    names = [f"system-{i}" for i in range(64)]
    colours, own = systems_scale(names)["range"], systems_scale(names, marks)["range"]
    assert len({(colour, str(mark)) for colour, mark in zip(colours, own, strict=True)}) == 64


def test_a_system_keeps_its_looks_whatever_comes_after_it() -> None:
    few, many = (systems_scale([f"s{i}" for i in range(n)], SHAPES)["range"] for n in (3, 12))
    assert many[:3] == few
