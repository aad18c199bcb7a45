import itertools
from pathlib import Path

import pytest
import torch

from data_engine.stream import Stream
from model.modeling import build
from model.processing import KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import visual_budget
from train.engine import Engine, component_of, freeze, learning_rate, start_processes
from train.feed.batches import Cursor, Feed
from train.feed.conversation import encode
from train.feed.packing import Limits
from train.heldout import derangement, score, summarise
from train.objectives.next_token import count_targets, loss_sum
from train.stages import COMPONENTS, Optimizer


@pytest.fixture(scope="module")
def processor(shared_run: Path) -> KeyeProcessor:
    return KeyeProcessor(load_tokenizer(shared_run / "tokenizer" / "tiny"), visual_budget("tiny"))


@pytest.fixture
def model(processor: KeyeProcessor) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("tiny", processor.tokenizer)


def test_a_packed_batch_costs_what_its_samples_cost_alone(
    shared_run: Path, processor: KeyeProcessor, model: torch.nn.Module
) -> None:
    stream = Stream(shared_run / "shards" / "manifest.json", 0)
    batch = next(Feed(stream, processor, 3, Limits(256)).batches(Cursor(), 0))
    items = [stream.read(piece.number) for piece in batch.pieces]
    assert len(items) > 3
    assert {item.sample.modality for item in items} == {"video", "image", "text"}
    with torch.no_grad():
        alone = [processor.batch([encode(processor, item.sample.messages, item.media)]) for item in items]
        losses = [float(loss_sum(model, one)) for one in alone]
        packed = float(loss_sum(model, batch.tensors))
    assert sum(map(count_targets, alone)) == count_targets(batch.tensors)
    assert packed == pytest.approx(sum(losses), rel=1e-5)


def test_a_batch_without_pictures_gives_vision_zero_gradients(
    shared_run: Path, processor: KeyeProcessor, model: torch.nn.Module
) -> None:
    stream = Stream(shared_run / "shards" / "manifest.json", 0, mixture={"text": 1.0})
    tensors = next(Feed(stream, processor, 1, Limits(256)).batches(Cursor(), 0)).tensors
    assert "pixel_values" not in tensors
    loss_sum(model.train(), tensors).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()) == (component_of(name) == "language"), name


@pytest.mark.parametrize("trainable", COMPONENTS)
def test_only_what_is_trainable_has_gradients(model: torch.nn.Module, trainable: str) -> None:
    freeze(model, [trainable])  # type: ignore[list-item]
    open_parts = {component_of(name) for name, p in model.named_parameters() if p.requires_grad}
    assert open_parts == {trainable}
    assert {component_of(name) for name, _ in model.named_parameters()} == set(COMPONENTS)


def test_the_rate_warms_up_and_falls_as_a_cosine() -> None:
    settings = Optimizer(lr=1.0, warmup_steps=4, final_lr_share=0.2)
    rates = [learning_rate(step, 104, settings) for step in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[54] == pytest.approx(0.6)  # half way: the mean of 1 and 0.2
    assert learning_rate(104, 104, settings) == pytest.approx(0.2)
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))


def test_shuffling_swaps_media_of_the_same_kind_and_never_keeps_ones_own(shared_run: Path) -> None:
    stream = Stream(shared_run / "shards" / "manifest.json", 0)
    items = [stream.read(int(index)) for index in stream.schedule.order()[:120]]
    partner = derangement(items)
    shown = {index for index, item in enumerate(items) if item.media}
    assert set(partner) == shown
    assert sorted(partner.values()) == sorted(shown)  # a permutation: every medium is used once
    for index, other in partner.items():
        assert items[index].sample.modality == items[other].sample.modality
        assert items[index].sample.media != items[other].sample.media


def test_a_picture_that_is_most_of_the_group_is_left_out(shared_run: Path) -> None:
    stream = Stream(shared_run / "shards" / "manifest.json", 0, mixture={"image": 1.0})
    first, second = (stream.read(int(index)) for index in stream.schedule.order()[:2])
    assert derangement([first]) == {}
    partner = derangement([first, first, first, second])
    assert partner.pop(3) in {0, 1, 2}
    assert set(partner.values()) == {3}


def test_heldout_scores_are_the_models_losses(
    shared_run: Path, processor: KeyeProcessor, model: torch.nn.Module
) -> None:
    stream = Stream(shared_run / "shards" / "manifest.json", 0, split="heldout")
    items = [stream.read(int(index)) for index in stream.schedule.order()[:12]]
    summary = summarise(score(model, processor, items))  # type: ignore[arg-type]
    model.eval()
    pairs = []
    with torch.no_grad():
        for item in items:
            tensors = processor.batch([encode(processor, item.sample.messages, item.media)])
            pairs.append((float(loss_sum(model, tensors)), count_targets(tensors), bool(item.media)))
    shown = [(loss, targets) for loss, targets, has_media in pairs if has_media]
    mean = sum(loss for loss, _ in shown) / sum(targets for _, targets in shown)
    everything = sum(loss for loss, _, _ in pairs) / sum(targets for _, targets, _ in pairs)
    assert summary["heldout_loss"] == pytest.approx(mean, rel=1e-5)
    assert summary["heldout_loss_all"] == pytest.approx(everything, rel=1e-5)
    assert set(summary["heldout_tasks"]) == {item.sample.task for item in items}


def test_adamw_under_deepspeed_is_torchs(shared_run: Path, processor: KeyeProcessor, make_stage) -> None:  # type: ignore[no-untyped-def]
    """Three steps of the engine equal three of plain torch, clipping included."""
    stage = make_stage(optimizer={"lr": 1e-3, "warmup_steps": 0, "weight_decay": 0.1, "grad_clip": 0.5})
    stream = Stream(shared_run / "shards" / "manifest.json", 0)
    tensors = next(Feed(stream, processor, 2, Limits(256)).batches(Cursor(), 0)).tensors
    models = []
    for _ in range(2):
        torch.manual_seed(1)
        models.append(build("tiny", processor.tokenizer))
    engine = Engine(models[0], stage, start_processes())
    plain = models[1]
    vectors = [p for n, p in plain.named_parameters() if p.ndim < 2 or "embed" in n]
    matrices = [p for n, p in plain.named_parameters() if not (p.ndim < 2 or "embed" in n)]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), foreach=False)
    for step in range(3):
        rate, norm = engine.step(loss_sum(engine.deepspeed, tensors) / 50, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        (loss_sum(plain, tensors) / 50).backward()
        expected_norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        assert norm == pytest.approx(float(expected_norm), rel=1e-4)
    for (name, ours), theirs in zip(models[0].named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-5), name
