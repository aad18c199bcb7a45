"""Trains a small image-text scorer from nothing on captioned pictures, and measures whether it learnt anything.

`python -m data_engine.models.train_two_tower --data ~/.cache/keyeforge/corpora/stamps --out DIR`, four minutes of one
thread at most. The towers are transformers' own SiglipModel with a tiny configuration, so that a folder loads just as a
published checkpoint does; the loss is the sigmoid loss (arXiv 2303.15343). Whole categories (folders of pictures) are
held out, and retrieval among them, beside chance, is written to DIR/retrieval.json.
"""

import importlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image

from data_engine.media import decode_image
from data_engine.models import image_text
from data_engine.sources.captions import parse_sidecar

SIDE = 48
VOCABULARY = 1000
CONTEXT = 20
BATCH = 64
HELD_OUT = 0.25
LEARNING_RATE = 1e-3

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture, its captions (English, and Chinese where there is one) and its category, the folder it is in."""

    pixels: Pixels
    captions: tuple[str, ...]
    category: str


def load_pairs(data: Path) -> list[Pair]:
    """All captioned pictures of a folder tree, in the order of their paths."""
    pairs = []
    for path in sorted(data.rglob("*.png")):
        sidecar = path.with_suffix(".txt")
        if sidecar.exists():
            captions = parse_sidecar(sidecar.read_text(encoding="utf-8"))
            known = tuple(captions[language] for language in ("en", "zh_CN") if captions.get(language))
            category = path.parent.relative_to(data).as_posix()
            pairs.append(Pair(decode_image(path.read_bytes()), known, category))
    return [pair for pair in pairs if pair.captions]


def split(pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], list[Pair]]:
    """(training, held out): whole categories, in an order the seed draws, until a quarter of the pairs is held out."""
    categories = sorted({pair.category for pair in pairs})
    np.random.default_rng(seed).shuffle(categories)
    held: set[str] = set()
    for category in categories:
        size = sum(pair.category in held | {category} for pair in pairs)
        held |= {category} if size <= HELD_OUT * len(pairs) else set()
    return [pair for pair in pairs if pair.category not in held], [pair for pair in pairs if pair.category in held]


def new_checkpoint(captions: Sequence[str], out: Path) -> Any:
    """A folder with tokenizer and image processor, and a SiglipModel of tiny size with random weights."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    from model.tokenizer import train_bpe

    tokenizer = train_bpe(captions, VOCABULARY, out)
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(out)
    tower = {"hidden_size": 96, "intermediate_size": 256, "num_attention_heads": 4}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "num_hidden_layers": 1,
        "projection_size": 96,
    }
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), tokenizer.pad_token_id)
    vision = {"image_size": SIDE, "patch_size": 8, "num_hidden_layers": 3}
    model = SiglipModel(SiglipConfig(text_config={**tower, **text, **special}, vision_config={**tower, **vision}))
    model.logit_scale.data.fill_(np.log(10.0))  # the paper's start: almost all pairs are taken for negative
    model.logit_bias.data.fill_(-10.0)
    return model


