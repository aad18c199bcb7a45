"""What the video tasks ask, in several wordings and in English and Chinese."""

from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

FRAME_ORDER: dict[Language, tuple[str, ...]] = {
    "en": (
        "These four frames of one video are shuffled. Put them in the order in which they happened.",
        "Four moments of a video, out of order. Which order is right?",
        "Sort these frames by time, the earliest first.",
    ),
    "zh": (
        "下面是同一个视频中的四帧，顺序已被打乱。请按发生的先后排序。",
        "这四帧画面的正确先后顺序是什么？",
        "请按时间从早到晚排列这些画面。",
    ),
}
SPLICE_TIME: dict[Language, tuple[str, ...]] = {
    "en": (
        "Two recordings are joined in this clip. At which second does the second one begin?",
        "At which time does the clip cut from one video to the other?",
        "When does the other video start? Give the time in seconds.",
    ),
    "zh": (
        "这段视频由两段录像拼接而成。第二段从第几秒开始？",
        "画面在第几秒从一个视频切换到另一个视频？",
        "另一个视频是什么时候开始的？请用秒回答。",
    ),
}
WHICH_CLIP: dict[Language, tuple[str, ...]] = {
    "en": (
        "What is shown at {time} s: {choices}?",
        "Look at second {time}. Is it {choices}?",
        "Which of these is playing at {time} s: {choices}?",
    ),
    "zh": (
        "第 {time} 秒时播放的是{choices}？",
        "看第 {time} 秒的画面，它来自{choices}？",
        "{time} 秒处显示的是哪一个：{choices}？",
    ),
}
WHICH_FIRST: dict[Language, tuple[str, ...]] = {
    "en": (
        "A and B are two pieces of one film. Which comes first in the film?",
        "Which of these two scenes happens earlier, A or B?",
        "One film, two clips. Which one was shown first?",
    ),
    "zh": (
        "A 和 B 是同一部影片中的两段。哪一段在影片中先出现？",
        "这两个片段哪个更早，A 还是 B？",
        "同一部影片的两段，先放映的是哪一段？",
    ),
}
TEXT_AT: dict[Language, tuple[str, ...]] = {
    "en": (
        "What text is shown at {time} s?",
        "Read what is written in the picture at second {time}.",
        "Which words can be seen at {time} s? Write them down line by line.",
    ),
    "zh": (
        "第 {time} 秒时画面上显示的文字是什么？",
        "请读出 {time} 秒处画面中的文字。",
        "{time} 秒时能看到哪些文字？请逐行写出。",
    ),
}
TEXT_WHEN: dict[Language, tuple[str, ...]] = {
    "en": (
        "When does the text “{text}” appear?",
        "From when to when can “{text}” be read in the video?",
        "Give the time span in which the words “{text}” are on screen.",
    ),
    "zh": (
        "文字“{text}”在什么时候出现？",
        "视频中从几秒到几秒可以看到“{text}”？",
        "请给出画面上显示“{text}”的时间段。",
    ),
}
VIDEO_MATCH: dict[Language, tuple[str, ...]] = {
    "en": (
        "Which of these clips belongs with the first two?",
        "The first two clips are of one recording. Which candidate is from the same one?",
        "Choose the clip that is most closely related to the two given ones.",
    ),
    "zh": (
        "下面哪个片段与前两个片段关系最密切？",
        "前两个片段出自同一段录像。哪个候选片段也出自它？",
        "请选出与给定的两个片段最相关的一个。",
    ),
}
GIVEN: dict[Language, str] = {"en": "Given: ", "zh": "给定："}
CANDIDATES: dict[Language, str] = {"en": "Candidates: ", "zh": "候选："}
OR: dict[Language, str] = {"en": " or ", "zh": "还是"}
END: dict[Language, str] = {"en": ".", "zh": "。"}


def seconds(value: float, language: Language) -> str:
    """A time as an answer, with the one decimal that the model's own frame times have."""
    return f"{value:.1f} s" if language == "en" else f"{value:.1f} 秒"
