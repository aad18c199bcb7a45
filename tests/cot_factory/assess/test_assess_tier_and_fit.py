"""Tiers for every kind of chain; claims about a picture; the two small models against planted truths."""

import itertools
import json

import numpy as np
import pytest
from scipy.special import expit

from cot_factory.assess.fitted import fit_choice, fit_logistic
from cot_factory.assess.process import assess_process, first_flawed
from cot_factory.assess.steps import split
from cot_factory.assess.tier import tier
from cot_factory.recipe import Assess
from cot_factory.record import Finding, Step
from data_engine.verify.judgement import Judgement
from tests.conftest import Corpora

SPEC = Assess()
CLEAN, FLAWED = Step("good"), Step("bad", findings=(Finding("arithmetic", False, "1 + 1 = 3", severe=True),))


def test_the_table_of_tiers_is_complete() -> None:
    for right, finished, redundancy, flaws in itertools.product(
        (True, False), (True, False), (0.0, 0.3, 0.9), range(5)
    ):
        steps = [FLAWED] * flaws + [CLEAN] * (4 - flaws)
        found, reason = tier(Judgement(right, float(right), "7, not 8"), steps, redundancy, SPEC, finished=finished)
        dropped = not right or not finished or redundancy >= SPEC.redundant or flaws / 4 >= SPEC.severe_steps
        assert found == ("C" if dropped else "B" if flaws else "A")
        assert bool(reason) == (found != "A")
    assert tier(Judgement(True, 1.0, ""), [], 0.0, SPEC)[0] == "C"


FACTS = ("is there a circle? yes", "what color is the shape? red", "is there a triangle? no", '{"shape": "circle"}')


@pytest.mark.parametrize(
    ("claim", "ok"),
    [
        ("The shape is a circle.", True),
        ("The shape is a triangle.", False),
        ("The color is red.", True),
        ("The colour is blue.", False),
        ("There is no circle in the image.", False),
        ("There is no triangle.", True),
        ("The shape is in the middle.", None),
        ("It may be large.", None),
    ],
)
def test_claims_about_a_picture_are_held_against_what_is_known(claim: str, ok: bool | None) -> None:
    step = assess_process("What is in the image?", [Step(claim)], "", facts=FACTS)[0]
    told = [found.ok for found in step.findings if found.check == "facts"]
    assert told == ([] if ok is None else [ok])


def test_worked_solutions_raise_no_alarm(corpora: Corpora) -> None:
    """CHAMP's 270 solutions by people: no false alarm of arithmetic or congruence, 2 % of chains flagged at most."""
    lines = (corpora / "champ/champ.jsonl").read_text().splitlines()
    alarms, flagged, checked = [], 0, 0
    for line in lines:
        asked, told = (turn["value"] for turn in json.loads(line)["conversations"])
        text, _, answer = told.rpartition("\nAnswer: ")
        steps = assess_process(asked, [Step(text[start:end]) for start, end in split(text)], answer)
        found = [finding for step in steps for finding in step.findings]
        alarms += [one for one in found if one.ok is False and one.check in {"arithmetic", "congruence"}]
        checked += sum(one.check in {"arithmetic", "congruence"} for one in found)
        flagged += first_flawed(steps) is not None
    assert not alarms
    assert checked > 50 and flagged <= 0.02 * len(lines)


def test_logistic_regression_finds_planted_weights() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal([1.0, -2.0, 0.0], [1.0, 3.0, 1.0], (20_000, 3))
    labels = (generator.random(20_000) < expit(0.5 + 1.5 * (rows[:, 0] - 1) - 0.4 * (rows[:, 1] + 2))) * 1.0
    fit = fit_logistic(("a", "b", "c"), rows, labels, penalty=0.0)
    assert np.allclose(np.array(fit.weights) / np.array(fit.scale), [1.5, -0.4, 0.0], atol=0.06)
    assert abs(float(np.mean(fit.probability(rows))) - labels.mean()) < 1e-3  # its intercept makes it right on average
    assert type(fit).model_validate_json(fit.model_dump_json()) == fit
    shrunk = fit_logistic(("a", "b", "c"), rows, labels, penalty=10.0)
    assert np.abs(shrunk.weights).max() < 0.1
    with pytest.raises(ValueError, match="all the same"):
        fit_logistic(("a", "b", "c"), rows, np.ones(20_000), 0.0)


def test_the_choice_among_steps_finds_planted_weights() -> None:
    generator = np.random.default_rng(1)
    groups = [generator.normal(size=(generator.integers(2, 9), 2)) for _ in range(5000)]
    noise = [generator.gumbel(size=len(rows)) for rows in groups]  # the maximum of these is a conditional logit
    chosen = [int((rows @ [1.2, -0.6] + extra).argmax()) for rows, extra in zip(groups, noise, strict=True)]
    fit = fit_choice(("a", "b"), groups, chosen, penalty=0.0)
    assert np.allclose(np.array(fit.weights) / np.array(fit.scale), [1.2, -0.6], atol=0.06)
    assert fit.among(groups[0]).sum() == pytest.approx(1.0)
