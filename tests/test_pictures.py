"Pictures: what the SVG says is read back from its text, so a wrong colour, place or width fails."

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from covid_workbench.errors import InputError, StorageError
from covid_workbench.evaluation.detection import Detections
from covid_workbench.reports.pictures import attention_bars, merge_slots, overlay_png, slice_picture
from covid_workbench.reports.svg import DARK, NET, ONE_BRANCH, YELLOW, flow, mix_colour, place_labels, scale_limit, tag

SVG, PIXELS = "{http://www.w3.org/2000/svg}", np.random.default_rng(0).integers(0, 256, (60, 90), np.uint8)
BOXES = np.array([[5, 5, 20, 20], [30, 8, 50, 30], [30, 8, 50, 30], [60, 30, 85, 55]], float)


def elements(picture, name, **attributes):
    "All elements of a kind with these attributes; fails when the text is not well formed."
    found = ElementTree.fromstring(picture.svg).iter(SVG + name)
    return [
        element
        for element in found
        if all(element.get(key.replace("_", "-")) == value for key, value in attributes.items())
    ]


def words(picture):
    return [element.text for element in elements(picture, "text")]


def pens(picture):
    "Colour and line width of each region by its label, from the groups with a tooltip."
    groups = [group for group in elements(picture, "g") if group.find(SVG + "title") is not None]
    return {
        re.match(r"region ([^,]+)", group[0].text)[1]: (group[-1].get("stroke"), float(group[-1].get("stroke-width")))
        for group in groups
    }


def numbers(path):
    return np.array(re.findall(r"-?\d+\.?\d*", path), float)


def found(*rows, size=(60, 90)):
    masks = np.zeros((len(rows), *size), bool)
    for mask, (_, _, x1, y1, x2, y2) in zip(masks, rows):
        mask[y1:y2, x1:x2] = True
    return Detections(
        np.array([row[2:] for row in rows], float).reshape(-1, 4),
        [row[0] for row in rows],
        [row[1] for row in rows],
        masks,
    )


def test_scale_ends_at_the_next_step():
    assert [scale_limit([value]) for value in (0, 0.1, 0.11, 0.2, -0.3, 0.4, 0.55, 0.7, 0.71, 1)] == [
        0.1,
        0.1,
        0.2,
        0.2,
        0.4,
        0.4,
        0.7,
        0.7,
        1,
        1,
    ]
    assert scale_limit([]) == 0.1


def test_colours_are_those_of_the_design():
    assert [mix_colour(ONE_BRANCH, share) for share in (0, 0.5, 1, 2)] == ["#8C95A1", "#63A0DA", "#1E9BFF", "#1E9BFF"]
    assert [mix_colour(NET, share) for share in (-1, 0, 0.5, 1)] == ["#FF8A1F", "#FF8A1F", "#A3A8AE", "#1E9BFF"]
    assert mix_colour(("#000000", "#0A0A0A", "#141414"), 0.25) == "#050505"


def test_the_slice_is_inside_unchanged():
    def embedded(picture):
        address = elements(picture, "image")[0].get("href")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,")))))

    assert (embedded(slice_picture(PIXELS)) == PIXELS).all()
    assert embedded(slice_picture(PIXELS, width=30)).shape == (40, 60)  # twice its place, no more


def test_place_and_size_keep_the_proportions():
    picture = slice_picture(PIXELS, width=450)
    root = ElementTree.fromstring(picture.svg)
    assert root.get("viewBox") == "0 0 450 300" and (root.get("width"), root.get("height")) == ("450", "300")
    tall = ElementTree.fromstring(slice_picture(PIXELS.T, width=200, title="one line").svg)
    assert float(tall.get("height")) == 300 + 22


def test_repeated_boxes_are_one_region_with_the_sum_of_its_slots():
    picture = slice_picture(PIXELS, regions=BOXES, attention=[0.1, 0.15, 0.15, 0.6])
    assert pens(picture) == {
        "1": (mix_colour(ONE_BRANCH, 0.1 / 0.7), 1.4),
        "2·3": (mix_colour(ONE_BRANCH, 0.3 / 0.7), 2.1),
        "4": (mix_colour(ONE_BRANCH, 0.6 / 0.7), 3.1),
    }
    assert {"1", "2·3", "4", "attention 0 to 0.70", "1/4, no preference"} <= set(words(picture))
    assert "region 2·3, attention 0.300" in [element.text for element in elements(picture, "title")]


