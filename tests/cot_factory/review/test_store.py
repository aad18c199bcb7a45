"""Leases, fencing, overlap, adjudication and the log, on SQLite and on PostgreSQL."""

import itertools
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
import sqlalchemy as sa

from cot_factory.record import Decision, Task
from cot_factory.review import store, tables
from cot_factory.review.store import StaleError
from tests.cot_factory.review.annotators import add_people, some_tasks

LEASE = 60.0


def filled(queue: sa.Engine, number: int, overlap: int = 1, people: int = 3) -> list[str]:
    store.load(queue, some_tasks(number), overlap, 0.0)
    return add_people(queue, people)


def claimed(queue: sa.Engine, who: str, now: float, *, adjudicate: bool = False) -> store.Lease:
    held = store.claim(queue, who, now, LEASE, adjudicate=adjudicate)
    assert held is not None
    return held


def said(task: str, who: str, action: str = "accept", **fields: object) -> Decision:
    return Decision(task, who, action, **fields)  # type: ignore[arg-type]


def test_the_most_uncertain_task_comes_first_and_a_claim_is_kept(queue: sa.Engine) -> None:
    ann, bob, _ = filled(queue, 20)
    ranked = sorted(some_tasks(20), key=lambda task: -task.uncertainty)
    first, second = claimed(queue, ann, 1), claimed(queue, bob, 1)
    assert [first.task.id, second.task.id] == [task.id for task in ranked[:2]]
    again = claimed(queue, ann, 2)
    assert (again.task.id, again.token, again.since) == (first.task.id, first.token, 1)
    assert again.expires == 2 + LEASE
    assert first.task == next(task for task in some_tasks(20) if task.id == first.task.id)


def test_a_second_load_adds_only_what_is_new(queue: sa.Engine) -> None:
    assert store.load(queue, some_tasks(3), 1, 0.0) == 3
    assert store.load(queue, some_tasks(5), 1, 0.0) == 2
    assert store.progress(queue)["tasks"] == 5


def test_a_lease_that_is_over_frees_the_task_and_its_save_is_refused(queue: sa.Engine) -> None:
    ann, bob, _ = filled(queue, 1)
    old = claimed(queue, ann, 0)
    assert store.claim(queue, bob, LEASE, LEASE) is None  # to the second
    new = claimed(queue, bob, LEASE + 1)
    assert new.task.id == old.task.id
    assert new.token > old.token
    with pytest.raises(StaleError):
        store.decide(
            queue, ann, old.token, said(old.task.id, ann, "fix", steps=("mine",)), LEASE + 2, '{"steps":["mine"]}'
        )
    with pytest.raises(StaleError):
        store.beat(queue, ann, old.task.id, old.token, "", LEASE + 2, LEASE)
    store.decide(queue, bob, new.token, said(new.task.id, bob), LEASE + 3)
    assert [one.annotator for one in store.all_decisions(queue)] == [bob]


def test_the_text_of_a_refused_save_is_given_back(queue: sa.Engine) -> None:
    ann, bob, _ = filled(queue, 1)
    old = claimed(queue, ann, 0)
    new = claimed(queue, bob, LEASE + 1)
    with pytest.raises(StaleError):
        store.decide(queue, ann, old.token, said(old.task.id, ann, "fix"), LEASE + 2, '{"steps":["mine"]}')
    store.decide(queue, bob, new.token, said(new.task.id, bob, "skip"), LEASE + 3)
    back = claimed(queue, ann, LEASE + 4)
    assert back.task.id == old.task.id
    assert back.draft == '{"steps":["mine"]}'


def test_a_heartbeat_keeps_the_lease_and_the_draft(queue: sa.Engine) -> None:
    ann, bob, _ = filled(queue, 1)
    held = claimed(queue, ann, 0)
    store.beat(queue, ann, held.task.id, held.token, "draft", LEASE - 1, LEASE)
    assert store.claim(queue, bob, LEASE + 1, LEASE) is None
    assert claimed(queue, ann, LEASE + 1).draft == "draft"


def test_overlap_gives_a_task_to_so_many_different_people(queue: sa.Engine) -> None:
    names = filled(queue, 1, overlap=2)
    one, two = claimed(queue, names[0], 0), claimed(queue, names[1], 0)
    assert one.task.id == two.task.id
    assert store.claim(queue, names[2], 0, LEASE) is None
    store.decide(queue, names[0], one.token, said(one.task.id, names[0]), 1)
    assert store.claim(queue, names[0], 2, LEASE) is None  # never the same person twice
    store.decide(queue, names[1], two.token, said(two.task.id, names[1]), 3)
    assert store.progress(queue) == {"tasks": 1, "settled": 1, "contested": 0, "decisions": 2}
    assert store.claim(queue, names[2], 4, LEASE) is None


