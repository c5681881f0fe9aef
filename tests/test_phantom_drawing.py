"""What the phantom is drawn with, and what is drawn: shapes, tubes, files, bones, airways and lesions in figures."""

from dataclasses import replace

import numpy as np
import pytest

from covid_workbench.data import anatomy, chest, lesions
from covid_workbench.data.anatomy import Body
from covid_workbench.data.description import CONSOLIDATION, GROUND_GLASS, LUNG
from covid_workbench.data.lesions import Lesion, LookAlikes
from covid_workbench.data.metaimage import open_metaimage
from covid_workbench.metaimage_files import write_metaimage
from covid_workbench.shapes import Canvas, Plane, cover, ellipse_depth, join_shapes, smooth_noise
from covid_workbench.tubes import branches, draw_tubes, grow, path

BODY = Body((0, 7))
PLANE = Plane(200, 100.0, 0.0)
LEVEL = Plane(256, 340.0, 0.56 * BODY.height)


def area(share: np.ndarray) -> float:
    "Square millimetres that shares of pixels of `PLANE` cover."
    return float(share.sum()) * PLANE.pixel**2


def test_shapes_have_their_depth_and_their_area():
    depth = ellipse_depth(PLANE.x, PLANE.y, 0, 0, 20, 10)
    assert abs(area(cover(depth, 1.0)) - np.pi * 200) < 6
    assert np.isclose(depth[100, 130], 20 - PLANE.x[0, 130], atol=0.1) and depth[0, 0] < 0
    canvas = Canvas(np.zeros((200, 200), np.float32), PLANE, 1.0)
    canvas.bar(1.0, -20, 0, 20, 0, 3.0)
    assert abs(area(canvas.hu) - (40 * 6 + 9 * np.pi)) < 6  # a bar with round ends
    pair = [ellipse_depth(PLANE.x, PLANE.y, side * 12, 0, 10, 10) for side in (-1, 1)]
    assert join_shapes(*pair, 12)[100, 100] > max(own[100, 100] for own in pair)  # the groove is filled


def test_noise_is_the_same_field_on_every_plane():
    field, near, far = (smooth_noise((1, 2), 10, Plane(96, 200.0, z)) for z in (30.0, 30.5, 55.0))
    assert abs(field.mean()) < 0.3 and 0.7 < field.std() < 1.3
    alike, other = (np.corrcoef(field.ravel(), own.ravel())[0, 1] for own in (near, far))
    assert alike > 0.9 and abs(other) < 0.3
    above = smooth_noise((1, 2), 10, Plane(96, 200.0, 29.95))  # of the lattice layer before
    assert np.corrcoef(field.ravel(), above.ravel())[0, 1] > 0.99
    moved = smooth_noise((1, 2), 10, Plane(96, 200.0, 30.0, (200 / 96, 0.0)))  # by a pixel
    assert np.allclose(moved[:, :-1], field[:, 1:], atol=1e-3)


def test_tubes_cover_what_they_cross():
    upright = path([(0, 0, -20), (0, 0, 20)], (4, 4))
    assert abs(area(draw_tubes(upright, PLANE, 1.0, 0.5)) - 16 * np.pi) < 5
    assert not draw_tubes(upright, Plane(200, 100.0, 40.0), 1.0, 0.5).any()
    flat = path([(-30, 0, 0), (30, 0, 0)], (1, 1))
    thin, thick = (draw_tubes(flat, PLANE, slab, 0.5).max() for slab in (1.0, 6.0))
    assert thin > 0.9 and thick < 0.6  # a slab holds what lies above and below it, too


def test_trees_obey_murray_and_reach_every_point():
    points = np.random.default_rng(0).uniform(-50, 50, (300, 3))
    tree = grow(np.zeros(3), points, 0.4)
    assert np.isclose(tree.radius[0], 0.4 * 301 ** (1 / 2.7)) and np.isclose(tree.radius.min(), 0.4)
    tips = tree.nodes[tree.heavy == np.arange(301)]
    assert all(np.abs(points - tip).max(1).min() < 1e-3 for tip in tips)  # ends stay where they were asked for
    assert len(branches(tree, least=0.5)) == 3 * (np.sum(tree.radius >= 0.5) - 1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [np.int16, np.uint8])
