"""The process level against people: CHAMP's 540 responses with their first wrong steps marked.

    python benchmarks/champ.py [--smollm2 FOLDER [--most 540]] [--rounds 2000]

Everything is fitted and every bound chosen on two thirds of the problems (by the hash of their names); the tables are
of the other third. `--smollm2`: a checkpoint of SmolLM2-135M-Instruct, to judge beside the rules (some 20 minutes on a
core the first time; kept in build/bench). Tables: answers; flawed or not; the gain on the two trivial judges,
with intervals by a paired bootstrap over problems; the first wrong step. Writes build/bench/champ.json and champ.png.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measuring import save
from benchmarks.reasoning import features
from benchmarks.reasoning.data import Response, labels, others, problems, responses, right
from cot_factory.assess.fitted import Array, fit_choice, fit_logistic
from cot_factory.record import Step

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
FOLDS = 5
Bools = NDArray[np.bool_]
KEPT = Path("build/bench")


@dataclass(frozen=True, slots=True)
class Chain:
    """A response with what is known of it. `right`: by the verifier; `read`: by reading, None where nobody read it."""

    one: Response
    steps: tuple[Step, ...]
    right: bool
    read: bool | None
    row: Mapping[str, float]
    rows: list[dict[str, float]]

    @property
    def flawed(self) -> bool:
        return self.one.wrong is not None


def chains(smollm2: str | None, most: int, *, read: bool = False) -> list[Chain]:
    """`read`: the answers' labels take the place of the verifier's word on them."""
    data = problems()
    found = responses(data)
    told = _verdicts(data)
    said: dict[str, Any] = {}
    if smollm2:
        from benchmarks.reasoning.judge import said as ask

        KEPT.mkdir(parents=True, exist_ok=True)
        asked = [(one.key, one.question, one.text, one.spans) for one in _by_turns(found)[:most]]
        said = ask(smollm2, asked, KEPT / "champ_smollm2.jsonl")
    known, out = labels(), []
    for one in found:
        if smollm2 and one.key not in said:
            continue
        own = known[one.key] if read else told[one.problem][one.key.partition("|")[2]]
        rest = [verdict for key, verdict in told[one.problem].items() if key != one.key.partition("|")[2]]
        steps = features.ruled(one)
        row = features.of_chain(one, steps, own, float(np.mean(rest)), said.get(one.key))
        rows = features.of_steps(one, steps, said.get(one.key))
        out.append(Chain(one, steps, own, known.get(one.key), row, rows))
    return out


def _by_turns(found: Sequence[Response]) -> list[Response]:
    """One of the held-out third, one of the rest in no order of theirs, and so on: a cut has as many of either."""
    test = [one for one in found if one.held_out]
    rest = sorted((one for one in found if not one.held_out), key=lambda one: hashlib.sha256(one.key.encode()).digest())
    return [one for pair in zip(test, rest, strict=False) for one in pair] + rest[len(test) :]


def _verdicts(data: dict[str, Any]) -> dict[str, dict[str, bool]]:
    """Of each problem the verifier's word on 16 responses, the marked ones among them; kept, for it takes a while."""
    kept = KEPT / "champ_others.json"
    if kept.exists():
        found: dict[str, dict[str, bool]] = json.loads(kept.read_text())
        if len(found) == len(data):
            return found
    found = {
        name: {key: right(problem["_answer"], said) for key, said in others(problem)} for name, problem in data.items()
    }
    KEPT.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    return found


# What is measured of a judge of chains.


def measures(flawed: Bools, said: Bools) -> dict[str, float]:
    """Precision, recall and F1 of finding the flawed; balanced accuracy over flawed and not."""
    hit, wrong = float((said & flawed).sum()), float((said & ~flawed).sum())
    recall, clean = hit / flawed.sum(), 1 - wrong / (~flawed).sum()
    precision = hit / max(1.0, hit + wrong)
    f1 = 2 * hit / (hit + wrong + flawed.sum())
    return {"precision": precision, "recall": recall, "F1": f1, "balanced": (recall + clean) / 2}