@pytest.mark.parametrize(
    ("first", "second", "became"),
    [
        ("accept", "accept", "settled"),
        ("reject", "reject", "settled"),
        ("accept", "reject", "contested"),
        ("fix", "accept", "settled"),
        ("fix", "reject", "contested"),
    ],
)
def test_those_who_differ_go_to_an_adjudicator(queue: sa.Engine, first: str, second: str, became: str) -> None:
    names = filled(queue, 1, overlap=2)
    for who, action in zip(names, (first, second), strict=False):
        held = claimed(queue, who, 0)
        steps = ("mended",) if action == "fix" else ()
        store.decide(queue, who, held.token, said(held.task.id, who, action, steps=steps), 1)
    assert store.progress(queue)[became] == 1
    assert store.claim(queue, names[0], 2, LEASE, adjudicate=True) is None  # nobody judges themselves
    if became == "contested":
        held = claimed(queue, names[2], 2, adjudicate=True)
        store.decide(queue, names[2], held.token, said(held.task.id, names[2], "reject"), 3)
        assert store.progress(queue) == {"tasks": 1, "settled": 1, "contested": 0, "decisions": 3}
        assert store.decisions_on(queue, held.task.id)[-1].adjudicated


def test_two_different_fixes_are_contested(queue: sa.Engine) -> None:
    names = filled(queue, 1, overlap=2)
    for who in names[:2]:
        held = claimed(queue, who, 0)
        store.decide(queue, who, held.token, said(held.task.id, who, "fix", steps=(f"of {who}",)), 1)
    assert store.progress(queue)["contested"] == 1


def test_two_fixes_with_different_answers_are_contested(queue: sa.Engine) -> None:
    names = filled(queue, 1, overlap=2)
    for who, answer in zip(names, ("7", "8"), strict=False):
        held = claimed(queue, who, 0)
        fix = said(held.task.id, who, "fix", steps=("the same",), answer=answer)
        store.decide(queue, who, held.token, fix, 1)
    assert store.progress(queue)["contested"] == 1


def test_one_persons_tabs_do_not_wait_for_each_other_for_ever(queue: sa.Engine) -> None:
    """Claims, heartbeats and decisions of one person at once, while leases of others run out: none fails but by a lease
    that is gone, and no task is decided on twice.
    """
    names = filled(queue, 30, people=2)

    def tab(seed: int) -> int:
        draw, done = random.Random(seed), 0
        for at in range(25):
            who, now = draw.choice(names), float(at * 50)
            held = store.claim(queue, who, now, LEASE)
            if held is None:
                break
            try:
                store.beat(queue, who, held.task.id, held.token, "draft", now, LEASE)
                store.decide(queue, who, held.token, said(held.task.id, who), now)
                done += 1
            except StaleError:
                continue
        return done

    with ThreadPoolExecutor(6) as threads:
        done = sum(threads.map(tab, range(6)))
    assert done == len(store.all_decisions(queue)) == len({one.task for one in store.all_decisions(queue)}) == 30


def test_an_escalation_goes_to_one_adjudicator_at_a_time(queue: sa.Engine) -> None:
    names = filled(queue, 1, overlap=3)
    held = claimed(queue, names[0], 0)
    store.decide(queue, names[0], held.token, said(held.task.id, names[0], "escalate", why="unclear"), 1)
    assert store.claim(queue, names[1], 2, LEASE) is None  # out of the others' hands
    taken = claimed(queue, names[1], 2, adjudicate=True)
    assert store.claim(queue, names[2], 3, LEASE, adjudicate=True) is None
    assert claimed(queue, names[2], 3 + LEASE, adjudicate=True).task.id == taken.task.id  # the first one's time is over


def test_a_skipped_task_is_for_others(queue: sa.Engine) -> None:
    ann, bob, _ = filled(queue, 1)
    held = claimed(queue, ann, 0)
    store.decide(queue, ann, held.token, said(held.task.id, ann, "skip"), 1)
    assert store.claim(queue, ann, 2, LEASE) is None
    assert claimed(queue, bob, 2).task.id == held.task.id
    assert store.all_decisions(queue) == []


