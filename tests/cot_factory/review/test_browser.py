"""The review pages in Debian's Chromium: two people at once, leases that end, a server that is killed, hostile text."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, sync_playwright

from cot_factory.record import Box, Finding, Shown, Span, Step, Task
from cot_factory.review import store
from cot_factory.review.tables import connect, leases, writing
from data_engine.media import MediaStore
from tests import films
from tests.cot_factory.review.annotators import PASSWORD, add_people, free_port, serving, some_tasks, write_queue


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("Chromium is not there; apt-get install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


def queue_of(folder: Path, tasks: list[Task], people: int = 2) -> tuple[sa.Engine, list[str]]:
    write_queue(folder, tasks)
    engine = connect(f"sqlite:///{folder}/review/queue.sqlite")
    return engine, add_people(engine, people)


def signed_in(browser: Browser, address: str, name: str) -> Page:
    page = browser.new_context().new_page()
    page.set_default_timeout(20_000)
    page.goto(address)
    page.fill("[name=name]", name)
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("#task, .narrow")
    return page


def shown_task(page: Page) -> str:
    return page.get_attribute("#task", "data-task") or ""


def until_decided(page: Page, act: str) -> None:
    """Presses a key that decides, and waits for the next page."""
    with page.expect_navigation():
        page.keyboard.press(act)


def test_two_people_work_by_keyboard_and_never_meet(browser: Browser, tmp_path: Path) -> None:
    engine, names = queue_of(tmp_path, some_tasks(4))
    with serving(tmp_path) as (address, _):
        ann, bob = (signed_in(browser, address, name) for name in names)
        assert shown_task(ann) != shown_task(bob)
        assert ann.locator("math").count() >= 2  # formulas are drawn
        first = shown_task(ann)
        ann.keyboard.press("e")
        ann.keyboard.press("End")
        ann.keyboard.type(" Indeed $x^2$.")
        ann.wait_for_selector(".preview math")
        ann.keyboard.press("Escape")
        ann.keyboard.press("j")
        ann.keyboard.press("d")
        ann.keyboard.press("n")
        ann.keyboard.type("2. The sum is right. So we are done.")
        ann.keyboard.press("Escape")
        ann.keyboard.press("s")
        ann.keyboard.press("k")
        ann.keyboard.press("m")
        until_decided(ann, "f")
        until_decided(bob, "a")
        ann.keyboard.press("r")
        ann.keyboard.type("it is wrong")
        until_decided(ann, "Enter")
        until_decided(bob, "a")
        ann.wait_for_selector("text=Nothing left for you")
        ann.goto(f"{address}/me")
        assert "fix" in ann.inner_text("table")
    decisions = {one.task: one for one in store.all_decisions(engine)}
    assert len(decisions) == 4
    number = int(first[5:])
    mended = (f"1. We add $7 + {number}$. Indeed $x^2$.", "2. The sum is right. So we are done.")
    assert decisions[first].action == "fix"
    assert decisions[first].steps == mended
    rejected = next(one for one in decisions.values() if one.action == "reject")
    assert (rejected.annotator, rejected.why) == (names[0], "it is wrong")


def test_undo_brings_everything_back_and_nothing_changed_is_no_fix(browser: Browser, tmp_path: Path) -> None:
    _, names = queue_of(tmp_path, some_tasks(1), 1)
    with serving(tmp_path) as (address, _):
        page = signed_in(browser, address, names[0])
        before = page.inner_text("#steps .shown >> nth=0"), page.locator("#steps .step").count()
        for key in ("s", "d", "m", "d"):
            page.keyboard.press(key)
        page.keyboard.press("a")
        page.wait_for_selector("text=You changed the chain")
        for _ in range(4):
            page.keyboard.press("u")
        page.wait_for_selector("#steps .step >> nth=0 >> math")
        assert (page.inner_text("#steps .shown >> nth=0"), page.locator("#steps .step").count()) == before
        page.keyboard.press("f")
        page.wait_for_selector("text=Nothing is changed")
        until_decided(page, "a")


def test_a_lease_that_ends_in_mid_edit_costs_no_text(browser: Browser, tmp_path: Path) -> None:
    engine, names = queue_of(tmp_path, some_tasks(1))
    with serving(tmp_path) as (address, _):
        ann = signed_in(browser, address, names[0])
        ann.keyboard.press("e")
        ann.keyboard.type("My own words. ")
        with writing(engine) as db:  # the laptop was closed for an hour
            db.execute(sa.update(leases).values(expires=0.0))
        bob = signed_in(browser, address, names[1])
        assert shown_task(bob) == shown_task(ann)
        ann.keyboard.press("Escape")
        ann.keyboard.press("f")
        ann.wait_for_selector("#stale:not([hidden])")
        assert "with somebody else" in ann.inner_text("#stale")
        assert "My own words." in ann.inner_text("#steps")
        assert store.all_decisions(engine) == []
        bob.keyboard.press("x")
        bob.wait_for_selector("text=Nothing left for you")
        ann.goto(address)  # and it is hers again, with what she wrote
        assert "My own words." in ann.inner_text("#steps")
        until_decided(ann, "f")
    (kept,) = store.all_decisions(engine)
    assert "My own words." in kept.steps[0]


def test_a_server_killed_in_mid_edit_and_started_again_loses_nothing(browser: Browser, tmp_path: Path) -> None:
    engine, names = queue_of(tmp_path, some_tasks(2), 1)
    port = free_port()
    with serving(tmp_path, port=port) as (address, server):
        page = signed_in(browser, address, names[0])
        until_decided(page, "a")
        page.keyboard.press("e")
        page.keyboard.press("Home")
        page.keyboard.type("Before. ")
        page.keyboard.press("Escape")
        server.kill()
        server.wait()
        page.keyboard.press("f")
        page.wait_for_selector("text=The server does not answer")
        assert "Before." in page.inner_text("#steps")
    with serving(tmp_path, port=port):
        until_decided(page, "f")
        page.wait_for_selector("text=Nothing left for you")
    first, second = store.all_decisions(engine)
    assert first.action == "accept"
    assert second.steps[0].startswith("Before. ")


HOSTILE = (
    "<script>window.hit=1</script>",
    "<img src=x onerror='window.hit=2'>",
    "$\\text{<script>window.hit=3</script>}$",
    "$\\href{javascript:window.hit=4}{x}$",
    '"><svg onload=window.hit=5>',
    "{{ 7*7 }}",
    "$$\\begin{matrix}<b onclick=window.hit=6>\\end{matrix}$$",
)


def test_what_a_model_wrote_runs_nowhere(browser: Browser, tmp_path: Path) -> None:
    text = " ".join(HOSTILE)
    finding = Finding("facts", False, text)
    task = Task(
        id="hostile", domain=text, question=text, reference=text, answer=text, steps=(Step(text, 0.5, (finding,)),),
        original=("before",), media=(Shown("image", "0" * 64 + ".png", boxes=(Box((0, 0, 1, 1), text),)),), reason=text,
    )  # fmt: skip
    _, names = queue_of(tmp_path, [task], 1)
    with serving(tmp_path) as (address, _):
        page = signed_in(browser, address, names[0])
        page.keyboard.press("e")
        page.keyboard.type("$\\text{<img src=x onerror=window.hit=7>}$ ")
        page.wait_for_selector(".preview:text('onerror')")
        page.keyboard.press("Escape")
        page.keyboard.press("s")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.hit") is None
        assert (
            page.locator("main script, main [onerror], main [onload], main [onclick], main [href^=javascript]").count()
            == 0
        )
        assert page.inner_text("h2:text('Question') + .words").startswith("<script>window.hit=1</script>")
        assert "{{ 7*7 }}" in page.inner_text("#steps")
        page.evaluate("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror='window.hit=8'>`)")
        page.wait_for_timeout(200)  # the policy holds even where escaping would fail
        assert page.evaluate("window.hit") is None


def test_pictures_films_boxes_and_spans_are_shown(browser: Browser, tmp_path: Path) -> None:
    media = MediaStore(tmp_path / "media")
    film = media.put_file(films.film())
    picture = media.put_bytes(_png(), ".png")
    shown = (
        Shown("image", picture, boxes=(Box((8, 4, 24, 20), "the square"),)),
        Shown("video", film, spans=(Span(0.2, 0.6, "it moves"),)),
    )
    _, names = queue_of(tmp_path, [replace(some_tasks(1)[0], media=shown)], 1)
    with serving(tmp_path) as (address, _):
        page = signed_in(browser, address, names[0])
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.querySelector('.picture img').naturalWidth") == 32
        image, box = (page.locator(f".picture {what}").bounding_box() for what in ("img", "rect"))
        assert image
        assert box
        scale = image["width"] / 32
        assert abs(box["x"] - image["x"] - 8 * scale) < 4
        assert abs(box["width"] - 16 * scale) < 8
        page.click("text=it moves 0.2–0.6 s")
        assert page.evaluate("document.querySelector('video').currentTime") >= 0.2
        assert page.evaluate("document.querySelector('video').duration") > 200


def _png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "white").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_tablet_in_the_dark_can_be_used_by_finger(browser: Browser, tmp_path: Path) -> None:
    _, names = queue_of(tmp_path, some_tasks(1), 1)
    with serving(tmp_path) as (address, _):
        cookie = signed_in(browser, address, names[0]).context.cookies()
        context = browser.new_context(viewport={"width": 800, "height": 1100}, color_scheme="dark", has_touch=True)
        context.add_cookies(cookie)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(address)
        sizes = page.eval_on_selector_all(
            "button:not([hidden])", "all => all.map(one => one.getBoundingClientRect().height)"
        )
        assert min(size for size in sizes if size) >= 44
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert sum(json.loads(background.replace("rgb(", "[").replace(")", "]"))) < 200
        page.tap("text=Delete")
        page.tap("text=Save fix")
        page.wait_for_selector("text=Nothing left for you")
