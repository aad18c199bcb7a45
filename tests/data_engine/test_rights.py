"""Licences: what a policy refuses, at the recipe and at the row, and whom attribution is owed."""

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from data_engine import catalog, rights, tables
from data_engine.cli import app
from data_engine.rights import Rights
from tests.data_engine import lifecycle_run as life

TEACHERS = {
    "Open-1": {"terms": "Apache-2.0", "outputs_allowed": True},
    "closed-2": {"terms": "no competing models", "outputs_allowed": False},
}
POLICY = Rights.model_validate(
    {"allowed": ["MIT", "Apache-*", "CC-BY-*", "GPL-2.0*"], "refused": ["*-NC*", "*-ND*"], "teachers": TEACHERS}
)


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("mit", None),
        ("CC-BY-3.0 (Big Buck Bunny), Apache-2.0 (vtest.avi)", None),
        ("CC-BY-NC-4.0", "licence CC-BY-NC-4.0 is refused (*-NC*)"),
        ("MIT, cc-by-nc-4.0 (one, of many)", "licence cc-by-nc-4.0 is refused (*-NC*)"),
        ("CC-BY-NC-4.0 OR MIT", None),
        ("(CC-BY-NC-4.0 OR Proprietary) AND MIT", "licence CC-BY-NC-4.0 is refused (*-NC*)"),
        ("MIT and Proprietary", "licence Proprietary is not allowed"),
        ("", "no licence is known, and rights.allowed asks for one"),
        ("MIT, teacher:open-1", None),
        ("MIT, teacher:closed-2", "teacher closed-2: its terms (no competing models) allow no training"),
        ("MIT, teacher:stranger", "teacher stranger has no terms in rights.teachers"),
    ],
)
def test_a_policy_reads_licence_strings_as_people_write_them(licence: str, reason: str | None) -> None:
    assert rights.refusal(licence, POLICY) == reason


NAMES = ["A-1.0", "A-NC-2.0", "B+", "B[x]?", "C.d"]
PATTERNS = ["A-*", "*-NC-*", "B*", "b[X]?", "c.d", "*", "?-1.0"]


def plain_match(name: str, pattern: str) -> bool:
    """`*` by its definition: the pieces between stars follow one another, the first and last at the ends."""
    name, pieces = name.lower(), pattern.lower().split("*")
    if len(pieces) == 1:
        return name == pieces[0]
    if not (name.startswith(pieces[0]) and name.endswith(pieces[-1])):
        return False
    at = len(pieces[0])
    for piece in pieces[1:-1]:
        at = name.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return at <= len(name) - len(pieces[-1])


@given(
    st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.sampled_from(PATTERNS), max_size=3),
    st.lists(st.sampled_from(PATTERNS), max_size=2),
    st.sampled_from([", ", " AND ", " and "]),
)
def test_some_choice_of_alternatives_must_be_permitted(
    parts: list[list[str]], allowed: list[str], refused: list[str], joint: str
) -> None:
    def permitted(name: str) -> bool:
        inside = not allowed or any(plain_match(name, pattern) for pattern in allowed)
        return inside and not any(plain_match(name, pattern) for pattern in refused)

    licence = joint.join(" OR ".join(names) for names in parts)
    usable = any(all(map(permitted, choice)) for choice in itertools.product(*parts))
    assert (rights.refusal(licence, Rights(allowed=allowed, refused=refused)) is None) is usable


NC = Rights(refused=["CC-BY-NC*"])


@pytest.mark.parametrize(
    "licence",
    [
        "CC BY-NC 4.0",
        "cc_by_nc_4.0",
        "CC-BY-NC v4.0",
        "Attribution-NonCommercial-ShareAlike License",
        "Creative Commons Attribution Non-Commercial No-Derivs v4.0",
        "Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)",
        "https://creativecommons.org/licenses/by-nc/4.0/",
        "http://www.creativecommons.org/licenses/by-nc-sa/2.0/deed.en",
        *(f"MIT{mark}CC-BY-NC-4.0" for mark in (" / ", "/", "+", " + ", " & ", ";", " and ", "，", "|")),
        "(MIT OR Apache-2.0) AND CC-BY-NC-4.0",
        "CC-BY-NC-4.0 OR CC BY-NC-SA 4.0",
        "https://example.org/terms/MIT, CC BY NC 3.0",
    ],
)
def test_no_spelling_slips_through_a_refused_pattern(licence: str) -> None:
    assert rights.refusal(licence, NC) is not None


