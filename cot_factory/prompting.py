"""Prompts: Markdown files with front matter, rendered with data that they cannot mistake for instructions.

    ---
    name: solve
    version: 1
    variables: [question]
    ---
    # System
    ...
    # User
    {{ question }}

Headings `System`, `User` and `Assistant` begin turns: pairs of the latter two before the last are examples. The filter
`fenced` puts text that was read from a picture or a document between marks that it cannot contain.
"""

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml

from data_engine.teachers.fence import RULE, fenced
from data_engine.teachers.request import Image, Request, Turn
from strict_yaml import RecipeError

FOLDER = Path(__file__).parent / "prompts"
_HEADING = re.compile(r"^# (System|User|Assistant)\s*$", re.MULTILINE)
_TEMPLATES = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
_TEMPLATES.filters["fenced"] = fenced


@dataclass(frozen=True, slots=True)
class Prompt:
    """`identity` is what lineage records: name, version, and a hash of the text, should someone forget the version."""

    name: str
    version: int
    digest: str
    variables: tuple[str, ...]
    sections: tuple[tuple[str, str], ...]

    @property
    def identity(self) -> str:
        return f"{self.name}@{self.version}-{self.digest}"

    def turns(self, values: dict[str, str], pictures: tuple[Image, ...] = ()) -> tuple[str, tuple[Turn, ...]]:
        """(system text, turns), the pictures before the words of the last user turn. Text in `values` is shown as it
        is: it is not rendered again. Raises ValueError for a variable that is missing or unknown.
        """
        if set(values) != set(self.variables):
            raise ValueError(f"prompt {self.identity}: takes {', '.join(self.variables)}, not {', '.join(values)}")
        said = [(role, _TEMPLATES.from_string(text).render(values)) for role, text in self.sections]
        system = next((text for role, text in said if role == "System"), "")
        turns = [Turn("user" if role == "User" else "assistant", (text,)) for role, text in said if role != "System"]
        if pictures:
            turns[-1] = Turn("user", (*pictures, *turns[-1].parts))
        return system, tuple(turns)

    def request(self, values: dict[str, str], pictures: tuple[Image, ...] = (), **settings: object) -> Request:
        """A request of the rendered turns; the rule of fenced data is part of its system text."""
        system, turns = self.turns(values, pictures)
        return Request(turns, system=f"{system}\n\n{RULE}".strip(), **settings)  # type: ignore[arg-type]


@functools.cache
def prompt(name: str) -> Prompt:
    """The prompt in `prompts/NAME.md`, or in a file of one's own whose path ends in `.md`. Raises RecipeError for a
    file that is none.
    """
    path = Path(name).expanduser() if name.endswith(".md") else FOLDER / f"{name}.md"
    try:
        _, _, rest = path.read_text(encoding="utf-8").partition("---\n")
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.md")))
        raise RecipeError(f"prompt {name}: cannot be read: {error.strerror}; known: {known}") from error
    head, mark, body = rest.partition("\n---\n")
    if not mark:
        raise RecipeError(f"{path.name}: no front matter between two lines of ---")
    about = yaml.safe_load(head)
    pieces = _HEADING.split(body)
    digest = hashlib.sha256(rest.encode()).hexdigest()[:8]
    sections = tuple((role, text.strip()) for role, text in zip(pieces[1::2], pieces[2::2], strict=True))
    if about.get("name") != path.stem or not sections or sections[-1][0] != "User":
        raise RecipeError(f"{path.name}: front matter must say `name: {path.stem}`, and the user has the last turn")
    return Prompt(path.stem, int(about["version"]), digest, tuple(about["variables"]), sections)
