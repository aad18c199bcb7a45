"""What captions say: their language, the words that carry meaning, the one thing, colour or number they name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_engine.sample import Message, Part, Sample
from data_engine.synthesis.wording import Language
from data_engine.words import folded_text

_HAN = re.compile(r"[\u4e00-\u9fff]")
_WORD = re.compile(r"[a-z]+")
_STOP = frozenset({
    "a", "an", "the", "of", "in", "on", "at", "to", "for", "with", "and", "or", "is", "are", "was", "its", "it", "this",
    "that", "some", "from", "by", "his", "her", "your", "our", "their", "there", "small", "large", "big", "little",
    "old", "very",
})  # fmt: skip
_STOP_HAN = frozenset("一个只条张把辆片颗种位两三四五六七八九十的了在和与是有着这那你我他她它们用来里上下中大小老")

SYNONYMS: tuple[frozenset[str], ...] = tuple(
    frozenset(group.split())
    for group in (
        "boat ship ferry sailboat tugboat vessel shipwreck yacht canoe submarine 船 舰",
        "car automobile auto taxi van beetle vehicle truck lorry jeep bus 车",
        "plane airplane aeroplane aircraft jet biplane helicopter 机",
        "train locomotive engine caboose railway 火车",
        "bike bicycle motorcycle motorbike tricycle scooter",
        "house home building cottage hut tower castle church hall 房 屋 楼 堡 塔",
        "person people man woman boy girl child baby kid men women fireman astronaut soldier 人 兵 员 男 女 孩",
        "flower rose daisy daffodil tulip lily blossom plant 花",
        "tree pine oak palm bush trunk 树 木",
        "bird hen rooster chicken duck goose eagle owl crane vulture penguin parrot bluebird rhea 鸟 鸡 鸭 鹅 鹰 雕 鹤",
        "dog puppy hound 狗 犬",
        "cat kitten lion tiger leopard cheetah 猫 狮 虎 豹",
        "horse pony donkey zebra mule 马 驴",
        "cow bull ox calf buffalo cattle 牛",
        "snail shell seashell clam conch 螺 贝 壳",
        "fish shark trout salmon goldfish 鱼 鲨",
        "star sun moon planet 星 日 月",
        "ball basketball football baseball soccer 球",
        "hat cap helmet 帽 盔",
        "shoe boot sandal sneaker 鞋 靴",
        "cup mug glass bottle jar 杯 瓶",
        "tooth teeth 牙 齿",
        "snowman snowflake snow 雪",
        "fire flame campfire candle 火 焰",
        "pumpkin jack lantern gourd 瓜 灯",
    )
)
"""Words that one picture may go by: what is in one of a group is not asked for as absent from a picture of another."""

COLOURS: Mapping[Language, Mapping[str, tuple[str, ...]]] = {
    "en": {
        "red": ("blue", "green"), "blue": ("red", "yellow"), "green": ("red", "purple"), "yellow": ("blue", "black"),
        "white": ("black", "red"), "black": ("white", "yellow"), "pink": ("green", "black"),
        "purple": ("yellow", "white"), "orange": ("blue", "green"), "brown": ("blue", "white"),
    },
    "zh": {
        "红色": ("蓝色", "绿色"), "蓝色": ("红色", "黄色"), "绿色": ("红色", "紫色"), "黄色": ("蓝色", "黑色"),
        "白色": ("黑色", "红色"), "黑色": ("白色", "黄色"), "粉色": ("绿色", "黑色"), "紫色": ("黄色", "白色"),
        "橙色": ("蓝色", "绿色"), "棕色": ("蓝色", "白色"),
    },
}  # fmt: skip
"""Colours, and others that nobody would call the same."""
NUMBERS: Mapping[Language, Sequence[str]] = {
    "en": ("two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "zh": ("两", "三", "四", "五", "六", "七", "八", "九"),
}
_MEASURES = "个只条张把辆片颗种位支朵头匹架艘座根块棵双副顶枚"
_THING_EN = re.compile(r"(an?) ([a-z][a-z' -]*[a-z])", re.IGNORECASE)
_THING_ZH = re.compile(rf"(?:一[{_MEASURES}])?([\u4e00-\u9fff]{{1,7}})")


@dataclass(frozen=True, slots=True)
class Trait:
    """A colour or number that a caption gives to a thing, and others that contradict it."""

    thing: str
    value: str
    others: tuple[str, ...]


def language_of(text: str) -> Language:
    return "zh" if _HAN.search(text) else "en"


def content(text: str) -> frozenset[str]:
    """The words, and single Han characters, that carry meaning; a plural's ending is taken off."""
    plain = folded_text(text)
    words = {word for word in _WORD.findall(plain) if word not in _STOP}
    han = {char for char in plain if _HAN.match(char) and char not in _STOP_HAN}
    return frozenset(set(map(_singular, words)) | han)


