"""Traps, rearrangements and many-image talks over real captioned stamps and planted truth."""

import re
from collections import Counter, defaultdict

import pytest
from PIL import Image

from data_engine import grounding, making
from data_engine.makers import said
from data_engine.makers.many_images import ManyImages
from data_engine.makers.rearrange import Rearrange
from data_engine.makers.traps import Traps
from data_engine.making import Made, Tools, Unmade
from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Part, Sample, assistant, user
from data_engine.sources import captions
from data_engine.sources.common import image_part
from model.visual_tokens import CONTROL_TOKENS

FOLDERS = ("animals/birds", "vehicles", "food/fruit", "clothes")


@pytest.fixture(scope="module")
def tools(tmp_path_factory) -> Tools:
    folder = tmp_path_factory.mktemp("makers")
    return Tools(folder / "media")


@pytest.fixture(scope="module")
def stamps(corpora, tools) -> list[Sample]:
    root, options = corpora / "stamps", {"languages": ["en", "zh_CN"]}
    source = Source(format="captions", path=".", modality="image", task="caption", licence="GPL-2.0", options=options)
    store = MediaStore(tools.store)
    chosen = [unit for unit in captions.units(root, options) if unit.startswith(FOLDERS)]
    found = [item for unit in chosen for item in captions.read(root, unit, "stamps", source, store)]
    return [item for item in found if isinstance(item, Sample)]


def made_of(rule: making.Maker, samples: list[Sample], tools: Tools) -> tuple[list[Made], list[Unmade]]:
    found = list(rule.make(samples, tools))
    made = [item for item in found if isinstance(item, Made)]
    assert not any(token in item.sample.text for item in made for token in CONTROL_TOKENS)
    assert found == list(rule.make(samples, tools)), "the same again"
    return made, [item for item in found if isinstance(item, Unmade)]


def test_every_trap_has_a_twin_with_the_other_answer(stamps, tools) -> None:
    made, refused = made_of(Traps(), stamps, tools)
    assert len(made) == 2 * (len(stamps) - len(refused)) and len(refused) <= len(stamps) // 50
    answers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for item in made:
        answers[item.sample.parents].append(item.about["answer"])
        reply = item.sample.messages[1].text
        denies = re.match("No|没|不", reply) is not None
        assert denies == (item.about["answer"] == "no"), reply
        assert item.sample.task == "trap" and item.sample.licence == "GPL-2.0"
    assert all(sorted(found) == ["no", "yes"] for found in answers.values())
    by_language = Counter(said.language_of(item.sample.messages[0].text) for item in made)
    assert min(by_language.values()) > 100
    # Asking needs the picture: no way of asking gives the answer away.
    wordings: dict[str, Counter[str]] = defaultdict(Counter)
    for item in made:
        wordings[re.sub("“.*”", "", item.sample.messages[0].text)[:12]][item.about["answer"]] += 1
    common = [counts for counts in wordings.values() if counts.total() >= 60]
    assert common and all(0.3 < counts["yes"] / counts.total() < 0.7 for counts in common)


def test_what_is_asked_in_vain_is_of_another_category_and_shares_no_word(stamps, tools) -> None:
    """Worked out again from the folders and captions of all pictures that could be meant."""
    folders: dict[str, set[str]] = defaultdict(set)
    for sample in stamps:
        folders[said.plain(sample.messages[1].text).lower()].add(sample.origin.split("/")[0])
    truth = {sample.id: sample for sample in stamps}
    checked = 0
    for item in made_of(Traps(), stamps, tools)[0]:
        if item.about["answer"] == "no" and item.about["form"] in {"exists", "fits"}:
            parent = truth[item.sample.parents[0]]
            question, caption = item.sample.messages[0].text, parent.messages[1].text
            asked = [name for name in folders if len(name) > 1 and name in question.lower()]
            if not asked:
                continue
            checked += 1
            name = max(asked, key=len)
            assert parent.origin.split("/")[0] not in folders[name], (question, parent.origin)
            words = set(re.findall("[a-z]{3,}", name)) - {"the", "and"}
            assert not words & set(re.findall("[a-z]{3,}", caption.lower())), (question, caption)
            assert said.plain(caption).lower() in item.sample.messages[1].text.lower() or said.thing(caption)
    assert checked > 100


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("A bluebird.", "A bird.", True),
        ("A ferry.", "An old ship", True),
        ("Two cherries", "A cherry tree", True),
        ("Boxes of apples", "A box", True),
        ("A red car", "A red fox", True),
        ("一辆汽车", "火车", True),
        ("一只袋鼠", "一个苹果", False),
        ("A kangaroo", "A lemon", False),
    ],
)
def test_words_that_may_mean_one_thing(one: str, other: str, may: bool) -> None:
    assert said.may_mean_one_thing(said.content(one), said.content(other)) == may