def test_two_branches_are_coloured_by_their_difference():
    picture = slice_picture(PIXELS, regions=BOXES, attention=[[0.1, 0.4, 0.3, 0.2], [0.5, 0.15, 0.15, 0.2]])
    assert pens(picture) == {"1": (NET[0], 3.5), "2·3": (NET[2], 3.5), "4": (NET[1], 1.0)}
    assert "net attention −0.40 to +0.40" in words(picture)
    strong_last = list(pens(picture))
    assert strong_last[0] == "4"


@pytest.mark.parametrize(
    "slots, label", [((1,), "1"), ((2, 3), "2·3"), ((7, 8, 9), "7–9"), ((1, 4, 5, 6, 9, 10), "1·4–6·9·10")]
)
def test_label_of_slots(slots, label):
    boxes = np.array([[0, 0, 1, 1] if slot in slots else [slot, 1, 30, 30] for slot in range(1, 13)])
    assert label in [region.label for region in merge_slots(boxes)]


@pytest.mark.parametrize("seed", range(8))
def test_labels_do_not_cover_each_other_and_stay_inside(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 300, (16, 2))
    boxes = np.hstack([corners, corners + rng.integers(5, 80, (16, 2))])
    boxes[8:] = boxes[7] + rng.integers(0, 4, (8, 4))  # nine regions nearly on top of each other
    widths = rng.integers(14, 50, 16)
    places = place_labels(boxes, widths, 16, (360, 330))
    for a, (x, y, _) in enumerate(places):
        assert 0 <= x <= 360 - widths[a] and 0 <= y <= 330 - 16
        for b, (u, v, _) in enumerate(places[:a]):
            assert x >= u + widths[b] or u >= x + widths[a] or abs(y - v) >= 16, (a, b)


def test_a_lonely_label_sits_on_its_corner():
    assert place_labels(np.array([[50, 40, 90, 90]]), [20], 16, (200, 200)) == [(50, 23, False)]
    ((x, y, led),) = place_labels(np.array([[0, 0, 90, 90]]), [20], 16, (200, 200))
    assert (x, y, led) == (2, 2, False)  # no room above: inside the corner


def test_truth_is_outlined_where_it_is():
    mask = np.zeros((60, 90), np.uint8)
    mask[10:30, 15:45], mask[40:50, 60:80], mask[0:5, 0:5] = 2, 3, 1
    picture = slice_picture(PIXELS, truth=mask, width=360)
    glass = elements(picture, "path", stroke="#35D6A2", stroke_dasharray="5 3")
    solid = elements(picture, "path", stroke="#F0A6DE", stroke_dasharray="1.5 2.5")
    for path, (x1, y1, x2, y2) in ((glass[0], (15, 10, 45, 30)), (solid[0], (60, 40, 80, 50))):
        points = numbers(path.get("d")).reshape(-1, 2) / 4
        assert np.abs(np.r_[points.min(0), points.max(0)] - (x1, y1, x2, y2)).max() < 0.05
        assert len(points) < 12  # straight sides, few points
    assert [word for word in words(picture)] == ["true GGO", "true consolidation"]
    assert words(slice_picture(PIXELS, truth=np.ones((60, 90), np.uint8))) == []  # lungs are not drawn


def test_predictions_carry_class_and_score():
    picture = slice_picture(
        PIXELS,
        detections=found((2, 0.876, 10, 10, 30, 30), (5, 0.4, 50, 20, 70, 40)),
        class_names=("GGO", "consolidation"),
    )
    assert words(picture) == ["consolidation 0.88", "0.40", "predicted, with score"]
    assert words(slice_picture(PIXELS, detections=found())) == []


def test_picked_region_lies_on_the_line_of_equal_distance():
    picture = slice_picture(PIXELS, regions=BOXES, selected=3, width=360)
    arc = next(path.get("d") for path in elements(picture, "path", stroke=YELLOW) if "A" in path.get("d"))
    rx, ry = numbers(arc)[2:4]
    assert (30 * 4 / rx) ** 2 + (8 * 4 / ry) ** 2 == pytest.approx(1, abs=0.01)
    assert rx / ry == pytest.approx(90 / 60, abs=0.01)
    label = next(element for element in elements(picture, "text") if element.text == "2·3")
    assert label.get("fill") == DARK and elements(picture, "rect", fill=YELLOW)
    assert not elements(slice_picture(PIXELS, regions=BOXES), "path", stroke=YELLOW)