def _singular(word: str) -> str:
    """By the rules of spelling alone: cherries, boxes, cars."""
    word = re.sub("(?<=[a-z]{2})ies$", "y", word)
    word = re.sub("(?<=[a-z](?:x|h))es$", "", word)
    return re.sub("(?<=[a-z]{2}[^s])s$", "", word)


def may_mean_one_thing(first: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two sets of content words share one, or one within another (bird, bluebird), or two of one group."""
    if first & other or _within(first, other) or _within(other, first):
        return True
    return any(group & first and group & other for group in SYNONYMS)


def _within(words: Iterable[str], others: frozenset[str]) -> bool:
    return any(len(word) > 2 and any(word in other for other in others) for word in words)


def plain(caption: str) -> str:
    """A caption without its closing mark."""
    return caption.strip().rstrip(".!。！").strip()


def thing(caption: str) -> str | None:
    """The one thing that a caption names, "a red kangaroo" or "袋鼠"; None where it says more or less than that."""
    text = plain(caption)
    if language_of(text) == "zh":
        found = _THING_ZH.fullmatch(text)
        return found[1] if found and not _HAN_SENTENCE.search(found[1]) else None
    match = _THING_EN.fullmatch(text)
    if not match or len(match[2].split()) > 4 or " of " in match[2]:
        return None
    return f"{match[1].lower()} {match[2]}"


_HAN_SENTENCE = re.compile("[是有在了着让能会要你我他的]")


def colour(caption: str) -> Trait | None:
    """The one colour of a thing: "A red car." gives car, red."""
    text = plain(caption)
    language = language_of(text)
    names = "|".join(COLOURS[language])
    if language == "zh":
        found = re.fullmatch(rf"(?:一[{_MEASURES}])?({names})的?([\u4e00-\u9fff]{{1,6}})", text)
    else:
        found = re.fullmatch(rf"an? ({names}) ([a-z]+(?: [a-z]+)?)", text, re.IGNORECASE)
    if not found or len(re.findall(names, text.lower())) != 1 or "的" in found[2]:
        return None
    value = found[1].lower()
    return Trait(found[2], value, COLOURS[language][value])


def number(caption: str) -> Trait | None:
    """How many things: "Two cherries." gives cherries, two; in Chinese with their measure word, 两 个樱桃."""
    text = plain(caption)
    language = language_of(text)
    names = "|".join(NUMBERS[language])
    if language == "zh":
        found = re.fullmatch(rf"({names})([{_MEASURES}][\u4e00-\u9fff]{{1,6}})", text)
    else:
        found = re.fullmatch(rf"({names}) ([a-z]+s)", text, re.IGNORECASE)
    if not found:
        return None
    value = found[1].lower()
    return Trait(found[2], value, tuple(other for other in NUMBERS[language] if other != value))


def answer(sample: Sample) -> str:
    """What is said of a sample's pictures: its last answer, or its document's text."""
    spoken = [message.text for message in sample.messages if message.role in {"assistant", "document"}]
    return spoken[-1] if spoken else ""


def picture_of(sample: Sample) -> str | None:
    """The key of the one picture that a sample shows; None for several, a video, or a frame of one."""
    only = sample.media[0] if len(sample.media) == 1 else None
    return only.key if only and only.kind == "image" and only.start is None else None


def without_media(message: Message) -> Message:
    """The message's text parts."""
    parts: tuple[Part, ...] = tuple(part for part in message.parts if part.kind == "text")
    return Message(message.role, parts)