@pytest.mark.parametrize(
    ("licence", "policy"),
    [
        ("https://creativecommons.org/licenses/by/4.0/", Rights(allowed=["CC-BY-4.0"])),
        ("https://creativecommons.org/publicdomain/zero/1.0/", Rights(allowed=["CC0-*"])),
        ("MIT OR CC-BY-NC-4.0", NC),
        ("Apache License, Version 2.0", Rights(allowed=["Apache-2.0"])),
        ("The MIT License", Rights(allowed=["mit"])),
        ("https://example.org/a/b", Rights(allowed=["https://example.org/*"])),
        ("teacher:maker/model-1", Rights.model_validate({"teachers": {"maker/model-1": TEACHERS["Open-1"]}})),
    ],
)
def test_a_permitted_licence_is_known_by_its_other_spellings(licence: str, policy: Rights) -> None:
    assert rights.refusal(licence, policy) is None


def test_or_later_is_no_alternative() -> None:
    for licence in ("GPL-2.0 or later", "GPL v2 or any later version", "GPL-2.0-or-later"):
        assert rights.refusal(licence, Rights(refused=["GPL-*"])) is not None


TERMS = st.lists(st.sampled_from(["by", "nc", "sa", "nd"]), min_size=1, max_size=4, unique=True)
LONG = {"by": "Attribution", "nc": "NonCommercial", "sa": "ShareAlike", "nd": "NoDerivatives"}


@given(TERMS, st.sampled_from(["1.0", "2.0", "4.0"]), st.sampled_from("- _"))
def test_every_spelling_has_one_plain_name(terms: list[str], version: str, mark: str) -> None:
    terms = ["by", *(term for term in terms if term != "by")]
    plain = f"CC-{'-'.join(terms).upper()}-{version}"
    spellings = [
        mark.join(["cc", *terms, version]),
        f"CC {'-'.join(terms)} v{version}",
        f"https://creativecommons.org/licenses/{'-'.join(terms)}/{version}/legalcode",
        f"Creative Commons {'-'.join(LONG[term] for term in terms)} {version} International License",
    ]
    assert {rights.plain_name(spelling) for spelling in (*spellings, plain)} == {plain}


@given(st.text("aAcCbByY nN-_*.,0124/()V", max_size=20) | st.sampled_from(NAMES))
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert rights.plain_name(rights.plain_name(name)) == rights.plain_name(name)


@given(st.text())
def test_no_licence_string_breaks_the_reader(licence: str) -> None:
    names = [name for alternatives in rights.clauses(licence) for name in alternatives]
    assert all(names) and isinstance(rights.refusal(licence, POLICY), str | None)


def test_rows_are_dropped_by_their_own_licence() -> None:
    licences = ["MIT", None, "CC-BY-ND-4.0", "MIT"]
    found = rights.drop_reasons(pa.table({"licence": pa.chunked_array([licences[:1], licences[1:]])}), POLICY)
    assert [reason is not None for reason in found.to_pylist()] == [False, True, True, False]


@pytest.fixture(scope="module")
def root(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return life.make_corpora(corpora, tmp_path_factory.mktemp("rights") / "corpora")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"refused": ["GPL-*"]}, "corpora.stamps.sources.0.licence: licence GPL-2.0-or-later is refused (GPL-*)"),
        ({"allowed": ["GPL-*"]}, "corpora.easy_vqa.sources.0.licence: licence MIT is not allowed"),
        ({"refuse": ["GPL-*"]}, "did you mean 'refused'?"),
    ],
)
def test_a_refused_source_stops_the_run_before_anything_is_read(
    root: Path, tmp_path: Path, policy: dict[str, Any], message: str
) -> None:
    recipe = life.recipe(root, tmp_path / "recipe.yaml", lambda data: data.update(rights=policy))
    result = CliRunner().invoke(app, ["curate", str(recipe), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2 and message in result.output and result.output.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_shards_say_what_is_owed_for_them(root: Path, tmp_path: Path) -> None:
    life.run(root, tmp_path, lambda data: data.update(rights={"allowed": ["GPL-*", "MIT"], "attribution": ["gpl-*"]}))
    lines = (tmp_path / "shards" / "ATTRIBUTION.md").read_text(encoding="utf-8").splitlines()
    kept = tables.count(catalog.steps(tmp_path)["dedup.stamps"] / "samples")
    source = yaml.safe_load((tmp_path / "recipe.yaml").read_text())["corpora"][0]["sources"][0]
    assert lines[4:] == [f"| {source['licence']} | {source['attribution']} | stamps | {kept} |"]


def test_what_owes_attribution_without_naming_anyone_is_still_listed(tmp_path: Path) -> None:
    rows = {"licence": ["CC-BY-4.0", "CC-BY-4.0", "CC0-1.0"], "attribution": ["", "A | B", "C"], "corpus": ["c"] * 3}
    tables.write(pa.table(rows), tmp_path / "part.parquet")
    rights.write_attribution([tmp_path / "part.parquet"], Rights(attribution=["CC-BY-*"]), tmp_path / "A.md")
    lines = (tmp_path / "A.md").read_text().splitlines()[4:]
    assert lines == ["| CC-BY-4.0 | *none given* | c | 1 |", r"| CC-BY-4.0 | A \| B | c | 1 |"]