def test_empty_and_extreme_states():
    nothing = slice_picture(PIXELS, regions=np.zeros((0, 4)), attention=np.zeros((2, 0)), width=600)
    assert words(nothing) == ["No region passed the selection on this slice, so the model has nothing to attend to."]
    zero = slice_picture(PIXELS, regions=BOXES, attention=np.zeros((1, 4)))
    assert set(pens(zero).values()) == {(ONE_BRANCH[0], 1.0)} and "1/4, no preference" not in words(zero)
    alone = slice_picture(PIXELS, regions=BOXES[:1], attention=[[1.0]])
    assert pens(alone) == {"1": (ONE_BRANCH[2], 3.5)} and "1/1, no preference" in words(alone)
    assert set(words(slice_picture(PIXELS, regions=BOXES))) == {"1", "2·3", "4"}


def test_text_is_escaped_and_nothing_comes_from_outside():
    picture = slice_picture(
        PIXELS,
        title='<script>"a" & b</script>',
        detections=found((1, 0.5, 10, 10, 30, 30)),
        class_names=("<i>",),
        regions=BOXES,
        attention=[[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]],
    )
    assert words(picture)[0] == '<script>"a" & b</script>' and "<i> 0.50" in words(picture)
    text = picture.svg.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text and "http" not in text and "<style" not in text
    assert ' id="' not in text  # many pictures share a page


def test_same_input_same_text_and_file(tmp_path):
    picture = slice_picture(PIXELS, regions=BOXES, title="A slice")
    assert picture.svg == slice_picture(PIXELS, regions=BOXES, title="A slice").svg
    assert "kB of SVG" in repr(picture) and len(repr(picture)) < 60
    picture.save(tmp_path / "slice.svg")
    root = ElementTree.parse(tmp_path / "slice.svg").getroot()
    assert root.get("color") == DARK and "background:#FFFFFF" in root.get("style") and "background" not in picture.svg
    with pytest.raises(StorageError, match="no folder"):
        picture.save(tmp_path / "no folder" / "slice.svg")


@pytest.mark.parametrize(
    "said, act",
    [
        (
            "attention \\(3,\\) does not fit 4 regions",
            lambda: slice_picture(PIXELS, regions=BOXES, attention=[0.2, 0.3, 0.5]),
        ),
        ("1 or 2 branches", lambda: slice_picture(PIXELS, regions=BOXES, attention=np.ones((3, 4)))),
        ("not a finite number", lambda: slice_picture(PIXELS, regions=BOXES, attention=[0.2, np.nan, 0.5, 0.1])),
        (
            "the truth mask 4x3 does not match the slice 90x60",
            lambda: slice_picture(PIXELS, truth=np.zeros((3, 4), np.uint8)),
        ),
        (
            "a predicted mask 90x61",
            lambda: slice_picture(PIXELS, detections=found((1, 0.5, 1, 1, 5, 5), size=(61, 90))),
        ),
        ("a predicted mask 90x61", lambda: overlay_png(PIXELS, found((1, 0.5, 1, 1, 5, 5), size=(61, 90)))),
        ("slot 5 is not among the 4 slots", lambda: slice_picture(PIXELS, regions=BOXES, selected=5)),
        ("drawn from \\(H, W\\) uint8, not \\(60, 90\\) float64", lambda: slice_picture(PIXELS / 255)),
        ("drawn from \\(H, W\\) uint8", lambda: overlay_png(np.zeros((4, 4, 3), np.uint8), found())),
        ("4 slots but there are 3 scores", lambda: attention_bars([0.1, 0.2, 0.3, 0.4], scores=[1, 2, 3])),
        ("4 slots but there are 5 labels", lambda: attention_bars([0.1, 0.2, 0.3, 0.4], labels=["GGO"] * 5)),
    ],
)
def test_wrong_input_is_named(said, act):
    with pytest.raises(InputError, match=said):
        act()


def bars(picture, colour):
    return [(float(bar.get("x")), float(bar.get("width"))) for bar in elements(picture, "rect", fill=colour)]


