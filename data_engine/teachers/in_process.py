"""A teacher in a checkpoint folder, run in this process through transformers; text only. Loaded once per process."""

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
    prompt = _prompt(tokenizer, request)
    longest = teacher.max_tokens if request.max_tokens is None else request.max_tokens
    context = int(getattr(model.config, "max_position_embeddings", 1 << 30))
    if prompt.shape[1] + longest > context:
        raise ReplyError("prompt too long", f"{prompt.shape[1]} tokens and {longest} to come; the context is {context}")
    if request.choices:
        return _chosen(model, tokenizer, prompt, request)
    return _written(model, tokenizer, prompt, longest, seed, temperature)


def _prompt(tokenizer: Any, request: Request) -> Any:
    """Token ids [1, L] of the chat template's rendering."""
    messages = [{"role": "system", "content": request.system}] if request.system else []
    for turn in request.turns:
        if any(isinstance(part, Image) for part in turn.parts):
            raise ReplyError("picture cannot be shown", "a teacher in a folder reads text alone; serve one that sees")
        messages.append({"role": turn.role, "content": "".join(map(str, turn.parts))})
    if not tokenizer.chat_template:
        raise ReplyError("no chat template", "the folder's tokenizer has none", stop=True)
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(rendered, add_special_tokens=False, return_tensors="pt")["input_ids"]


def _written(model: Any, tokenizer: Any, prompt: Any, longest: int, seed: int, temperature: float) -> Reply:
    torch: Any = importlib.import_module("torch")
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        out = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=longest, output_logits=True,
            return_dict_in_generate=True, pad_token_id=tokenizer.pad_token_id, **sampling,
        )  # fmt: skip
    said = out.sequences[0, prompt.shape[1] :].tolist()
    scores = [float(step[0].float().log_softmax(-1)[token]) for step, token in zip(out.logits, said, strict=True)]
    tokens = tuple(Token(tokenizer.decode([token]), score) for token, score in zip(said, scores, strict=True))
    ended = bool(said) and said[-1] in _ends(model)
    text = tokenizer.decode(said, skip_special_tokens=True)
    if not text.strip():
        raise ReplyError("empty reply", again=True, spent=(prompt.shape[1], len(said)))
    return Reply(text, "stop" if ended else "length", prompt.shape[1], len(said), tokens)


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
