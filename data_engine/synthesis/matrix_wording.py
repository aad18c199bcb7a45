"""What is asked about matrices of characters, in Chinese and English."""

import random
from collections.abc import Mapping

from data_engine.synthesis.text_wording import Wordings
from data_engine.synthesis.wording import Language

WAYS: Mapping[Language, Mapping[str, str]] = {
    "zh": {"right": "从左到右", "left": "从右到左", "down": "从上到下", "up": "从下到上"},
    "en": {
        "right": "from left to right",
        "left": "from right to left",
        "down": "from top to bottom",
        "up": "from bottom to top",
    },
}
TOWARDS: Mapping[Language, Mapping[str, str]] = {
    "zh": {"right": "向右", "left": "向左", "down": "向下", "up": "向上"},
    "en": {"right": "to the right", "left": "to the left", "down": "downwards", "up": "upwards"},
}
LINE: Wordings = {
    "zh": (
        "请{way}读出{line}的所有字符，不加空格。",
        "{line}{way}依次是哪些字符？请连写。",
        "提取{line}，按{way}的顺序连续写出。",
    ),
    "en": (
        "Read {line} {way}, without spaces.",
        "Which characters does {line} have {way}? Write them without spaces.",
        "Extract {line} {way} as one string.",
    ),
}
LINES: Wordings = {
    "zh": (
        "先{across}读{row}，再{along}读{column}，连续写出，不加空格。",
        "请依次提取{row}（{across}）和{column}（{along}）的字符，连写成一行。",
    ),
    "en": (
        "Read {row} {across}, then {column} {along}, as one string without spaces.",
        "Extract {row} {across} and after it {column} {along}; write both without spaces.",
    ),
}
SNAKE: Wordings = {
    "zh": (
        "从第一行开始蛇形读出整个矩阵：第一行从左到右，第二行从右到左，依次交替，连写成一行。",
        "请按“之”字形逐行读取全部字符，奇数行从左到右，偶数行从右到左，不加空格。",
    ),
    "en": (
        "Read the whole matrix like a snake, without spaces: row 1 from left to right, row 2 back, and so on.",
        "Write all rows as one string: odd rows from left to right, even rows from right to left.",
    ),
}
FROM_RIGHT: Wordings = {
    "zh": (
        "按古书的顺序读：从最右一列开始，每列从上到下，向左逐列，连写成一行。",
        "请从右往左逐列、每列从上到下读出全部字符，不加空格。",
    ),
    "en": (
        "Read as in an old Chinese book: columns from the right, each from top to bottom, without spaces.",
        "Write all columns as one string, the rightmost first, each from top to bottom.",
    ),
}
SEGMENT: Wordings = {
    "zh": (
        "从{row}{column}的字符开始，{way}连续读出{count}个字符。",
        "以{row}{column}为起点（含），{way}共取{count}个字符，连写出来。",
    ),
    "en": (
        "Begin in {row}, {column} and read {count} characters {way}, the first included.",
        "Starting with the character in {row}, {column}, write {count} characters {way}.",
    ),
}
CELL: Wordings = {
    "zh": ("{row}{column}是什么字符？", "请写出位于{row}、{column}的字符。"),
    "en": ("Which character is in {row}, {column}?", "Write the character where {row} and {column} meet."),
}
PLACE: Wordings = {
    "zh": ("字符“{char}”在第几行第几列？", "请找出“{char}”所在的行和列。"),
    "en": ("In which row and column is the character “{char}”?", "Find “{char}”: which row, which column?"),
}
PLACED: Mapping[Language, str] = {"zh": "第{row}行第{column}列", "en": "row {row}, column {column}"}


def counted(rng: random.Random, axis: str, number: int, count: int, language: Language) -> str:
    """A row or column by its number, from 0 in `number`: counted from the one side or the other."""
    is_from_end = rng.random() < 0.3
    shown = count - number if is_from_end else number + 1
    forms = _COUNTED[language][axis]
    return (rng.choice(forms[1]) if is_from_end else rng.choice(forms[0])).format(shown)


_COUNTED: Mapping[Language, Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "zh": {
        "row": (("第{}行", "从上往下数第{}行"), ("倒数第{}行", "从下往上数第{}行")),
        "column": (("第{}列", "从左往右数第{}列"), ("倒数第{}列", "从右往左数第{}列")),
    },
    "en": {
        "row": (("row {}", "row {} from the top"), ("row {} from the bottom",)),
        "column": (("column {}", "column {} from the left"), ("column {} from the right",)),
    },
}
