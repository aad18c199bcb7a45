"""What a small language model (SmolLM2-135M-Instruct) says of CHAMP's responses, each in one forward pass.

Of every token its log-probability, and after every step the log-odds of "yes" against "no" to "is this step right?".
The questions branch off one pass: each sees the prompt and the steps up to its own, and no other question, by the
attention mask and by its position numbers. Asked one at a time, 540 responses would cost some 7,000 passes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

ASK = "\nIs this step right, yes or no? Answer:"
HEAD = (
    "<|im_start|>system\nYou check solutions of mathematics problems step by step.<|im_end|>\n"
    "<|im_start|>user\nProblem: {question}\n\nSolution:\n"
)


@dataclass(frozen=True, slots=True)
class Said:
    """`surprisals`: of each step, those of its tokens in nats; `yes`: of each step, the log-odds of yes over no."""

    surprisals: tuple[tuple[float, ...], ...]
    yes: tuple[float, ...]


def said(
    folder: str, chains: Sequence[tuple[str, str, str, Sequence[tuple[int, int]]]], cache: Path
) -> dict[str, Said]:
    """Of each chain (key, question, text, spans of its steps) what the model says; kept in `cache` as it goes on."""
    known = {}
    if cache.exists():
        known = {row["key"]: Said(row["surprisals"], row["yes"]) for row in map(json.loads, cache.open())}
    if all(chain[0] in known for chain in chains):
        return known
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with cache.open("a") as file:
        for key, question, text, spans in tqdm(chains, desc="SmolLM2", mininterval=10):
            if key not in known:
                known[key] = _one(model, tokenizer, question, text, spans)
                file.write(json.dumps({"key": key, **asdict(known[key])}) + "\n")
                file.flush()
    return known


@torch.inference_mode()
def _one(model: Any, tokenizer: Any, question: str, text: str, spans: Sequence[tuple[int, int]]) -> Said:
    head = tokenizer(HEAD.format(question=question))["input_ids"]
    body = tokenizer(text, return_offsets_mapping=True)
    ask = tokenizer(ASK)["input_ids"]
    steps = [[k for k, (a, b) in enumerate(body["offset_mapping"]) if a < end and b > start] for start, end in spans]
    trunk, branch = len(head) + len(body["input_ids"]), len(ask)
    ids = torch.tensor([head + body["input_ids"] + ask * len(spans)])
    mask = torch.tril(torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool))
    positions = torch.arange(ids.shape[1])
    for place, tokens in enumerate(steps):
        rows = slice(trunk + place * branch, trunk + (place + 1) * branch)
        seen = len(head) + tokens[-1] + 1
        mask[rows, seen : rows.start] = False
        positions[rows] = torch.arange(seen, seen + branch)
    logits = model(
        input_ids=ids, attention_mask=mask[None, None], position_ids=positions[None], use_cache=False
    ).logits[0]
    told = torch.log_softmax(logits[len(head) - 1 : trunk - 1], dim=-1)
    told = -told.gather(1, torch.tensor(body["input_ids"])[:, None])[:, 0]
    words = [[tokenizer(word)["input_ids"][0] for word in pair] for pair in ((" yes", " Yes"), (" no", " No"))]
    ends = logits[[trunk + (place + 1) * branch - 1 for place in range(len(spans))]]
    yes = torch.logsumexp(ends[:, words[0]], 1) - torch.logsumexp(ends[:, words[1]], 1)
    return Said(
        tuple(tuple(round(float(told[k]), 3) for k in tokens) for tokens in steps),
        tuple(round(float(one), 3) for one in yes),
    )
