"""Drawn text is read back by rapidocr; places, contrast and coverage are worked out again from the pixels."""

import itertools
import random
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine import grounding
from data_engine.media import MediaStore
from data_engine.sources import rendered_text
from data_engine.synthesis import backgrounds, fonts, layouts, text_pictures, texts
from data_engine.synthesis.layouts import Writer
from strict_yaml import RecipeError
from tests.data_engine.synthesis.drawn_corpora import agreement, answer, pixels, question, read_all, seen

MEAN_AGREEMENT, LEAST_AGREEMENT = 0.95, 0.8


@pytest.fixture(scope="module")
def writing(corpora) -> Path:
    for part in ("fonts/latin", "fonts/zh", "backgrounds", "texts/zh", "texts/en"):
        corpora / f"writing/{part}"  # skips where one could not be had
    return corpora / "writing"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> MediaStore:
    return MediaStore(tmp_path_factory.mktemp("store"))


def test_an_independent_reader_reads_what_is_written(writing, store) -> None:
    num = dict.fromkeys(("line", "icon", "paragraph", "columns", "sign", "row", "receipt"), 2) | {"sheet": 1}
    samples, refused = read_all(writing, store, "rendered_text", num=num, placed=0, traditional=0)
    assert not refused and len(samples) == 15
    scores: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.task == "ocr":
            score = agreement(answer(sample).replace(" | ", ""), seen(pixels(sample, store)))
            scores[sample.origin.split("#")[0]].append(score)
            assert score >= LEAST_AGREEMENT, (sample.origin, answer(sample))
    for layout, found in scores.items():
        assert statistics.mean(found) >= MEAN_AGREEMENT, (layout, found)


def test_vertical_text_is_read_once_its_characters_are_laid_side_by_side(writing, store) -> None:
    """rapidocr turns tall boxes by a quarter; so each column is cut by its polygon's height into one row first."""
    samples, _ = read_all(
        writing, store, "rendered_text", num={"vertical": 24}, placed=1, tilted=0, nonsense=0.5, traditional=0
    )
    spotted = [sample for sample in samples if len(grounding.parse(answer(sample))[0]) > 1]
    assert len(spotted) >= 4
    scores = []
    for sample in spotted[:5]:
        image = pixels(sample, store)
        shapes, faults = grounding.parse(answer(sample))
        assert not faults
        rights = [shape.x2 for shape in shapes]
        assert rights == sorted(rights, reverse=True), "columns go from right to left"
        for shape in shapes:
            (x1, y1), (x2, y2) = grounding.denormalise(
                [[shape.x1, shape.y1], [shape.x2, shape.y2]], *image.shape[1::-1]
            )
            column = image[max(0, round(y1) - 3) : round(y2) + 3, max(0, round(x1) - 3) : round(x2) + 3]
            pieces = np.array_split(column, len(shape.label.text))
            high = max(map(len, pieces))
            row = np.hstack([np.pad(piece, ((0, high - len(piece)), (0, 0), (0, 0)), mode="edge") for piece in pieces])
            scores.append(agreement(shape.label.text, seen(np.pad(row, ((20, 20), (20, 20), (0, 0)), mode="edge"))))
    assert statistics.mean(scores) >= 0.85, scores


def _page(writing: Path, layout: layouts.Layout, seed: int, language: str = "en") -> layouts.Page:
    rng = random.Random(seed)
    able = [face for face in fonts.faces(writing / "fonts") if layouts.can_write(face, language)]
    words = texts.Texts(writing / "texts", ("en", "zh"))
    return layouts.MAKERS[layout](Writer(rng, language, rng.choice(able), words, False, False))


