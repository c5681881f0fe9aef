"""Enhanced slices: the shared walks beside a plain loop and beside all walks at once, and what must never change."""

import itertools
from functools import cache

import numpy as np
import pytest

from covid_workbench.errors import InputError
from covid_workbench.models.volume_settings import ENHANCEMENTS
from covid_workbench.volumes.enhancement import GAMMA, STEEPNESS, enhanced, tone_mapped
from covid_workbench.volumes.random_walks import draw_walks, ground_of, walk, walk_tree
from covid_workbench.volumes.stochastic import StochasticSettings, edges_of, enhance_picture, layers_of

FEW = StochasticSettings(walks=30, steps=6)
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up


@cache
def picture_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    "Two halves of different brightness with noise, values from 0.1 to 0.9."
    noise = np.random.default_rng(seed).normal(0, 0.05, (height, width))
    return np.clip(np.where(np.arange(width) < width // 2, 0.3, 0.7) + noise, 0.1, 0.9)


def mirrored(place: int, side: int) -> int:
    "Where a place outside of 0 .. side - 1 is, in a picture that goes on in its mirror image."
    place %= 2 * side
    return place if place < side else 2 * side - 1 - place


def plain_layers(picture: np.ndarray, edges: np.ndarray, moves: np.ndarray, settings: StochasticSettings):
    "Base layer and local contrast by a loop over pixels, walks and steps, in float64."
    height, width = picture.shape
    base, contrast = np.empty(picture.shape), np.empty(picture.shape)
    for row, column in np.ndindex(picture.shape):
        start, total, weights, lightest, darkest = picture[row, column], 0.0, 0.0, [], []
        for steps in moves:
            at, edge, variation, met = (row, column), edges[row, column], 0.0, [start]
            total, weights = total + start, weights + 1
            for move in steps:
                at = at[0] + MOVES[move][0], at[1] + MOVES[move][1]
                inside = mirrored(at[0], height), mirrored(at[1], width)
                variation += abs(edges[inside] - edge)
                edge = edges[inside]
                met.append(picture[inside])
                weight = np.exp(-abs(met[-1] - start) / settings.sigma_grey - variation / settings.sigma_edges)
                total, weights = total + weight * met[-1], weights + weight
            lightest.append(max(met))
            darkest.append(min(met))
        base[row, column] = total / weights
        contrast[row, column] = start - (np.mean(lightest) + np.mean(darkest)) / 2
    return base, contrast


@pytest.mark.parametrize("shape", [(9, 11), (4, 3), (1, 1), (40, 2)])  # smaller than a walk is long
@pytest.mark.parametrize("walks, steps", [(8, 6), (24, 2)])  # of 24 walks of two steps many are the same
def test_shared_walks_are_those_of_a_plain_loop(shape, walks, steps):
    picture, settings = picture_of(*shape), StochasticSettings(walks, steps, sigma_grey=0.2, sigma_edges=0.05)
    layers = layers_of(picture, settings, seed=3)
    base, contrast = plain_layers(picture, edges_of(picture), draw_walks(walks, steps, 3), settings)
    assert np.allclose(layers.base, base, atol=1e-5) and np.allclose(layers.contrast, contrast, atol=1e-5)
    assert np.allclose(layers.details, picture - base, atol=1e-5)


@pytest.mark.parametrize("pixels", [1, 22, 100])
def test_bands_of_a_picture_are_walked_as_the_whole(pixels):
    picture, tree = picture_of(9, 11), walk_tree(draw_walks(8, 6, 3))
    ground = ground_of(picture, edges_of(picture), 6, 0.3)
    [whole], bands = ([walk(band, tree, 8) for band in ground.bands(count)] for count in (10**6, pixels))
    assert len(bands) == -(-9 // max(1, pixels // 11))
    for name in ("lightest", "darkest"):
        assert (np.vstack([getattr(band, name) for band in bands]) == getattr(whole, name)).all()
    for place, weights in whole.weights.items():
        assert (np.vstack([band.weights[place] for band in bands]) == weights).all()


def all_walks(ground, steps: int) -> dict:
    "Place -> the weight with which it is met, over all walks of so many steps at once."
    start = ground.seen(ground.picture, (0, 0))
    now, met = {(0, 0): np.ones_like(start)}, {(0, 0): np.ones_like(start)}
    for _ in range(steps):
        after: dict = {}
        for (place, weight), move in itertools.product(now.items(), range(4)):
            factor, there = ground.step(place, move)
            after[there] = after.get(there, 0) + weight * factor / 4
        now = after
        for place, weight in now.items():
            met[place] = met.get(place, 0) + weight
    return met


def test_many_walks_come_to_what_all_walks_give():
    "The more walks, the nearer to the mean over all of them: by chance alone, so by the root of their number."
    picture = picture_of(16, 16)
    ground = ground_of(picture, edges_of(picture), 8, 0.3)
    exact, errors = all_walks(ground, 8), []
    for walks in (50, 5000):
        found = walk(ground, walk_tree(draw_walks(walks, 8, 1)), walks).weights
        errors.append(sum(np.abs(found.get(place, 0) / walks - own).mean() for place, own in exact.items()))
        assert set(found) <= set(exact)
    assert errors[1] < errors[0] / 5 and errors[1] < 0.25  # of weights that come to 7.7 together


def test_edges_are_those_of_the_tensor_and_noise_has_none():
    step = np.zeros((12, 12))
    step[:, 6:] = 1
    found = edges_of(step)
    assert found[6].argmax() in (5, 6) and np.allclose(found[:, 0], 0, atol=1e-6) and np.ptp(found, 0).max() < 1e-9
    assert np.allclose(edges_of(step.T), found.T) and np.allclose(edges_of(3 * step), 3 * found)
    from scipy import ndimage

    down, right = np.gradient(picture_of(20, 20), edge_order=1)
    parts = [ndimage.gaussian_filter(own, 1.0, mode="reflect") for own in (right**2, right * down, down**2)]
    tensor = np.stack([parts[0], parts[1], parts[1], parts[2]], -1).reshape(20, 20, 2, 2)
    values = np.linalg.eigvalsh(tensor)
    inner = slice(6, -6)  # numpy's gradient is another one at the border
    expected = np.sqrt(values[..., 1] - values[..., 0])[inner, inner]
    assert np.allclose(edges_of(picture_of(20, 20))[inner, inner], expected, atol=1e-4)


@pytest.mark.parametrize("grey", range(0, 256, 51))
def test_a_constant_slice_is_unchanged_and_stays_constant_by_tone(grey):
    stack = np.full((2, 12, 9), grey, np.uint8)
    for settings in (FEW, StochasticSettings(walks=3, steps=30, sigma_grey=1e-3, sigma_edges=1e-3, strength=100)):
        assert (enhanced(stack, "stochastic", settings=settings) == grey).all()
    assert len(np.unique(enhanced(stack, "tone"))) == 1 and (enhanced(stack, "none") == grey).all()


@pytest.mark.parametrize("seed", range(4))
def test_there_are_no_new_extrema(seed):
    "The base layer lies within what its walks met; the enhanced slice within the slice's own range."
    picture = picture_of(24, 24, seed)
    layers, reach = layers_of(picture, FEW, seed), FEW.steps
    wide = np.pad(picture, reach, mode="symmetric")
    around = np.lib.stride_tricks.sliding_window_view(wide, (2 * reach + 1, 2 * reach + 1))
    assert (layers.base >= around.min((2, 3)) - 1e-6).all() and (layers.base <= around.max((2, 3)) + 1e-6).all()
    assert layers.base.std() < picture.std() and np.ptp(layers.base) < np.ptp(picture)
    pixels = np.uint8(255 * picture)
    for strength in (1, 2, 20):
        found = enhanced(pixels, "stochastic", seed, settings=StochasticSettings(30, 6, strength=strength))
        assert found.min() >= pixels.min() and found.max() <= pixels.max()


def test_strength_steepens_edges_and_strength_one_gives_the_slice_back():
    picture = picture_of(24, 24)
    same = enhance_picture(picture, StochasticSettings(30, 6, strength=1, mixture=0))
    assert np.allclose(same, picture, atol=1e-5)
    spread = [enhance_picture(picture, StochasticSettings(30, 6, strength=own)).std() for own in (0, 1, 2, 4)]
    assert spread == sorted(spread) and spread[0] < picture.std() < spread[2]


def test_the_base_layer_keeps_walls_and_loses_noise():
    picture = picture_of(32, 32)
    base = layers_of(picture, StochasticSettings(walks=100, sigma_grey=0.1, sigma_edges=0.05)).base
    left, right = base[:, 4:13], base[:, 20:28]
    assert right.mean() - left.mean() > 0.36  # of 0.4
    assert left.std() < 0.6 * picture[:, 4:13].std() and right.std() < 0.6 * picture[:, 20:28].std()


def test_the_seed_decides_and_slices_do_not_touch_each_other():
    stack = np.uint8(255 * np.stack([picture_of(20, 20, seed) for seed in range(3)]))
    found = enhanced(stack, "stochastic", 5, settings=FEW)
    assert (found == enhanced(stack, "stochastic", 5, settings=FEW)).all()
    assert (found != enhanced(stack, "stochastic", 6, settings=FEW)).any()
    for name in ENHANCEMENTS:
        whole = enhanced(stack, name, 5, settings=FEW)
        for own, one in zip(whole, stack):
            assert (own == enhanced(one, name, 5, settings=FEW)).all()
    mirrored_back = enhanced(stack[:, ::-1], "tone")[:, ::-1]
    assert (mirrored_back == enhanced(stack, "tone")).all()


def test_tone_mapping_is_the_printed_formula_stretched_and_only_rises():
    values = np.linspace(0, 1, 1001)
    found = tone_mapped(values)
    printed = 1 / (1 + np.exp(-STEEPNESS * values ** (1 / GAMMA)))
    assert (GAMMA, STEEPNESS) == (1.5, 0.35) and np.allclose(np.corrcoef(printed, found)[0, 1], 1, atol=1e-12)
    assert (np.diff(found) > 0).all() and (found[0], found[-1]) == (0, 1) and found[500] > 0.6


def test_hu_are_windowed_once_and_without_rounding_in_between():
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    hu = np.int16(-1350 + greys * 1500.0 / 255)
    assert (enhanced(hu, "none") == enhanced(hu.astype(np.float32), "none")).all()
    assert np.abs(enhanced(hu, "tone").astype(int) - enhanced(greys, "tone")).max() <= 2
    fine = np.linspace(-1350, -1340, 256).reshape(16, 16)  # less than two grey values of the window
    assert len(np.unique(enhanced(fine, "tone"))) > len(np.unique(enhanced(enhanced(fine, "none"), "tone")))
    assert (enhanced(np.full((3, 3), 4000), "tone") == 255).all()  # beyond the window


@pytest.mark.parametrize("name", ENHANCEMENTS)
def test_no_slice_and_a_slice_of_one_pixel(name):
    assert enhanced(np.zeros((0, 8, 8), np.uint8), name).shape == (0, 8, 8)
    assert enhanced(np.full((1, 1, 1), 9, np.uint8), name).shape == (1, 1, 1)


def test_what_is_wrong_is_said():
    pixels = np.zeros((4, 4), np.uint8)
    with pytest.raises(InputError, match="did you mean 'stochastic'"):
        enhanced(pixels, "stochastics")
    with pytest.raises(InputError, match="not numbers"):
        enhanced(np.full((4, 4), np.nan), "tone")
    for wrong in ({"walks": 0}, {"steps": 0}, {"sigma_grey": 0}, {"mixture": 1.5}, {"sigma_edges": np.nan}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
            StochasticSettings(**wrong)


def test_the_setting_reaches_the_stack_of_a_volume(phantom):
    from covid_workbench.data.dataset import SliceDataset
    from covid_workbench.data.description import OBJECT_CLASSES
    from covid_workbench.data.slices import SliceTable
    from covid_workbench.models.volume_settings import VolumeSettings
    from covid_workbench.volumes.dataset import VolumeDataset

    table = SliceTable.from_csv(phantom / "slices.csv")
    slices = SliceDataset(table, image_size=32, objects=OBJECT_CLASSES["lesions"], min_area=4)
    stacks = {name: VolumeDataset(slices, VolumeSettings(enhancement=name)).stack(0) for name in ENHANCEMENTS}
    for name, stack in stacks.items():
        assert (stack.pixels == enhanced(stacks["none"].pixels, name)).all()
        assert (stack.lungs == stacks["none"].lungs).all()
        assert name == "none" or (stack.pixels != stacks["none"].pixels).any()


def test_a_real_slice_is_the_same_picture_with_stronger_details(shared):
    from scipy import ndimage

    from covid_workbench.data.dataset import square_picture
    from covid_workbench.data.lungs import lung_mask_of_plane
    from covid_workbench.data.series import read_volumes
    from covid_workbench.data.windows import apply_window

    hu = read_volumes(shared / "data" / "lungmask-testdata")[0].hu[0]
    pixels = square_picture(apply_window(hu), 128)
    found = enhanced(pixels, "stochastic")
    assert found.min() >= pixels.min() and found.max() <= pixels.max()
    assert np.corrcoef(found.ravel(), pixels.ravel())[0, 1] > 0.97
    lungs = square_picture(np.uint8(255 * lung_mask_of_plane(hu).lungs), 128) > 127
    fine, before = (np.abs(ndimage.laplace(own.astype(float)))[lungs].mean() for own in (found, pixels))
    assert fine > 1.2 * before  # vessels and texture in the lungs
    assert enhanced(pixels, "tone")[lungs].mean() > 1.2 * pixels[lungs].mean()