def test_bars_are_as_long_as_the_weights_and_on_their_side():
    weights = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.1, 0.1]])
    picture = attention_bars(weights, width=500)
    right, left = np.array(bars(picture, "#0B6BB5")), np.array(bars(picture, "#B9520A"))
    assert right[:, 1] / right[3, 1] == pytest.approx(weights[0] / 0.4, abs=0.01)
    assert left[:, 1] / left[0, 1] == pytest.approx(weights[1] / 0.4, abs=0.01) and left[0, 1] == right[3, 1]
    zero = right[0, 0]
    assert (right[:, 0] == zero).all() and left.sum(1) == pytest.approx([zero] * 4, abs=0.15)
    dotted = [numbers(path.get("d"))[0] - zero for path in elements(picture, "path", stroke_dasharray="1.5 2.5")]
    assert dotted == pytest.approx([right[3, 1] * 0.25 / 0.4, -right[3, 1] * 0.25 / 0.4], abs=0.2)
    assert (
        ".400" in words(picture) and "− attention" in words(picture) and "dotted: 1/4, no preference" in words(picture)
    )


def test_bars_of_one_branch_with_words_and_brackets():
    picture = attention_bars(
        [0.1, 0.2, 0.3, 0.4],
        scores=[0.9, 0.8, 0.7, 0.6],
        labels=["GGO", "<b>", "GGO", "lung"],
        regions=BOXES,
        title="Why",
    )
    assert words(picture)[0] == "Why" and {"GGO 0.90", "<b> 0.80", "attention"} <= set(words(picture))
    assert not bars(picture, "#B9520A") and len(bars(picture, "#0B6BB5")) == 4
    assert len(elements(picture, "path", fill="none")) == 1  # slots 2 and 3 share a box
    assert words(attention_bars(np.zeros((2, 0)))) == ["This slice has no slots, so there are no weights."]
    assert "1.000" in words(attention_bars([[1.0]]))
    assert all(width == 0 for _, width in bars(attention_bars(np.zeros((1, 3))), "#0B6BB5"))


def test_overlay_tints_the_mask_and_nothing_else(tmp_path):
    grey = np.full((300, 400), 100, np.uint8)
    shown = overlay_png(
        grey, found((1, 0.9, 40, 150, 240, 250), size=(300, 400)), tmp_path / "overlay.png", class_names=("GGO",)
    )
    pixels = np.asarray(shown)
    assert shown.size == (400, 300) and (pixels == np.asarray(Image.open(tmp_path / "overlay.png"))).all()
    assert pixels[200, 140].tolist() == [round(0.6 * 100 + 0.4 * value) for value in (0x35, 0xD6, 0xA2)]
    assert pixels[280, 140].tolist() == pixels[50, 300].tolist() == [100] * 3
    assert pixels[150, 140].tolist() == [0x35, 0xD6, 0xA2]  # the box
    label = pixels[134:149, 43:100]
    assert label.max() > 240 and (label < 30).all(axis=2).mean() > 0.5  # words in white on dark, above the box


def test_overlay_enlarges_small_slices_and_shows_small_lesions_above_large_ones():
    shown = np.asarray(
        overlay_png(
            PIXELS, found((1, 0.9, 0, 0, 90, 60), (2, 0.8, 40, 35, 60, 55)), class_names=("lung", "consolidation")
        )
    )
    assert shown.shape == (360, 540, 3)
    lung, pink = (
        0.6 * grey + 0.4 * np.array(tint)
        for grey, tint in ((float(PIXELS[45, 50]), (0x8C, 0x95, 0xA1)), (0, (0xF0, 0xA6, 0xDE)))
    )
    assert shown[45 * 6 + 1, 50 * 6 + 1] == pytest.approx(0.6 * lung + pink, abs=1)  # the small one lies on top
    assert overlay_png(PIXELS, found()).size == (540, 360)


def test_pieces():
    assert tag("text", "a", stroke_width=1.0, fill=None, class_="x") == '<text stroke-width="1" class="x">a</text>'
    assert flow([(60, "a"), (60, "b"), (70, "c")], 140, row=10, gap=5) == (
        '<g transform="translate(0.0 0.0)">a</g><g transform="translate(65.0 0.0)">b</g>'
        '<g transform="translate(0.0 10.0)">c</g>',
        20,
    )