def _captioned(caption: str, origin: str) -> Sample:
    turns = (user(image_part(), "?"), assistant(caption))
    return Sample("c", "image", "caption", turns, (Media("image", f"{len(origin):064x}.png"),), origin=origin)


def test_colours_and_numbers_are_contradicted(tools) -> None:
    planted = [_captioned("A red car.", "vehicles/a.png"), _captioned("Two bananas.", "food/bb.png")]
    planted += [_captioned("绿色的青蛙。", "animals/ccc.png"), _captioned("三只小猪。", "animals/dddd.png")]
    forms = Counter()
    for seed in range(40):
        for item in made_of(Traps(seed=seed), planted, tools)[0]:
            question, reply = (message.text for message in item.sample.messages)
            form, is_yes = item.about["form"], item.about["answer"] == "yes"
            forms[form] += 1
            if form == "colour" and "car" in question:
                assert ("red" in question) == is_yes and "red" in reply
            elif form == "colour":
                assert ("绿色" in question) == is_yes and "绿色" in reply
            elif form == "number" and "bananas" in question:
                assert ("two" in question) == is_yes and "two" in reply
            elif form == "number":
                assert ("三只" in question) == is_yes and "三" in reply
    assert forms["colour"] > 20 and forms["number"] > 20


def _grounded(key: int, name: str, count: int) -> Sample:
    boxes = [grounding.Box(10 * n, 10, 10 * n + 5, 50, grounding.Label(name)) for n in range(count)]
    turns = (user(image_part(), f"Locate every {name}."), assistant(grounding.render(boxes)))
    return Sample("c", "image", "grounding", turns, (Media("image", f"{key:064x}.png"),), origin=f"x#{key}/{name}")


def test_boxes_tell_what_is_absent_and_how_many_there_are(tools) -> None:
    planted = [_grounded(1, "dog", 3), _grounded(1, "cat", 1), _grounded(2, "chair", 2), _grounded(3, "bottle", 4)]
    there = {"1": {"dog": 3, "cat": 1}, "2": {"chair": 2}, "3": {"bottle": 4}}
    forms = Counter()
    for seed in range(30):
        for item in made_of(Traps(seed=seed), planted, tools)[0]:
            here = there[item.sample.media[0].key.lstrip("0")[0]]
            question = item.sample.messages[0].text
            name, is_yes = re.search("“(.*)”", question)[1], item.about["answer"] == "yes"
            forms[item.about["form"]] += 1
            if item.about["form"] == "marked":
                assert (name in here) == is_yes, question
            else:
                assert (int(re.search(r"\d+", question)[0]) == here[name]) == is_yes, question
                assert str(here[name]) in item.sample.messages[1].text
    assert min(forms["marked"], forms["marked_number"]) > 50