def test_controls_are_counted_for_whoever_meets_them(queue: sa.Engine) -> None:
    (ann,) = add_people(queue, 1)
    tasks = [replace(task, gold="reject" if at else "accept") for at, task in enumerate(some_tasks(2))]
    store.load(queue, tasks, 1, 0.0)
    for _ in tasks:
        held = claimed(queue, ann, 0)
        store.decide(queue, ann, held.token, said(held.task.id, ann), 30)
    with queue.connect() as db:
        row = db.execute(sa.select(tables.users)).one()
    assert (row.decided, row.gold_seen, row.gold_right, row.seconds) == (2, 2, 1, 60)


def test_the_log_can_only_grow(queue: sa.Engine) -> None:
    ann, *_ = filled(queue, 1)
    held = claimed(queue, ann, 0)
    store.decide(queue, ann, held.token, said(held.task.id, ann), 1)
    for statement in (sa.delete(tables.log), sa.update(tables.log).values(user="nobody")):
        with pytest.raises(sa.exc.DatabaseError, match="append-only"), tables.writing(queue) as db:
            db.execute(statement)
    with queue.connect() as db:
        actions = list(db.scalars(sa.select(tables.log.c.action).order_by(tables.log.c.id)))
    assert actions[-2:] == ["claim", "accept"]


@pytest.mark.parametrize("overlap", [1, 3])
def test_many_at_once_never_share_a_slot(queue: sa.Engine, overlap: int) -> None:
    names = filled(queue, 12, overlap=overlap, people=8)

    def work(who: str) -> list[str]:
        done = []
        while (held := store.claim(queue, who, 1.0, LEASE)) is not None:
            store.decide(queue, who, held.token, said(held.task.id, who), 2.0)
            done.append(held.task.id)
        return done

    with ThreadPoolExecutor(len(names)) as threads:
        done = list(threads.map(work, names))
    assert all(len(set(mine)) == len(mine) for mine in done)
    assert Counter(itertools.chain.from_iterable(done)) == {task.id: overlap for task in some_tasks(12)}
    assert store.progress(queue)["settled"] == 12


@dataclass
class Model:
    """The same queue as one would write it without a database: who holds, decided on or skipped what."""

    tasks: dict[str, Task]
    overlap: int
    held: dict[str, tuple[str, float]] = field(default_factory=dict)  # person -> (task, expires)
    decided: dict[str, set[str]] = field(default_factory=dict)
    met: set[tuple[str, str]] = field(default_factory=set)

    def claim(self, who: str, now: float) -> str | None:
        self.held = {one: (task, expires) for one, (task, expires) in self.held.items() if expires >= now}
        if who not in self.held:
            free = [name for name in self.tasks if self._free(name) > 0 and (who, name) not in self.met]
            if not free:
                return None
            self.held[who] = (max(free, key=lambda name: (self.tasks[name].uncertainty, -int(name[5:]))), 0)
        self.held[who] = (self.held[who][0], now + LEASE)
        return self.held[who][0]

    def _free(self, name: str) -> int:
        return self.overlap - len(self.decided.get(name, ())) - sum(task == name for task, _ in self.held.values())

    def decide(self, who: str, action: str) -> None:
        name, _ = self.held.pop(who)
        self.met.add((who, name))
        if action == "accept":
            self.decided.setdefault(name, set()).add(who)


@pytest.mark.parametrize("seed", range(6))
def test_any_course_of_events_is_that_of_the_model(queue: sa.Engine, seed: int) -> None:
    draw = random.Random(seed)
    overlap = draw.choice([1, 2, 3])
    names = filled(queue, 7, overlap=overlap, people=4)
    model, tokens, now = Model({task.id: task for task in some_tasks(7)}, overlap), dict[str, tuple[str, int]](), 0.0
    for _ in range(120):
        now += draw.choice([0.0, 1.0, 20.0, LEASE + 1])
        who = draw.choice(names)
        if draw.random() < 0.5 or who not in tokens:
            held = store.claim(queue, who, now, LEASE)
            assert (held and held.task.id) == model.claim(who, now)
            if held:
                tokens[who] = held.task.id, held.token
            continue
        name, token = tokens.pop(who)
        action = draw.choice(["accept", "skip"])
        if who in model.held and model.held[who][0] == name:
            store.decide(queue, who, token, said(name, who, action), now)
            model.decide(who, action)
        else:
            with pytest.raises(StaleError):
                store.decide(queue, who, token, said(name, who, action), now)
    assert {(one.task, one.annotator) for one in store.all_decisions(queue)} == {
        (name, who) for name, people in model.decided.items() for who in people
    }
