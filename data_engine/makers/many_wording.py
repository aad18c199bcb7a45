"""What is asked about many pictures at once, in English and Chinese."""

from collections.abc import Mapping

from data_engine.synthesis.text_wording import Wordings
from data_engine.synthesis.wording import Language

LABEL: Mapping[Language, str] = {"en": "\nPicture {}: ", "zh": "\n图{}："}
NUMBER: Mapping[Language, str] = {"en": "Picture {}.", "zh": "第{}张。"}
CAPTION: Wordings = {
    "en": ("Give {} a short caption.", "What does {} show?", "Describe {} only."),
    "zh": ("请给{}写一句说明。", "{}里是什么？", "只描述{}。"),
}
TWO: Wordings = {
    "en": ("Caption {} and {}, one line each.", "What do {} and {} show? A line for each, in this order."),
    "zh": ("请依次描述{}和{}，各写一行。", "{}和{}分别是什么？按此顺序各写一行。"),
}
WHICH: Wordings = {
    "en": ("Which picture shows this: {}?", "Find the picture for “{}”. Give its number, counted from 1."),
    "zh": ("哪一张图片是“{}”？", "请找出“{}”是第几张，从1数起。"),
}
AFTER: Wordings = {
    "en": ("What does the picture right after “{}” show?", "Caption the one that follows the picture of this: {}."),
    "zh": ("紧跟在“{}”后面的那张图是什么？", "请描述“{}”的下一张图片。"),
}
COUNT: Wordings = {
    "en": ("How many pictures are there?", "Count the pictures. Give only the number."),
    "zh": ("一共有多少张图片？", "请数一数图片的张数，只回答数字。"),
}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def nth(at: int, language: Language) -> str:
    """A picture by its number, `at` counted from 0."""
    if language == "zh":
        return f"第{at + 1}张图"
    return f"the {_ORDINALS[at]} picture" if at < len(_ORDINALS) else f"picture {at + 1}"


def from_end(back: int, language: Language) -> str:
    """A picture by its place from the end, 1 to 3."""
    if language == "zh":
        return "最后一张图" if back == 1 else f"倒数第{back}张图"
    return ("the last picture", "the second to last picture", "the third to last picture")[back - 1]