def test_texts_are_asked_for_words_that_stand_elsewhere(tools) -> None:
    texts = [
        "the quick brown fox\njumps over fences",
        "seven silver rivers\nmeet under bridges",
        "白日依山尽\n黄河入海流",
        "床前明月光\n疑是地上霜",
    ]
    planted = [
        Sample("c", "image", "ocr", (user(image_part(), "Read it." if text.isascii() else "读。"), assistant(text)),
               (Media("image", f"{number:064x}.png"),), origin=str(number))
        for number, text in enumerate(texts)
    ]  # fmt: skip
    forms = Counter()
    for seed in range(20):
        made, refused = made_of(Traps(seed=seed), planted, tools)
        assert not refused
        for item in made:
            text = texts[int(item.sample.origin.split("#")[0])]
            question, is_yes = item.sample.messages[0].text, item.about["answer"] == "yes"
            asked = re.search("“(.*)”", question)[1]
            forms[item.about["form"]] += 1
            assert (asked in text.split("\n") if item.about["form"] == "reads" else asked in text) == is_yes
            assert re.search("“(.*)”", item.sample.messages[1].text)[1] in text.split("\n")
    assert min(forms["written"], forms["reads"]) > 20


def test_what_cannot_be_trapped_is_told(tools) -> None:
    alone = _captioned("A red fox.", "animals/a.png")
    _, refused = made_of(Traps(captions=("caption",)), [_captioned("A fox.", "animals/a.png")], tools)
    assert [item.reason for item in refused] == ["nothing in this part is known to be absent from its picture"]
    film = Sample(
        "c", "video", "caption", (user(Part("video", media=(0,))), assistant("A fox.")), (Media("video", "k"),)
    )
    assert "one picture" in made_of(Traps(), [film], tools)[1][0].reason
    other = Sample("c", "image", "chat", alone.messages, alone.media)
    assert made_of(Traps(), [other], tools) == ([], []), "not of its tasks"


def test_rearranged_samples_have_caption_and_question_of_one_picture(stamps, tools) -> None:
    traps = [item.sample for item in made_of(Traps(), stamps, tools)[0]]
    made, refused = made_of(Rearrange(), [*stamps, *traps], tools)
    assert not refused and len(made) == len(traps)
    known = {sample.id: sample for sample in [*stamps, *traps]}
    orders = Counter()
    for item in made:
        question, caption = (known[parent] for parent in item.sample.parents)
        assert question.media == caption.media == item.sample.media
        assert said.language_of(question.text) == said.language_of(caption.messages[1].text)
        words, said_ = caption.messages[1].text, [(message.role, message.text) for message in item.sample.messages]
        chat = [("user", question.messages[0].text), ("assistant", question.messages[1].text)]
        orders[item.about["form"]] += 1
        first = [("document", words), *chat] if item.about["form"] == "caption_first" else [*chat, ("document", words)]
        assert said_ == first
        places = [
            at for at, message in enumerate(item.sample.messages) for part in message.parts if part.kind == "image"
        ]
        assert places == [0], "the picture is shown once, at the beginning"
    assert min(orders.values()) > len(made) / 3


def test_a_question_without_a_caption_is_told(stamps, tools) -> None:
    trap = made_of(Traps(), stamps, tools)[0][0].sample
    made, refused = made_of(Rearrange(), [trap], tools)
    assert not made and "no caption in its language" in refused[0].reason


def _answers_by_hand(question: str, shown: list[str]) -> str | None:
    """From the captions in order of the pictures alone."""
    ordinals = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
    if re.search("How many|Count the|一共|数一数", question):
        return str(len(shown))
    plain = [said.plain(caption) for caption in shown]
    named = [at for at, caption in enumerate(plain) if f"“{caption}”" in question or f": {caption}" in question]
    if named:
        at = max(named, key=lambda number: len(plain[number]))
        if re.search("after|follows|后面|下一张", question):
            return shown[at + 1]
        return f"Picture {at + 1}." if question.isascii() or "picture" in question.lower() else f"第{at + 1}张。"
    back = {
        "the last picture": 1,
        "the second to last": 2,
        "the third to last": 3,
        "最后一张": 1,
        "倒数第2": 2,
        "倒数第3": 3,
    }
    if found := [shown[-steps] for mark, steps in back.items() if mark in question]:
        return found[0]
    marks = re.findall(rf"the ({'|'.join(ordinals)}) picture|picture (\d+)|第(\d+)张图", question)
    numbers = [ordinals.index(word) if word else int(latin or han) - 1 for word, latin, han in marks]
    return "\n".join(shown[number] for number in numbers)


