"""The thirteen classes are read again by a reader that knows only the picture's boxes and the instruction's words."""

import io
import random
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_engine import ingest
from data_engine.media import MediaStore
from data_engine.sources import character_matrix
from data_engine.synthesis import fonts, matrix_pictures
from data_engine.synthesis.character_matrix import READINGS, ask
from data_engine.synthesis.matrix_pictures import NOISES, Fonts
from data_engine.synthesis.texts import Texts
from strict_yaml import RecipeError
from tests.data_engine.synthesis.drawn_corpora import agreement, answer, pixels, read_all, seen


@pytest.fixture(scope="module")
def writing(corpora) -> Path:
    for part in ("fonts/latin", "fonts/zh", "fonts/emoji", "texts/zh", "texts/en"):
        corpora / f"writing/{part}"
    return corpora / "writing"


@pytest.fixture(scope="module")
def have(writing) -> Fonts:
    return Fonts(fonts.faces(writing / "fonts"))


def _number(pattern: str, text: str, count: int) -> int:
    """The row or column, from 0, that a phrase names, from whichever side it counts."""
    found = re.search(pattern, text)
    assert found, text
    number = int(re.search(r"\d+", found[0])[0])
    from_end = any(mark in found[0] for mark in ("倒数", "从下往上", "从右往左", "from the bottom", "from the right"))
    return count - number if from_end else number - 1


ROW = r"(?:倒数|从上往下数|从下往上数)?第\d+行|row \d+(?: from the (?:top|bottom))?"
COLUMN = r"(?:倒数|从左往右数|从右往左数)?第\d+列|column \d+(?: from the (?:left|right))?"
WAYS = {
    "从左到右": "→", "从右到左": "←", "从上到下": "↓", "从下到上": "↑",
    "from left to right": "→", "from right to left": "←", "from top to bottom": "↓", "from bottom to top": "↑",
}  # fmt: skip
TOWARDS = {
    "向右": "→", "向左": "←", "向下": "↓", "向上": "↑",
    "to the right": "→", "to the left": "←", "downwards": "↓", "upwards": "↑",
}  # fmt: skip


def _positions(boxes) -> dict[tuple[int, int], tuple[int, int]]:
    """From where things stand to row and column: centres of boxes, clustered along each axis."""
    flat = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box) for row in boxes for box in row]
    random.Random(1).shuffle(flat)

    def ranks(values: list[float]) -> dict[float, int]:
        found, rank, last = {}, -1, None
        for value in sorted(values):
            rank += last is None or value - last > 12
            found[value], last = rank, value
        return found

    xs, ys = ranks([x for x, _, _ in flat]), ranks([y for _, y, _ in flat])
    return {(ys[y], xs[x]): box for x, y, box in flat}


def _read(question: str, grid: list[list[str]]) -> str:  # noqa: PLR0911 - a case a class
    """The answer by the instruction's words alone, with indices written out (no code of the generator)."""
    rows, columns = len(grid), len(grid[0])
    if re.search("蛇形|之|snake|odd rows", question):
        return "".join("".join(row if at % 2 == 0 else row[::-1]) for at, row in enumerate(grid))
    if re.search("古书|从右往左逐列|old Chinese|rightmost first", question):
        return "".join(grid[r][c] for c in range(columns - 1, -1, -1) for r in range(rows))
    if quoted := re.search("“(.)”", question):
        r, c = next((r, c) for r in range(rows) for c in range(columns) if grid[r][c] == quoted[1])
        return f"第{r + 1}行第{c + 1}列" if re.search("[第行列]", question) else f"row {r + 1}, column {c + 1}"
    ways = [WAYS[way] for way in re.findall("|".join(WAYS), question)]
    if ways and re.search(ROW, question) and re.search(COLUMN, question):
        row = grid[_number(ROW, question, rows)]
        column = [line[_number(COLUMN, question, columns)] for line in grid]
        return "".join(row if ways[0] == "→" else row[::-1]) + "".join(column if ways[1] == "↓" else column[::-1])
    if ways and re.search(ROW, question):
        row = grid[_number(ROW, question, rows)]
        return "".join(row if ways == ["→"] else row[::-1])
    if ways:
        column = [line[_number(COLUMN, question, columns)] for line in grid]
        return "".join(column if ways == ["↓"] else column[::-1])
    r, c = _number(ROW, question, rows), _number(COLUMN, question, columns)
    counts = re.search(r"(\d+)个字符|(\d+) characters", question)
    if not counts:
        return grid[r][c]
    length = int(counts[1] or counts[2])
    way = TOWARDS[re.search("|".join(TOWARDS), question)[0]]
    down, right = {"→": (0, 1), "←": (0, -1), "↓": (1, 0), "↑": (-1, 0)}[way]
    assert 0 <= r + down * (length - 1) < rows and 0 <= c + right * (length - 1) < columns
    return "".join(grid[r + down * at][c + right * at] for at in range(length))


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_class_is_what_a_reader_of_the_picture_finds(writing, have, reading, language) -> None:
    words = Texts(writing / "texts", ("zh",))
    for seed in range(25):
        rng = random.Random(f"{reading}{seed}")
        size = rng.randint(2, 7), rng.randint(2, 7)
        filling = rng.choice(("common", "passage", "letters"))
        matrix = matrix_pictures.fill(rng, size, filling, words, (0.2, NOISES), have)
        try:
            asked = ask(rng, reading, matrix, language)
        except ValueError:
            assert reading == "place"
            continue
        sheet = matrix_pictures.draw(rng, matrix, have)
        boxes = _positions(sheet.boxes)
        assert sorted(boxes) == [(row, column) for row in range(size[0]) for column in range(size[1])]
        drawn = {box: matrix[row][column] for row, line in enumerate(sheet.boxes) for column, box in enumerate(line)}
        grid = [[drawn[boxes[row, column]] for column in range(size[1])] for row in range(size[0])]
        assert asked.answer == _read(asked.question, grid), asked