def tuned(tune: Sequence[Chain], test: Sequence[Chain], names: Sequence[str]) -> dict[str, Any]:
    """Probabilities on the held-out third, and the bounds that are best (F1; balanced accuracy) on the rest, where
    each chain is told by a model fitted to the folds without its problem.
    """
    rows, flawed = features.matrix([chain.row for chain in tune], names), np.array([chain.flawed for chain in tune])
    best: tuple[float, float, Array] | None = None
    for penalty in PENALTIES:
        out = _across(tune, rows, flawed, names, penalty)
        loss = -float(np.mean(np.log(np.where(flawed, out, 1 - out))))
        if best is None or loss < best[0]:
            best = (loss, penalty, out)
    assert best
    loss, penalty, out = best
    cuts = np.unique(out)
    bounds = {
        name: cuts[int(np.argmax([measures(flawed, out >= cut)[name] for cut in cuts]))] for name in ("F1", "balanced")
    }
    fitted = fit_logistic(names, rows, flawed * 1.0, penalty)
    told = fitted.probability(features.matrix([chain.row for chain in test], names))
    weights = dict(sorted(zip(names, fitted.weights, strict=True), key=lambda pair: -abs(pair[1])))
    return {"told": told, "bounds": bounds, "weights": weights, "penalty": penalty, "loss": loss}


def _across(tune: Sequence[Chain], rows: Array, flawed: Bools, names: Sequence[str], penalty: float) -> Array:
    """Of each chain the probability by a model fitted to the other folds."""
    folds, out = _folds(tune), np.zeros(len(tune))
    for fold in range(FOLDS):
        kept = folds != fold
        out[~kept] = fit_logistic(names, rows[kept], flawed[kept] * 1.0, penalty).probability(rows[~kept])
    return out


def _folds(tune: Sequence[Chain]) -> NDArray[np.int_]:
    order = {name: k % FOLDS for k, name in enumerate(dict.fromkeys(chain.one.problem for chain in tune))}
    return np.array([order[chain.one.problem] for chain in tune])


def by_rules(chain: Chain, *, severe: bool) -> bool:
    """Whether any step has a finding; `severe`: a severe one (arithmetic)."""
    return any(found.ok is False and (found.severe or not severe) for step in chain.steps for found in step.findings)