def test_many_images_are_answered_from_their_captions(stamps, tools) -> None:
    made, refused = made_of(ManyImages(images=(8, 16), asks=5), stamps, tools)
    used = sum(len(item.sample.media) for item in made)
    assert made and used == len(stamps) and not refused
    captions_ = {
        (sample.media[0].key, said.language_of(sample.messages[1].text)): sample.messages[1].text for sample in stamps
    }
    for item in made:
        turns = item.sample.messages
        assert 8 <= len(item.sample.media) <= 16 and len(turns) == 10
        assert [part.media for part in turns[0].parts if part.kind == "image"] == [
            (n,) for n in range(len(item.sample.media))
        ]
        language = said.language_of(turns[2].text)
        shown = [captions_[media.key, language] for media in item.sample.media]
        for question, reply in zip(turns[::2], turns[1::2], strict=True):
            asked = question.parts[-1].text
            assert reply.text == _answers_by_hand(asked, shown), (asked, shown)
        assert len({reply.text for reply in turns[1::2]}) == 5
    assert {said.language_of(item.sample.messages[2].text) for item in made} == {"en", "zh"}


def test_no_picture_is_asked_for_that_looks_like_another(stamps, tools) -> None:
    """Planted near-copies (one pixel changed) under another caption: neither is asked for where both are shown."""
    store = MediaStore(tools.store)
    copies = []
    for sample in [one for one in stamps if one.messages[1].text.isascii()][:20]:
        image = Image.open(store.path(sample.media[0].key)).convert("RGBA")
        image.putpixel((0, 0), (1, 2, 3, 255))
        path = tools.store.parent / "copy" / "copy.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        turns = (sample.messages[0], assistant("A quite unlike zzyx" + "q" * len(copies) + "."))
        copies.append(
            Sample("c", "image", "caption", turns, (Media("image", store.put_file(path)),), origin=sample.origin)
        )
    twins = {
        copy.media[0].key: original.media[0].key
        for copy, original in zip(copies, [one for one in stamps if one.messages[1].text.isascii()], strict=False)
    }
    together = 0
    for item in made_of(ManyImages(images=(60, 90), asks=8), [*stamps, *copies], tools)[0]:
        keys = [media.key for media in item.sample.media]
        pairs = [(at, keys.index(twins[key])) for at, key in enumerate(keys) if twins.get(key) in keys]
        asked = {int(number) - 1 for number in item.about["asked"].split()}
        together += len(pairs)
        assert len(asked) >= 6 and not any({*pair} & asked for pair in pairs)
    assert together >= 5


def test_pictures_that_do_not_decode_are_told(stamps, tools) -> None:
    broken = MediaStore(tools.store).put_bytes(b"no picture", ".png")
    bad = Sample("c", "image", "caption", stamps[0].messages, (Media("image", broken),), origin="x")
    few = made_of(ManyImages(images=(4, 4)), [one for one in stamps if one.messages[1].text.isascii()][:6], tools)
    assert (
        len(few[0]) == 1
        and [item.reason for item in few[1]] == ["2 pictures are left over in this part; 4 are needed"] * 2
    )
    _, refused = made_of(ManyImages(images=(4, 4)), [bad], tools)
    assert [item.reason for item in refused] == ["not an image in any known format"]


def test_the_recipes_names_build_them() -> None:
    stage = making.build({"traps": {}, "rearrange": {"forms": ["caption_first"]}, "many_images": {"images": [6, 8]}})
    assert [type(rule) for _, rule in stage] == [Traps, Rearrange, ManyImages]
    for spec in ({"many_images": {"images": [2, 8]}}, {"rearrange": {"forms": []}}, {"traps": {"level": 2}}):
        with pytest.raises(ValueError, match=r"must rise|at least 1 item|Extra inputs"):
            making.build(spec)