def test_thirteen_classes_each_with_its_own_instruction(writing, tmp_path) -> None:
    store = MediaStore(tmp_path)
    samples, refused = read_all(
        writing, store, "character_matrix", num=dict.fromkeys(READINGS, 2), languages=["zh", "en"]
    )
    assert not refused and len(samples) == 26 and len(READINGS) == 13
    assert {"character_matrix", "rendered_documents", "rendered_text"} <= set(ingest.FORMATS)
    assert len({sample.origin.split("#")[0] for sample in samples}) == 13
    again, _ = read_all(
        writing, MediaStore(tmp_path / "again"), "character_matrix", num={"place": 2}, languages=["zh", "en"]
    )
    assert {sample.id for sample in again} <= {sample.id for sample in samples}


def test_rapidocr_reads_the_rows_that_are_drawn(writing, have) -> None:
    words = Texts(writing / "texts", ("zh",))
    scores = []
    for seed in range(4):
        rng = random.Random(seed)
        matrix = matrix_pictures.fill(rng, (4, 7), rng.choice(("common", "passage", "digits")), words, (0.0, ()), have)
        sheet = matrix_pictures.draw(rng, matrix, have)
        image = np.asarray(Image.open(io.BytesIO(sheet.data)).convert("RGB"))
        scores.append(agreement("".join(map("".join, matrix)), seen(image)))
    assert statistics.mean(scores) >= 0.9, scores


def test_all_kinds_of_noise_are_drawn_where_the_fonts_have_them(writing, have) -> None:
    words = Texts(writing / "texts", ("zh",))
    for kind in NOISES:
        pool = matrix_pictures.pool(kind)
        assert len(set(pool)) == len(pool) > 7
        matrix = matrix_pictures.fill(random.Random(0), (6, 6), "common", words, (1.0, (kind,)), have)
        drawn = [char for row in matrix for char in row]
        assert sum(char in pool for char in drawn) >= 30, kind
    latin = Fonts(tuple(face for face in have.faces if "DejaVu" in face.path))
    matrix = matrix_pictures.fill(random.Random(0), (6, 6), "letters", words, (1.0, ("emoji", "korean")), latin)
    assert all(char.isascii() for row in matrix for char in row if char not in matrix_pictures.pool("emoji"))
    with pytest.raises(ValueError, match="too few characters"):
        matrix_pictures.fill(random.Random(0), (6, 6), "common", words, (0.0, ()), latin)


def test_emoji_bring_their_own_colours(writing, have) -> None:
    sheet = matrix_pictures.draw(random.Random(3), (("🍎", "中"), ("中", "中")), have)
    image = np.asarray(Image.open(io.BytesIO(sheet.data)).convert("RGB")).astype(int)
    (x1, y1, x2, y2), (u1, v1, u2, v2) = sheet.boxes[0]
    apple, han = image[y1:y2, x1:x2].reshape(-1, 3), image[v1:v2, u1:u2].reshape(-1, 3)
    assert len(np.unique(apple // 16, axis=0)) > 1.5 * len(np.unique(han // 16, axis=0))
    assert (apple[:, 0] - apple[:, 1]).max() > 100, "an apple is red"


def test_a_place_is_asked_only_of_what_occurs_once() -> None:
    with pytest.raises(ValueError, match="occurs once"):
        ask(random.Random(0), "place", (("a", "a"), ("b", "b")), "zh")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"num": {"diagonal": 1}}, "num.diagonal"),
        ({"num": {"cell": -2}}, "must not be negative"),
        ({"rows": [5, 3]}, "rows (5, 3) must rise"),
        ({"columns": [1, 3]}, "within 2 and 40"),
        ({"noises": ["runes"]}, "noises.0"),
        ({"noise": 2}, "less than or equal to 1"),
        ({"fillings": []}, "at least 1 item"),
        ({"fonts": "nowhere"}, "no such file or folder"),
        ({"texts": "texts/en"}, "no passage in zh"),
        ({"language": ["zh"]}, "did you mean 'languages'"),
    ],
)
def test_wrong_options_are_named(writing, options, fault) -> None:
    with pytest.raises(RecipeError, match=re.escape(fault)):
        character_matrix.units(writing, options)


def test_answers_are_in_the_samples_as_asked(writing, tmp_path) -> None:
    store = MediaStore(tmp_path)
    samples, _ = read_all(writing, store, "character_matrix", num={"cell": 6}, rows=[2, 3], columns=[2, 3], noise=0)
    assert all(len(answer(sample)) == 1 for sample in samples)
    assert all(min(pixels(sample, store).shape[:2]) >= 60 for sample in samples)
