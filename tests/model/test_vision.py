"""The vision tower against transformers' SigLIP, `interpolate` and itself on one image at a time."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import SiglipVisionConfig, SiglipVisionModel

from model.configuration import KeyeVisionConfig
from model.projector import KeyeProjector, merge_patches
from model.vision import Grid, KeyeVisionTransformer

CONFIG = KeyeVisionConfig(
    hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=2, image_size=98
)
GRIDS: list[Grid] = [(4, 6), (2, 2), (6, 4), (2, 2), (8, 2), (10, 12), (2, 12)]


def tower() -> KeyeVisionTransformer:
    tower = KeyeVisionTransformer(CONFIG)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return tower


def patches(grids: list[Grid]) -> Tensor:
    return torch.randn(sum(rows * columns for rows, columns in grids), 3, 14, 14)


def test_packed_equals_alone() -> None:
    model, pixels = tower(), patches(GRIDS)
    packed = model(pixels, GRIDS)
    sizes = [rows * columns for rows, columns in GRIDS]
    alone = [model(one, [grid]) for one, grid in zip(pixels.split(sizes), GRIDS, strict=True)]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=0, atol=2e-6)


def test_gradients_of_packed_equal_those_alone() -> None:
    model, pixels = tower(), patches(GRIDS)
    model(pixels, GRIDS).square().sum().backward()
    packed = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    sizes = [rows * columns for rows, columns in GRIDS]
    for one, grid in zip(pixels.split(sizes), GRIDS, strict=True):
        model(one, [grid]).square().sum().backward()
    for parameter, expected in zip(model.parameters(), packed, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-4)


def test_without_rope_at_the_trained_size_it_is_siglip() -> None:
    """Oracle: transformers' SigLIP with the same weights; angles of zero switch the 2D RoPE off."""
    shared = CONFIG.to_dict()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size")
    siglip = SiglipVisionModel(
        SiglipVisionConfig(**{name: shared[name] for name in names}, patch_size=14, vision_use_head=False)
    ).eval()
    model = tower()
    state = siglip.state_dict()
    prefix = "vision_model." if any(key.startswith("vision_model.") for key in state) else ""
    siglip.load_state_dict({prefix + key: value for key, value in model.state_dict().items()})
    model.rope = lambda grids, device: (torch.ones(49, 24), torch.zeros(49, 24))
    image = torch.randn(1, 3, 98, 98)
    cut = image.view(3, 7, 14, 7, 14).permute(1, 3, 0, 2, 4).reshape(49, 3, 14, 14)
    expected = siglip(image).last_hidden_state[0]
    torch.testing.assert_close(model(cut, [(7, 7)]), expected, rtol=0, atol=1e-5)


def test_positions_are_interpolated_bilinearly() -> None:
    embeddings = tower().embeddings
    table = embeddings.position_embedding.weight.view(1, 7, 7, 48).permute(0, 3, 1, 2)
    expected = interpolate(table, size=(10, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(embeddings.position_embedding([(10, 4)]), expected[0].permute(1, 2, 0).reshape(40, 48))


def test_rope_turns_rows_and_columns_by_their_own_halves() -> None:
    """Closed form: frequency j of the row in angle j, of the column in angle 6 + j, twice over."""
    cos, sin = tower().rope([(2, 4), (4, 2)], torch.device("cpu"))
    frequencies = [10_000 ** (-2 * j / 12) for j in range(6)]
    for patch, (row, column) in enumerate([*((i // 4, i % 4) for i in range(8)), *((i // 2, i % 2) for i in range(8))]):
        angles = torch.tensor([f * row for f in frequencies] + [f * column for f in frequencies]).repeat(2)
        torch.testing.assert_close(cos[patch], angles.cos())
        torch.testing.assert_close(sin[patch], angles.sin())


def test_merge_takes_squares_in_raster_order() -> None:
    grids = [(4, 6), (2, 2)]
    merged = merge_patches(torch.arange(28.0)[:, None], grids).long().tolist()
    squares = [
        [(2 * r) * 6 + 2 * c, (2 * r) * 6 + 2 * c + 1, (2 * r + 1) * 6 + 2 * c, (2 * r + 1) * 6 + 2 * c + 1]
        for r in range(2)
        for c in range(3)
    ]
    assert merged == [*squares, [24, 25, 26, 27]]


def test_projector_normalises_after_the_merge() -> None:
    """Oracle: plain functional calls; a norm before the merge would give other numbers."""
    projector = KeyeProjector(CONFIG, 32)
    features = torch.randn(24, 48) * torch.linspace(0.1, 5, 24)[:, None]
    merged = merge_patches(features, [(4, 6)])
    centred = merged - merged.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    hidden = projector.linear_1(normed)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(projector(features, [(4, 6)]), projector.linear_2(hidden), rtol=0, atol=1e-5)
