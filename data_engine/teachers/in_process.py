"""A teacher in a checkpoint folder, run in this process through transformers; text only. Loaded once per process."""

import copy
import functools
import importlib
from pathlib import Path
from typing import Any

from data_engine.models.threads import one_thread
from data_engine.teachers.recipe import Teacher
from data_engine.teachers.remote import Reply, ReplyError
from data_engine.teachers.request import Image, Request, Token


@one_thread()
def ask(teacher: Teacher, request: Request, seed: int, temperature: float) -> Reply:
    """The folder's reply, always with log-probabilities; of `choices` the likeliest. Raises ReplyError."""
    model, tokenizer = _load(teacher.folder)
    prompt, head = _prompt(tokenizer, request)
    longest = teacher.max_tokens if request.max_tokens is None else request.max_tokens
    context = int(getattr(model.config, "max_position_embeddings", 1 << 30))
    if prompt.shape[1] + longest > context:
        raise ReplyError("prompt too long", f"{prompt.shape[1]} tokens and {longest} to come; the context is {context}")
    if request.choices:
        return _chosen(model, tokenizer, prompt, request)
    first, number = request.together or (seed, 1)
    if seed != request.seed or not 0 <= seed - first < number:  # another try
        first, number = seed, 1
    read = tuple(prompt[0].tolist())
    reply = _written(teacher.folder, read, head, longest, first, number, temperature)[seed - first]
    if not reply.text.strip():
        raise ReplyError("empty reply", again=True, spent=(reply.prompt_tokens, reply.completion_tokens))
    return reply


def _prompt(tokenizer: Any, request: Request) -> tuple[Any, int]:
    """Token ids [1, L] of the chat template's rendering, and how many of them come before the last turn: the examples,
    which many requests share.
    """
    messages = [{"role": "system", "content": request.system}] if request.system else []
    for turn in request.turns:
        if any(isinstance(part, Image) for part in turn.parts):
            raise ReplyError("picture cannot be shown", "a teacher in a folder reads text alone; serve one that sees")
        messages.append({"role": turn.role, "content": "".join(map(str, turn.parts))})
    if not tokenizer.chat_template:
        raise ReplyError("no chat template", "the folder's tokenizer has none", stop=True)
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")["input_ids"]
    if len(request.turns) < 3:
        return prompt, 0
    before = tokenizer.apply_chat_template(messages[:-1], tokenize=False)
    head: list[int] = tokenizer(before, add_special_tokens=False)["input_ids"]
    return prompt, len(head) if prompt[0, : len(head)].tolist() == head else 0


@functools.lru_cache(maxsize=2)
def _written(
    folder: str, prompt: tuple[int, ...], head: int, longest: int, seed: int, number: int, temperature: float
) -> tuple[Reply, ...]:
    """So many replies to one prompt, written at the same time: kept until all those who share them have asked."""
    torch: Any = importlib.import_module("torch")
    model, tokenizer = _load(folder)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    read = torch.tensor([prompt])
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        cache = copy.deepcopy(_head(folder, prompt[:head])) if head else None
        if number > 1 or head:
            rest = read[:, head:-1]
            cache = model(input_ids=rest, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(number)
        rows = read.expand(number, -1)
        out = model.generate(
            rows, attention_mask=torch.ones_like(rows), max_new_tokens=longest, output_logits=True,
            return_dict_in_generate=True, pad_token_id=tokenizer.pad_token_id, past_key_values=cache, **sampling,
        )  # fmt: skip
    said = out.sequences[:, len(prompt) :]
    chosen = [step.float().log_softmax(-1).gather(1, said[:, [at]])[:, 0] for at, step in enumerate(out.logits)]
    scores = torch.stack(chosen, dim=1).tolist()
    return tuple(_reply(model, tokenizer, len(prompt), *row) for row in zip(said.tolist(), scores, strict=True))


@functools.lru_cache(maxsize=2)
def _head(folder: str, tokens: tuple[int, ...]) -> Any:
    """Keys and values of what prompts begin with. It is always read alone, so that a reply does not depend on which
    requests came before.
    """
    torch: Any = importlib.import_module("torch")
    with torch.inference_mode():
        return _load(folder)[0](input_ids=torch.tensor([tokens]), use_cache=True, logits_to_keep=1).past_key_values


def _reply(model: Any, tokenizer: Any, prompt_tokens: int, said: list[int], scores: list[float]) -> Reply:
    """A row up to its end: what stands after it pads it to the longest."""
    end = next((place for place, token in enumerate(said) if token in _ends(model)), None)
    said = said if end is None else said[: end + 1]
    tokens = tuple(Token(tokenizer.decode([token]), score) for token, score in zip(said, scores, strict=False))
    text = tokenizer.decode(said, skip_special_tokens=True)
    return Reply(text, "length" if end is None else "stop", prompt_tokens, len(said), tokens)


def _chosen(model: Any, tokenizer: Any, prompt: Any, request: Request) -> Reply:
    """The choice with the highest log-probability, summed over its tokens and the end of the turn."""
    end = next(iter(_ends(model)))
    answers = [[*tokenizer(choice, add_special_tokens=False)["input_ids"], end] for choice in request.choices]
    scored = _scores(model, prompt, answers)
    totals = tuple(map(sum, scored))
    best = max(range(len(totals)), key=totals.__getitem__)
    tokens = tuple(map(Token, map(tokenizer.decode, answers[best]), scored[best]))
    return Reply(request.choices[best], "stop", prompt.shape[1], len(answers[best]), tokens, totals)


def _scores(model: Any, prompt: Any, answers: list[list[int]]) -> list[list[float]]:
    """The log-probability of each token of each answer after the prompt, which is read once."""
    torch: Any = importlib.import_module("torch")
    longest = max(map(len, answers))
    padded = torch.tensor([[*answer, *[answer[-1]] * (longest - len(answer))] for answer in answers])
    with torch.inference_mode():
        read = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
        cache = read.past_key_values
        cache.batch_repeat_interleave(len(answers))
        rest = model(input_ids=padded, past_key_values=cache, use_cache=True).logits[:, :-1]
        logits = torch.cat([read.logits.expand(len(answers), -1, -1), rest], dim=1).float()
        chosen = logits.log_softmax(-1).gather(2, padded[..., None])[..., 0]
    return [row[: len(answer)] for row, answer in zip(chosen.tolist(), answers, strict=True)]


def _ends(model: Any) -> tuple[int, ...]:
    end = model.generation_config.eos_token_id
    return tuple(end) if isinstance(end, list) else (end,)


@functools.lru_cache(maxsize=2)
def _load(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(folder).expanduser()
    model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True).eval().requires_grad_(False)
    return model, AutoTokenizer.from_pretrained(path, local_files_only=True)