def augmented(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A random crop of at least two thirds of each side, at the towers' size."""
    height, width = pixels.shape[:2]
    share = random.uniform(0.67, 1.0, 2)
    h, w = max(1, round(height * share[0])), max(1, round(width * share[1]))
    y, x = random.integers(0, height - h + 1), random.integers(0, width - w + 1)
    crop = Image.fromarray(pixels[y : y + h, x : x + w]).resize(
        (SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    return np.asarray(crop)[:, :: random.choice((1, -1))]


def thinned(caption: str, random: np.random.Generator) -> str:
    """The caption without some of its words (Chinese: characters), so that no caption is learnt by heart."""
    words = re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+\s*", caption)
    kept = [word for word in words if random.random() < 0.75]
    return "".join(kept or words).strip()


def batches(pairs: Sequence[Pair], seed: int) -> Iterator[tuple[Pixels, list[str], list[str]]]:
    """Pictures [B, SIDE, SIDE, 3], a thinned caption for each, and its English one in full, without end."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(pairs))
        for at in range(0, len(order) - BATCH + 1, BATCH):
            chosen = [pairs[i] for i in order[at : at + BATCH]]
            captions = [thinned(pair.captions[random.integers(len(pair.captions))], random) for pair in chosen]
            pictures = np.stack([augmented(pair.pixels, random) for pair in chosen])
            yield pictures, captions, [pair.captions[0] for pair in chosen]


def train(model: Any, out: Path, pairs: Sequence[Pair], seconds: float, max_steps: int, seed: int) -> int:
    """Trains until the time or the steps are over; returns the number of steps."""
    torch: Any = importlib.import_module("torch")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.2, betas=(0.9, 0.95))
    started, step = time.monotonic(), 0
    for pixels, captions, names in batches(pairs, seed):
        done = max((time.monotonic() - started) / seconds, step / max_steps)
        if done >= 1:
            break
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50, 1.02 - done)
        loss = sigmoid_loss(torch, model, tokenizer, pixels, captions, names)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    model.save_pretrained(out)
    return step


def sigmoid_loss(
    torch: Any, model: Any, tokenizer: Any, pixels: Pixels, captions: Sequence[str], names: Sequence[str]
) -> Any:
    """Mean over pictures of -log sigmoid(z * logit), z = 1 where pictures have the same name and -1 elsewhere."""
    tokens = tokenizer(list(captions), padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt")
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    logits = model(input_ids=tokens["input_ids"], pixel_values=images).logits_per_image
    same = [[1.0 if one == two else -1.0 for two in names] for one in names]
    return -torch.nn.functional.logsigmoid(torch.tensor(same) * logits).sum(dim=1).mean()


def retrieval(folder: Path, pairs: Sequence[Pair], language: int) -> dict[str, float]:
    """How well captions are found from pictures among held-out pairs, beside chance.

    `wins` is the share of the other captions that score below a picture's own (chance 0.5), the mean over pictures;
    its standard error is clustered by category (pictures of one stand or fall together). `recall_5` is the share of
    pictures with their own caption among the five best.
    """
    pairs = [pair for pair in pairs if len(pair.captions) > language]
    texts = [pair.captions[language] for pair in pairs]
    images = image_text.embed_images(str(folder), [pair.pixels for pair in pairs])
    scores = images @ image_text.embed_texts(str(folder), texts).T
    own = np.diag(scores)[:, None]
    other = np.array([[one != two for two in texts] for one in texts])
    wins = (((scores < own) + 0.5 * (scores == own)) * other).sum(axis=1) / other.sum(axis=1)
    names = list(dict.fromkeys(texts))
    better = np.array(
        [len({texts[j] for j in np.flatnonzero((scores[i] > own[i]) & other[i])}) for i in range(len(texts))]
    )
    # Never below what wins drawn evenly from 0 to 1 would have: perfect retrieval shows no spread of its own.
    error = max(clustered_error(wins, [pair.category for pair in pairs]), float(1 / np.sqrt(12 * len(pairs))))
    return {
        "pictures": len(pairs), "captions": len(names), "wins": float(wins.mean()), "wins_standard_error": error,
        "standard_errors_over_chance": (float(wins.mean()) - 0.5) / error,
        "recall_5": float((better < 5).mean()), "recall_5_chance": min(1.0, 5 / len(names)),
    }  # fmt: skip


def clustered_error(values: npt.NDArray[np.float64], clusters: Sequence[str]) -> float:
    """Standard error of the mean of values that stand together in clusters: from the sums of their residuals."""
    codes = np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(codes, values - values.mean())
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / max(count - 1, 1)) / len(values))


def main(
    data: Annotated[Path, typer.Option(help="a folder tree of PNG pictures with captions beside them")],
    out: Annotated[Path, typer.Option(help="the checkpoint's folder")],
    seconds: Annotated[float, typer.Option(help="training ends after this long")] = 200.0,
    max_steps: Annotated[int, typer.Option(help="or after this many steps")] = 100_000,
    seed: int = 0,
) -> None:
    """Trains a tiny SigLIP on captioned pictures and measures retrieval on held-out categories."""
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    training, held_out = split(load_pairs(data.expanduser()), seed)
    model = new_checkpoint([caption for pair in training for caption in pair.captions], out)
    steps = train(model.train(), out, training, seconds, max_steps, seed)
    languages = {"english": 0, "chinese": 1}
    found = {name: retrieval(out, held_out, place) for name, place in languages.items()}
    summary = {
        "standard_errors_over_chance": min(figures["standard_errors_over_chance"] for figures in found.values()),
        "steps": steps,
        "seed": seed,
        "training_pairs": len(training),
        "held_out_categories": sorted({pair.category for pair in held_out}),
        **found,
    }
    text = json.dumps(summary, indent=1, ensure_ascii=False)
    (out / image_text.EVIDENCE).write_text(text + "\n", encoding="utf-8")
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