def judges(tune: Sequence[Chain], test: Sequence[Chain], sets: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Of each judge its word on the held-out chains."""
    said: dict[str, Any] = {
        "all flawed": np.ones(len(test), dtype=bool),
        "iff answer wrong": np.array([not chain.right for chain in test]),
    }
    said["rules alone"] = np.array([by_rules(chain, severe=False) for chain in test])
    said["rules or answer wrong"] = np.array([by_rules(chain, severe=True) or not chain.right for chain in test])
    fits = {}
    for name, names in sets.items():
        fits[name] = found = tuned(tune, test, names)
        for aim, bound in found["bounds"].items():
            said[f"fitted: {name}, for {aim}"] = found["told"] >= bound
    return {"said": said, "fits": fits}


def gains(test: Sequence[Chain], said: Mapping[str, Bools], rounds: int) -> list[dict[str, Any]]:
    """Of each judge over each trivial one: the gain in F1 and balanced accuracy, 95 % interval over problems."""
    flawed = np.array([chain.flawed for chain in test])
    members = defaultdict(list)
    for k, chain in enumerate(test):
        members[chain.one.problem].append(k)
    groups = [np.array(one) for one in members.values()]
    generator = np.random.default_rng(0)
    drawn = [
        np.concatenate([groups[k] for k in generator.integers(0, len(groups), len(groups))]) for _ in range(rounds)
    ]
    trivial = [name for name in said if name == "all flawed" or name.startswith("iff answer")]
    each = {name: [measures(flawed[some], one[some]) for some in drawn] for name, one in said.items()}
    whole = {name: measures(flawed, one) for name, one in said.items()}
    out = []
    for name in said:
        for other in trivial:
            for measure in ("F1", "balanced"):
                if name not in trivial:
                    rows = [one[measure] - two[measure] for one, two in zip(each[name], each[other], strict=True)]
                    low, high = np.quantile(rows, [0.025, 0.975])
                    gain = whole[name][measure] - whole[other][measure]
                    out.append({"judge": name, "over": other, "measure": measure, "gain": gain,
                                "low": float(low), "high": float(high)})  # fmt: skip
    return out


# The first wrong step.


def first_wrong(tune: Sequence[Chain], test: Sequence[Chain], sets: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Of each way to point at a step: the share of flawed held-out chains where it is the marked one; or next to it."""
    tune, test = [one for one in tune if one.flawed], [one for one in test if one.flawed]
    truth = [_wrong(chain) for chain in test]
    usual = max(range(6), key=lambda k: sum(_wrong(one) == min(k, len(one.steps) - 1) for one in tune))
    said: dict[str, list[int]] = {
        "always the first": [0] * len(test),
        "always the last": [len(one.steps) - 1 for one in test],
        "always the middle": [(len(one.steps) - 1) // 2 for one in test],
        f"always step {usual + 1} (most often on the rest)": [min(usual, len(one.steps) - 1) for one in test],
    }
    flawed = [[k for k, step in enumerate(one.steps) if step.flawed] for one in test]
    said["rules, else that step"] = [
        found[0] if found else min(usual, len(one.steps) - 1) for one, found in zip(test, flawed, strict=True)
    ]
    fits = {}
    for name, names in sets.items():
        penalty = _best_penalty(tune, names)
        fit = fit_choice(names, [_of(one, names) for one in tune], [_wrong(one) for one in tune], penalty)
        said[f"fitted: {name}"] = [int(fit.among(_of(one, names)).argmax()) for one in test]
        fits[name] = dict(zip(names, fit.weights, strict=True)) | {"penalty": penalty}
    share = {
        name: {
            "exact": float(np.mean([a == b for a, b in zip(one, truth, strict=True)])),
            "within one": float(np.mean([abs(a - b) <= 1 for a, b in zip(one, truth, strict=True)])),
        }
        for name, one in said.items()
    }
    return {"share": share, "weights": fits, "chains": len(test), "said": said, "truth": truth}


def _wrong(chain: Chain) -> int:
    assert chain.one.wrong is not None
    return chain.one.wrong


def _of(chain: Chain, names: Sequence[str]) -> Array:
    return features.matrix(chain.rows, names)


def _best_penalty(tune: Sequence[Chain], names: Sequence[str]) -> float:
    folds, loss = _folds(tune), {}
    for penalty in PENALTIES:
        loss[penalty] = 0.0
        for fold in range(FOLDS):
            kept = [one for one, at in zip(tune, folds, strict=True) if at != fold]
            fit = fit_choice(names, [_of(one, names) for one in kept], [_wrong(one) for one in kept], penalty)
            rest = [one for one, at in zip(tune, folds, strict=True) if at == fold]
            loss[penalty] -= sum(float(np.log(fit.among(_of(one, names))[_wrong(one)])) for one in rest)
    return min(loss, key=loss.__getitem__)


def answers(test: Sequence[Chain]) -> dict[str, float]:
    """The verifier's word on the answers, held against the labels."""
    known = [chain for chain in test if chain.read is not None]
    told, read = np.array([one.right for one in known]), np.array([one.read for one in known])
    found = {"answers": float(len(known)), "agree": float((told == read).mean())}
    return found | {
        "read right, told wrong": float((read & ~told).sum()),
        "read wrong, told right": float((told & ~read).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The process level against the marks of people in CHAMP.")
    parser.add_argument("--smollm2", help="folder of SmolLM2-135M-Instruct, to judge beside the rules")
    parser.add_argument("--most", type=int, default=540, help="responses that SmolLM2 judges; the others are left out")
    parser.add_argument("--rounds", type=int, default=2000, help="bootstrap rounds")
    args = parser.parse_args()
    judged = bool(args.smollm2)
    figures = {
        name: measured(chains(args.smollm2, args.most, read=name == "read"), judged, args.rounds)
        for name in ("verifier", "read")
    }
    save("champ_smollm2" if judged else "champ", figures)
    for name, one in figures.items():
        show(one, f"answers by {'the verifier' if name == 'verifier' else 'reading'}")
    plot(figures["verifier"], KEPT / ("champ_smollm2.png" if judged else "champ.png"))


def measured(every: Sequence[Chain], judged: bool, rounds: int) -> dict[str, Any]:
    """All figures: fitted on the chains that are not held out, told of those that are."""
    tune, test = ([one for one in every if one.one.held_out == out] for out in (False, True))
    chain_sets: dict[str, tuple[str, ...]] = {"answer + rules": features.CHAIN_RULES}
    chain_sets["+ writing"] = (*features.CHAIN_RULES, *features.CHAIN_WORDS)
    chain_sets["+ other responses"] = (*chain_sets["+ writing"], *features.CHAIN_OTHERS)
    chain_sets["+ author"] = (*chain_sets["+ other responses"], *features.CHAIN_AUTHOR)
    step_sets: dict[str, tuple[str, ...]] = {
        "place + rules": features.STEP_RULES,
        "+ writing": (*features.STEP_RULES, *features.STEP_WORDS),
    }
    if judged:
        chain_sets["answer + rules + SmolLM2"] = (*features.CHAIN_RULES, *features.CHAIN_JUDGE)
        chain_sets["all + SmolLM2"] = (*chain_sets["+ other responses"], *features.CHAIN_JUDGE)
        step_sets["SmolLM2 alone"] = features.STEP_JUDGE
        step_sets["all + SmolLM2"] = (*step_sets["+ writing"], *features.STEP_JUDGE)
    found = judges(tune, test, chain_sets)
    flawed = np.array([chain.flawed for chain in test])
    return {
        "chains": {"tuned on": len(tune), "held out": len(test), "flawed": int(flawed.sum())},
        "answers": answers(test),
        "answers on the rest": answers(tune),
        "flawed": {name: measures(flawed, one) for name, one in found["said"].items()},
        "gains": gains(test, found["said"], rounds),
        "chosen": min(found["fits"], key=lambda name: found["fits"][name]["loss"]),
        "losses on the rest": {name: one["loss"] for name, one in found["fits"].items()},
        "weights": {name: one["weights"] for name, one in found["fits"].items()},
        "first wrong step": {k: v for k, v in first_wrong(tune, test, step_sets).items() if k not in {"said", "truth"}},
    }


def show(figures: Mapping[str, Any], how: str) -> None:
    console = Console(width=150)
    console.rule(how)
    console.print(f"Best on the rest: {figures['chosen']} {figures['losses on the rest']}")
    console.print(f"Chains: {figures['chains']}. Answers, held out: {figures['answers']}")
    rows = [[name, *(f"{one[key]:.3f}" for key in one)] for name, one in figures["flawed"].items()]
    _table(
        console,
        "Finding flawed processes (held out)",
        ["judge", "precision", "recall", "F1", "balanced accuracy"],
        rows,
    )
    rows = [
        [one["judge"], one["over"], one["measure"], f"{one['gain']:+.3f}", f"{one['low']:+.3f} to {one['high']:+.3f}",
         "beaten" if one["low"] > 0 else "worse" if one["high"] < 0 else "not told apart"]
        for one in figures["gains"]
        if not one["judge"].startswith("fitted") or figures["chosen"] in one["judge"]
    ]  # fmt: skip
    _table(
        console, "Gain on the trivial judges (95 %, by problem)", ["judge", "over", "in", "gain", "interval", ""], rows
    )
    share = figures["first wrong step"]["share"]
    rows = [[name, f"{one['exact']:.3f}", f"{one['within one']:.3f}"] for name, one in share.items()]
    title = f"The first wrong step ({figures['first wrong step']['chains']} flawed chains)"
    _table(console, title, ["judge", "exact", "within one"], rows)


def _table(console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in {"judge", "over", "in", ""} else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """F1 and balanced accuracy of each judge beside each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(figures["flawed"])
    figure, axes = pyplot.subplots(figsize=(9, 0.35 * len(names) + 1.5), layout="constrained")
    at = np.arange(len(names))
    for shift, measure in ((-0.2, "F1"), (0.2, "balanced")):
        axes.barh(at + shift, [figures["flawed"][name][measure] for name in names], height=0.38, label=measure)
    axes.set(yticks=at, yticklabels=names, xlim=(0, 1), title="CHAMP: finding flawed processes, held-out third")
    axes.invert_yaxis()
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