def test_a_metaimage_comes_back_with_its_place(tmp_path, packed, kind):
    voxels = np.random.default_rng(0).integers(0, 200, (3, 4, 5)).astype(kind)
    write_metaimage(tmp_path / "own.mha", voxels, (2.5, 0.7, 0.8), (-10.5, 20.25, -300.0), packed)
    volume = open_metaimage(tmp_path / "own.mha").volume()
    assert np.array_equal(volume.hu, voxels) and np.allclose(volume.spacing, (2.5, 0.7, 0.8))
    assert np.allclose(volume.affine[:3, 3], (-10.5, 20.25, -300.0))
    assert np.allclose(volume.affine @ (1, 0, 0, 1), (-10.5, 20.25, -297.5, 1))  # the next plane lies to the head


def test_the_heart_leans_to_the_left_and_main_bronchi_fall():
    def middle(share):
        inside = anatomy.heart_depth(BODY, LEVEL.x, LEVEL.y, share * BODY.height) > 0
        return np.nonzero(inside)[1].mean() * LEVEL.pixel, inside.sum()

    (high, small), (low, large) = middle(0.46), middle(0.78)
    assert low - high > 6 and large > small  # mm; it lies flat on the diaphragm, and is narrow above
    for side in (-1, 1):
        _, bronchus, _ = chest._to_the_hilum(BODY, side)
        fall, aside = (np.ptp(bronchus.stop[:, axis]) for axis in (2, 0))
        assert fall > 0.8 * aside
    known = anatomy.heart_depth(BODY, LEVEL.x, LEVEL.y, LEVEL.z)
    both = (anatomy.mediastinum_depth(BODY, LEVEL.x, LEVEL.y, LEVEL.z, own) for own in (None, known))
    assert np.array_equal(*both)


def painted(lesion: Lesion, level: Plane = LEVEL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "HU, mask and share of airway of a slice with one lesion."
    own = chest.draw_chest(BODY, level, 1.0, 0.7)
    mask = lesions.paint_lesions(own, BODY, level, (lesion,))
    return own.hu, mask, own.airway


def test_paving_is_a_net_and_ground_glass_is_soft():
    plain = Lesion((-75, 20, float(LEVEL.z)), 30, -600)
    (smooth, mask, _), (paved, _, _) = painted(plain), painted(replace(plain, paving=True))
    glass, added = mask == GROUND_GLASS, paved - smooth
    assert added[glass].min() > -1e-3 and 0.15 < np.mean(added[glass] > 80) < 0.6  # lines, and gaps between them
    assert smooth[glass].std() > 40  # texture, vessels
    assert np.median(smooth[glass]) > np.median(smooth[mask == LUNG]) + 100


def test_a_consolidation_is_filled_but_for_open_airways():
    level = Plane(256, 340.0, 0.50 * BODY.height)
    closed = Lesion((-62, 14, float(level.z)), 34, -520, core=0.1)
    (without, mask, airway), (opened, _, _) = painted(closed, level), painted(replace(closed, bronchogram=True), level)
    core = mask == CONSOLIDATION
    assert core.sum() > 300 and np.median(without[core]) > -80
    held = core & (airway > 0.5)
    assert held.sum() > 5 and np.median(opened[held]) < -500 < -150 < np.median(without[held])


def test_look_alikes_are_in_no_mask_and_fluid_is_no_lung():
    for look in (LookAlikes(dependent=300), LookAlikes(motion=0.5), LookAlikes(scars=40)):
        level = replace(LEVEL, z=lesions._scars(BODY, 1).start[0, 2]) if look.scars else LEVEL
        own = chest.draw_chest(BODY, level, 1.0, 0.7)
        before, lung = own.hu.copy(), own.lung >= 0.5
        lesions.paint_look_alikes(own, BODY, level, look)
        mask = lesions.paint_lesions(own, BODY, level, ())
        assert np.array_equal(mask == LUNG, lung) and (own.hu - before)[lung].max() > 100, look
    own = chest.draw_chest(BODY, LEVEL, 1.0, 0.7)
    lung = own.lung >= 0.5
    lesions.paint_look_alikes(own, BODY, LEVEL, LookAlikes(effusion=(1, 25.0)))
    fluid = lung & (lesions.paint_lesions(own, BODY, LEVEL, ()) != LUNG)
    assert fluid.sum() > 100 and np.abs(np.median(own.hu[fluid]) - 8) < 20
    assert (np.nonzero(fluid)[1] >= 128).all()  # on the side that was asked for