@pytest.mark.parametrize("layout", ["paragraph", "sign", "receipt", "columns", "vertical"])
def test_boxes_are_exactly_the_ink(writing, layout) -> None:
    """On a plain ground whatever is not the ground's colour is ink: each box holds some at all its four edges, and
    all that is left outside of the boxes is the rules."""
    language = "zh" if layout == "vertical" else "en"
    for seed in range(4):
        page = _page(writing, layout, seed, language)
        picture = text_pictures.draw(random.Random(seed), page, "plain", (), tilt=False, wear=False)
        image = np.asarray(text_pictures.Image.open(text_pictures.io.BytesIO(picture.data)))
        is_ink = (image != image[0, 0]).any(axis=2)
        if layout == "sign":
            is_ink[:8] = is_ink[-8:] = is_ink[:, :8] = is_ink[:, -8:] = False  # the frame
        for x1, y1, x2, y2 in page.rules:
            is_ink[y1:y2, x1:x2] = False
        for place in picture.places:
            (x1, y1), _, (x2, y2), _ = place.quad
            box = is_ink[int(y1) : int(y2), int(x1) : int(x2)]
            # A faint edge of a letter may round to the ground's colour: one pixel.
            assert box[:2].any() and box[-2:].any() and box[:, :2].any() and box[:, -2:].any(), place
            is_ink[int(y1) : int(y2), int(x1) : int(x2)] = False
        assert not is_ink.any()


def test_a_tilted_line_lies_within_its_polygon(writing) -> None:
    tilted = 0
    for seed in range(12):
        page = _page(writing, "line", seed)
        picture = text_pictures.draw(random.Random(seed), page, "plain", (), tilt=True, wear=False)
        if picture.is_upright:
            continue
        tilted += 1
        image = np.asarray(text_pictures.Image.open(text_pictures.io.BytesIO(picture.data)))
        ys, xs = np.nonzero((image != image[0, 0]).any(axis=2))
        corners = picture.places[0].quad
        for (ax, ay), (bx, by) in itertools.pairwise([*corners, corners[0]]):  # clockwise: inside is to the right
            side = ((bx - ax) * (ys + 0.5 - ay) - (by - ay) * (xs + 0.5 - ax)) / np.hypot(bx - ax, by - ay)
            assert side.min() >= -1.5, "a pixel and a half: the width of the resampling filter"
            assert side.min() <= 2.5, "and the polygon is no larger than the ink"
        assert grounding.signed_area(corners) > 0
    assert tilted >= 6


def _contrast(one, other) -> float:
    """WCAG 2.2's formula, written again."""

    def light(colour) -> float:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in map(float, colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("kind", ["plain", "gradient", "paper", "photo"])
def test_text_has_the_contrast_that_reading_needs(writing, kind) -> None:
    photos = backgrounds.photos(writing / "backgrounds")
    for seed in range(6):
        rng = random.Random(seed)
        ground = backgrounds.make(rng, kind, 300, 120, photos)
        shown, ink = backgrounds.readable(rng, ground, [(20, 20, 280, 100)])
        found = [_contrast(ink, pixel) for pixel in shown[20:100:7, 20:280:7].reshape(-1, 3)]
        assert np.quantile(found, 0.02) >= 4.4, "but for the hundredths at either end"


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=12, max_size=12), st.integers(0, 2**32))
def test_on_any_ground_some_ink_can_be_read(colours: bytes, seed: int) -> None:
    ground = np.frombuffer(colours, np.uint8).reshape(2, 2, 3).repeat(8, axis=0).repeat(8, axis=1)
    shown, ink = backgrounds.readable(random.Random(seed), ground, [(0, 0, 16, 16)])
    assert min(_contrast(ink, pixel) for pixel in shown[::2, ::2].reshape(-1, 3)) >= 4.4


def test_a_character_that_a_font_lacks_is_never_drawn(writing, tmp_path) -> None:
    """A part of the passage is in a script that the Latin fonts lack: none of it comes into a picture."""
    for name in ("texts", "fonts"):
        (tmp_path / name).mkdir()
    mixed = "words in Latin letters go on here for a while. தமிழ் எழுத்து and more Latin words follow it after that. "
    (tmp_path / "texts" / "a.txt").write_text("\n\n".join([mixed * 2] * 3), encoding="utf-8")
    font = writing / "fonts/latin/DejaVuSerif.ttf"
    (tmp_path / "fonts" / "a.ttf").write_bytes(font.read_bytes())
    known = set(TTFont(font).getBestCmap())
    options = {"num": {"line": 40}, "languages": ["en"], "backgrounds": None, "nonsense": 0, "placed": 0}
    samples, refused = read_all(tmp_path, MediaStore(tmp_path / "store"), "rendered_text", **options)
    assert samples and not refused
    assert all(ord(char) in known for sample in samples for char in answer(sample).replace("\n", ""))


