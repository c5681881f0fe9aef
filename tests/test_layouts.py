"Where arrays lie in memory changes no number: what is flattened next is not laid out for a convolution first."

import pytest
import torch
from test_models import close, model_of
from torch.nn import functional as F

from covid_workbench.models.regions import convolved_squares, merged_up
from covid_workbench.models.sampling import RoIAlign


@pytest.mark.parametrize("learns", [False, True])
def test_box_pooling_is_flat_and_mask_pooling_channels_last(learns):
    heads = model_of("lstm2").detector.roi_heads
    features = {"0": torch.randn(2, 16, 8, 8, requires_grad=learns)}
    boxes = [torch.tensor([[3.0, 4, 50, 60], [10, 10, 30, 20]]), torch.tensor([[0.0, 0, 64, 64]])]
    pools = heads.box_roi_pool, heads.mask_roi_pool
    flat, deep = (pool(features, boxes, [(64, 64)] * 2) for pool in pools)
    assert deep.is_contiguous(memory_format=torch.channels_last) and not deep.is_contiguous()
    assert not flat.is_contiguous(memory_format=torch.channels_last)
    close(flat, RoIAlign(7)(features, boxes, [(64, 64)] * 2))


@torch.no_grad()
def test_squares_leave_the_merged_bias_as_it_is():
    "It is kept between slices; the answer for the second is that for the first."
    up, after = torch.nn.ConvTranspose2d(6, 6, 2, 2), torch.nn.Conv2d(6, 6, 3, padding=1)
    features, merged = torch.randn(2, 6, 14, 14), merged_up(up, after)
    before = merged[1].clone()
    first = convolved_squares(features, *merged)
    assert convolved_squares(features, *merged).equal(first) and merged[1].equal(before)
    close(first, F.pixel_unshuffle(after(up(features)).relu(), 2), 1e-5)
