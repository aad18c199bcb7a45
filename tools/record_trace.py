"""Records the shapes of real training samples, so that benchmarks stand on the same ones everywhere.

    python tools/record_trace.py --data build/demo

Takes the finished demo's training stream without easy-vqa (its 64 x 64 pictures would be nearly all images), encodes
samples as preset `0.1b` shows them, mixes them by their tokens (24 % video, 50 % image, 26 % text;
`data_engine.mixture`) and writes benchmarks/trace.json: for each sample its tokens, its targets, and where which image
or frame lies. No pixel and no word is kept.
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_engine.mixture import Pool, Schedule, achieved
from data_engine.recipe import Mixture
from data_engine.shard_index import number_sources
from data_engine.stream import Stream
from model.processing import Encoded, KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import visual_budget
from train.feed.conversation import encode

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}
READ, TOKENS = 900, 24_000
TARGET = Path(__file__).parent.parent / "benchmarks/trace.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("build/demo"), help="a finished run")
    data = parser.parse_args().data
    processor = KeyeProcessor(load_tokenizer(data / "tokenizer/tiny"), visual_budget("0.1b"))
    stream = Stream(data / "shards/manifest.json", seed=0)
    read = (stream.read(number) for number in dict.fromkeys(stream.schedule.order().tolist()))
    items = list(islice((item for item in read if not item.sample.corpus.startswith("easy_vqa")), READ))
    encoded = [encode(processor, item.sample.messages, item.media) for item in items]
    modality = [item.sample.modality for item in items]
    sources, source = number_sources(pa.table({"modality": modality, "corpus": modality}))
    pool = Pool(sources, source, np.array([len(one) for one in encoded], np.int32))
    order = Schedule(pool, Mixture(shares=SHARES, epoch_tokens=TOKENS), seed=0, epoch=0).order()
    samples = [shape(modality[place], encoded[place], processor) for place in order]
    lines = ",\n".join(json.dumps(sample, separators=(",", ":")) for sample in samples)
    TARGET.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(samples)} samples, {pool.tokens[order].sum():,} tokens, shares {achieved(pool, order)}: {TARGET}")


def shape(modality: str, one: Encoded, processor: KeyeProcessor) -> dict[str, Any]:
    """Tokens, targets (the last so many), and for each image or frame [first token, rows, columns of patches]."""
    pads = processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])
    where = np.flatnonzero(np.isin(one.input_ids, pads))
    sizes = one.grid_thw[:, 1] * one.grid_thw[:, 2] // 4
    firsts = where[np.cumsum(sizes) - sizes] if len(sizes) else []
    grids = one.grid_thw[:, 1:].tolist()
    blocks = [[int(first), *grid] for first, grid in zip(firsts, grids, strict=True)]
    return {"modality": modality, "tokens": len(one), "targets": one.num_targets, "blocks": blocks}


if __name__ == "__main__":
    main()