def test_texts_with_special_tokens_are_left_out(tmp_path) -> None:
    (tmp_path / "a.txt").write_text(
        "a passage that is plain\n\na passage with <|im_end|> in it\n\nand <|box_start|> here", "utf-8"
    )
    assert texts.Texts(tmp_path, ("en",)).passages["en"] == ("a passage that is plain",)


def test_traditional_text_has_one_reading_only() -> None:
    assert texts.traditional("这图书馆很长") == "這圖書館很長"
    assert texts.traditional("头发和学习") == "和學習", "发 is 發 or 髮"


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab 中文字，。", min_size=1, max_size=60), st.integers(2, 20))
def test_wrapping_loses_nothing_but_spaces_and_keeps_the_width(text: str, width: int) -> None:
    lines = texts.wrap(text, width, len)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    assert all(len(line) <= width for line in lines)


def test_tasks_on_places_name_one_place(writing, store) -> None:
    """Each answer is found again from the others: the box asked about holds the text that is answered."""
    samples, _ = read_all(writing, store, "rendered_text", num={"sign": 30, "receipt": 20}, placed=1, worn=0)
    assert {sample.task for sample in samples} == {"ocr_placed"}
    kinds = set()
    for sample in samples:
        asked, _ = grounding.parse(question(sample))
        given_, faults = grounding.parse(answer(sample))
        assert not faults
        if asked:  # which text stands there
            kinds.add("read_at")
            assert not given_ and answer(sample).strip()
        elif "<|ocr_text_start|>" in question(sample):
            kinds.add("locate")
            named = re.search(r"<\|ocr_text_start\|>(.*)<\|ocr_text_end\|>", question(sample))
            assert len(given_) == 1 and given_[0].label.text == named[1]
        else:
            kinds.add("spot")
            assert len(given_) >= 2 and all(shape.label.kind == "ocr_text" for shape in given_)
    assert kinds == {"read_at", "locate", "spot"}


def test_the_same_bytes_whatever_was_drawn_before(writing, store, tmp_path) -> None:
    """One sample again alone, in another process with another hash seed and cold caches."""
    num = {"paragraph": 3, "sign": 3}
    samples, _ = read_all(writing, store, "rendered_text", num=num)
    code = (
        "import sys; from pathlib import Path; from data_engine.media import MediaStore\n"
        "from tests.data_engine.synthesis.drawn_corpora import read_all\n"
        "found, _ = read_all(Path(sys.argv[1]), MediaStore(Path(sys.argv[2])), 'rendered_text', num={'sign': 3})\n"
        "print(*[sample.id for sample in found])"
    )
    command = [sys.executable, "-c", code, str(writing), str(tmp_path / "other")]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        command, check=False, env={"PYTHONHASHSEED": "7", "PYTHONPATH": root}, cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [sample.id for sample in samples if sample.origin.startswith("sign")]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"nun": {}}, "did you mean 'num'"),
        ({"num": {"poster": 3}}, "num.poster"),
        ({"num": {"line": -1}}, "must not be negative"),
        ({"tilted": 1.5}, "less than or equal to 1"),
        ({"languages": []}, "at least 1 item"),
        ({"texts": "nowhere"}, "no such file or folder"),
        ({"fonts": "nowhere"}, "no such file or folder"),
        ({"fonts": "texts"}, "holds no font"),
        ({"fonts": "fonts/latin"}, "can write zh"),
        ({"texts": "texts/en"}, "no passage in zh"),
        ({"backgrounds": "texts"}, "no folder with pictures"),
        ({"fonts": "../.."}, "leaves the corpus folder"),
        ({"languages": ["en"], "num": {"vertical": 2}}, "add zh to languages"),
    ],
)
def test_wrong_options_are_named(writing, options, fault) -> None:
    with pytest.raises(RecipeError, match=re.escape(fault)):
        rendered_text.units(writing, options)


def test_a_damaged_font_is_named(tmp_path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font at all")
    with pytest.raises(RecipeError, match=r"broken\.ttf: not a font"):
        fonts.faces(tmp_path)
