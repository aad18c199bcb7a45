"""Prompts: their turns, their versions, and text that stays data."""

from pathlib import Path

import pytest

from cot_factory.prompting import FOLDER, prompt
from data_engine.sample import Media
from data_engine.teachers.fence import RULE
from data_engine.teachers.request import Image
from strict_yaml import RecipeError

OWN = """---
name: own
version: 3
variables: [question]
---
# System
Be brief.

# User
{{ "an example" | fenced }}

# Assistant
fine

# User
Question: {{ question }}
"""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_every_prompt_renders_with_its_variables_alone(path: Path) -> None:
    found = prompt(path.stem)
    request = found.request({name: f"<{name}>" for name in found.variables})
    assert request.system.endswith(RULE)
    assert request.turns[-1].role == "user"
    said = "".join(str(part) for turn in request.turns for part in turn.parts)
    assert all(f"<{name}>" in said for name in found.variables)
    with pytest.raises(ValueError, match="takes"):
        found.request({})


def test_a_prompt_of_ones_own_with_examples_and_pictures(tmp_path: Path) -> None:
    path = tmp_path / "own.md"
    path.write_text(OWN)
    found, picture = prompt(str(path)), Image(Media("image", "k.png"))
    request = found.request({"question": "{{ 7 * 7 }} {% raw %}"}, (picture,), max_tokens=5)
    assert [turn.role for turn in request.turns] == ["user", "assistant", "user"]
    assert request.turns[-1].parts == (picture, "Question: {{ 7 * 7 }} {% raw %}")
    assert "=== DATA" in str(request.turns[0].parts[0])
    assert request.max_tokens == 5
    path.write_text(OWN.replace("brief", "long"))
    prompt.cache_clear()
    assert prompt(str(path)).identity != found.identity  # though the version was forgotten
    assert found.identity.startswith("own@3-")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no front matter", "no front matter"),
        (OWN.replace("name: own", "name: other"), "must say `name: wrong`"),
        (OWN.rpartition("# User")[0].replace("own", "wrong"), "the user has the last turn"),
    ],
)
def test_a_file_that_is_no_prompt_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.md"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said):
        prompt(str(path))
