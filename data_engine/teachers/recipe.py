"""Teachers as a recipe names them, which of them answers what, and what a run may spend."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import xxhash
from pydantic import Field, model_validator

from data_engine.models.embedding import fingerprint
from strict_yaml import RecipeError, Strict


class Teacher(Strict):
    """A chat or vision model: behind an OpenAI-compatible server (`url`), or in a checkpoint `folder` of its own.

    `url` is the base address, `http://host:8000/v1`, and `model` the name the server knows. `revision` is any word
    that changes when the weights behind that name do. `key_env` names the environment variable that holds the key:
    a key is never part of a recipe. `concurrency` is requests in flight in each process, `requests_per_minute` those
    of all processes together, prices are those of a million tokens, `timeout` and `back_off` are seconds.
    """

    name: str = Field(min_length=1)
    url: str = ""
    folder: str = ""
    model: str = ""
    revision: str = ""
    key_env: str = ""
    max_tokens: int = Field(512, ge=1)
    temperature: float = Field(0.0, ge=0)
    seed: int = 0
    timeout: float = Field(120.0, gt=0)
    concurrency: int = Field(16, ge=1)
    attempts: int = Field(5, ge=1)
    back_off: float = Field(1.0, ge=0)
    requests_per_minute: float | None = Field(None, gt=0)
    prompt_price: float = Field(0.0, ge=0)
    completion_price: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.url) == bool(self.folder):
            raise ValueError(f"{self.name}: give either url (a server) or folder (a checkpoint)")
        if self.url and (urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname):
            raise ValueError(f"{self.name}: url must be http(s)://host/..., the base address that ends in /v1")
        if self.url and not self.model:
            raise ValueError(f"{self.name}: model: the name that the server knows is missing")
        return self

    @property
    def identity(self) -> str:
        """What an answer depends on besides the request: the model, and neither its address nor its price."""
        return f"folder\0{_fingerprint(self.folder)}" if self.folder else f"{self.model}\0{self.revision}"

    @property
    def shown_model(self) -> str:
        """The model's name as answers record it."""
        return self.model or Path(self.folder).name

    def require(self) -> None:
        """Raises RecipeError, with the fix, for a missing key or folder."""
        if self.key_env and not os.environ.get(self.key_env):
            raise RecipeError(f"teacher {self.name}: its key is not set; export {self.key_env}=...")
        if self.folder and not (Path(self.folder).expanduser() / "config.json").is_file():
            raise RecipeError(f"teacher {self.name}: {self.folder}: no checkpoint (config.json) there")


class Pool(Strict):
    """Teachers that share the work. `answers: one`: each request goes to one of them, which one follows from its
    content alone; `all`: every teacher answers every request.
    """

    teachers: tuple[Teacher, ...] = Field(min_length=1)
    answers: Literal["one", "all"] = "one"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [teacher.name for teacher in self.teachers]
        if len(set(names)) < len(names):
            raise ValueError(f"teachers: names must differ: {', '.join(names)}")
        return self

    def require(self) -> None:
        """Raises RecipeError, with the fix, for a teacher that cannot be asked."""
        for teacher in self.teachers:
            teacher.require()

    def who(self, content: bytes) -> Sequence[Teacher]:
        """The teachers that answer a request of this content.

        Highest-random-weight hashing (Thaler and Ravishankar 1998): a teacher that joins takes over its share, and
        no request moves between the others.
        """
        if self.answers == "all" or len(self.teachers) == 1:
            return self.teachers
        digest = xxhash.xxh3_128_digest(content)
        return (max(self.teachers, key=lambda teacher: xxhash.xxh3_64_intdigest(teacher.name.encode() + digest)),)


class Budget(Strict):
    """What may be spent in one cache folder, all processes and all runs together: tokens (prompt and completion,
    also of replies that were no use), and money in the unit of the prices. See `spending.Spending` for the bound.
    """

    tokens: int | None = Field(None, ge=0)
    cost: float | None = Field(None, ge=0)

    def require(self, pool: Pool) -> None:
        """Raises RecipeError where a cost is to be bounded and a server has no price."""
        free = [one.name for one in pool.teachers if one.url and not (one.prompt_price or one.completion_price)]
        if self.cost is not None and free:
            raise RecipeError(f"budget: cost: teacher {free[0]} has no prompt_price and no completion_price")


@functools.cache
def _fingerprint(folder: str) -> str:
    return fingerprint(folder)
