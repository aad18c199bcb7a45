"""What traps ask and answer, in English and Chinese: each form with a question, a yes and a no."""

from collections.abc import Mapping
from dataclasses import dataclass

from data_engine.synthesis.wording import Language


@dataclass(frozen=True, slots=True)
class Form:
    """Wordings of a question, of its answer where it is so, and where it is not: what is there is said."""

    asks: tuple[str, ...]
    yes: tuple[str, ...]
    no: tuple[str, ...]


FORMS: Mapping[str, Mapping[Language, Form]] = {
    "exists": {
        "en": Form(
            ("Is there {asked} in this picture?", "Can you see {asked} here?", "Does the image show {asked}?"),
            ("Yes, there is {truth}.", "Yes. The picture shows {truth}."),
            ("No. The picture shows {truth}.", "No, what can be seen is {truth}."),
        ),
        "zh": Form(
            ("图中有{asked}吗？", "这张图片里能看到{asked}吗？", "画面里有没有{asked}？"),
            ("有，图中是{truth}。", "有的，这是{truth}。"),
            ("没有，图中是{truth}。", "没有，能看到的是{truth}。"),
        ),
    },
    "fits": {
        "en": Form(
            ("Does “{asked}” describe this picture?", "Somebody captioned this “{asked}”. Is that right?"),
            ("Yes, it does: {truth}.", "Yes: {truth}."),
            ("No. A caption that fits is: {truth}.", "No, it shows this: {truth}."),
        ),
        "zh": Form(
            ("“{asked}”描述的是这张图片吗？", "有人给这张图写的说明是“{asked}”，对吗？"),
            ("是的：{truth}。", "对，{truth}。"),
            ("不是，合适的说明是：{truth}。", "不对，图中是：{truth}。"),
        ),
    },
    "colour": {
        "en": Form(
            ("Is the {thing} {asked}?", "The {thing} in the picture is {asked}, isn't it?"),
            ("Yes, it is {truth}.", "Yes, the {thing} is {truth}."),
            ("No, it is {truth}.", "No, the {thing} is {truth}."),
        ),
        "zh": Form(
            ("图中的{thing}是{asked}的吗？", "{thing}的颜色是{asked}，对吗？"),
            ("是的，{thing}是{truth}的。", "对，是{truth}的。"),
            ("不是，{thing}是{truth}的。", "不对，是{truth}的。"),
        ),
    },
    "number": {
        "en": Form(
            ("Are there {asked} {thing} in the picture?", "I see {asked} {thing} here. Is that right?"),
            ("Yes, there are {truth}.", "Yes, {truth} {thing}."),
            ("No, there are {truth}.", "No, {truth} {thing}."),
        ),
        "zh": Form(
            ("图中有{asked}{thing}，对吗？", "这里是{asked}{thing}吗？"),
            ("对，有{truth}{thing}。", "是的，{truth}{thing}。"),
            ("不对，有{truth}{thing}。", "不是，是{truth}{thing}。"),
        ),
    },
    "marked": {
        "en": Form(
            ("Is there any “{asked}” in the image?", "Can “{asked}” be found here?"),
            ("Yes. In the image: {truth}.", "Yes, here are: {truth}."),
            ("No. In the image: {truth}.", "No, here are: {truth}."),
        ),
        "zh": Form(
            ("图中有“{asked}”吗？", "这里能找到“{asked}”吗？"),
            ("有。图中有：{truth}。", "能，图中有：{truth}。"),
            ("没有。图中有：{truth}。", "不能，图中只有：{truth}。"),
        ),
    },
    "marked_number": {
        "en": Form(
            ("Of “{thing}” the image shows {asked}. Is that right?", "Are {asked} of “{thing}” to be seen?"),
            ("Yes, {truth}.", "Yes, there are {truth}."),
            ("No, {truth}.", "No, there are {truth}."),
        ),
        "zh": Form(
            ("图中“{thing}”的数量是 {asked}，对吗？", "“{thing}”在图中有 {asked} 个吗？"),
            ("对，是 {truth} 个。", "是的，{truth} 个。"),
            ("不对，是 {truth} 个。", "不是，有 {truth} 个。"),
        ),
    },
    "written": {
        "en": Form(
            ("Is “{asked}” written in this picture?", "Does the text contain “{asked}”?"),
            ("Yes. It says “{truth}”.", "Yes, in “{truth}”."),
            ("No. It says “{truth}”.", "No, what is written is “{truth}”."),
        ),
        "zh": Form(
            ("图中写有“{asked}”吗？", "图里的文字包含“{asked}”吗？"),
            ("有，图中写的是“{truth}”。", "包含，写的是“{truth}”。"),
            ("没有，图中写的是“{truth}”。", "不包含，写的是“{truth}”。"),
        ),
    },
    "reads": {
        "en": Form(
            ("A line of the text is “{asked}”, isn't it?", "Does a line here read exactly “{asked}”?"),
            ("Yes, it is “{truth}”.", "Yes, “{truth}”."),
            ("No, it is “{truth}”.", "No, that line reads “{truth}”."),
        ),
        "zh": Form(
            ("其中一行写的是“{asked}”，对吗？", "图中有一行正好是“{asked}”吗？"),
            ("对，是“{truth}”。", "是的，“{truth}”。"),
            ("不对，那一行是“{truth}”。", "不是，写的是“{truth}”。"),
        ),
    },
}
