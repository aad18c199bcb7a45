"""What is asked about pictures of text, in several wordings and in English and Chinese."""

from data_engine.synthesis.wording import Language

Wordings = dict[Language, tuple[str, ...]]

READ: Wordings = {
    "en": (
        "Read the text in the image, line by line.",
        "Write down everything that is written here, keeping its lines.",
        "Transcribe this picture, one line of text a line.",
    ),
    "zh": (
        "请逐行读出图中的文字。",
        "把图片里的文字按行写出来。",
        "识别图中全部文字，保留换行。",
    ),
}
READ_ROW: Wordings = {
    "en": (
        'Read this row of a table; put " | " between the cells.',
        'Which cells does this row have? Separate them by " | ".',
    ),
    "zh": (
        "读出这一行表格，单元格之间用“ | ”隔开。",
        "这行表格有哪些内容？请用“ | ”分隔各单元格。",
    ),
}
READ_COLUMNS: Wordings = {
    "en": (
        "Read the left column to its end, then the right one, line by line.",
        "Transcribe both columns, the left one first, keeping the lines.",
    ),
    "zh": (
        "请先读完左栏，再读右栏，逐行写出。",
        "按先左后右的顺序识别两栏文字，保留换行。",
    ),
}
READ_VERTICAL: Wordings = {
    "en": (
        "This is written from top to bottom. Read it, one column a line, from right to left.",
        "Transcribe the vertical text, the rightmost column first, each column on its own line.",
    ),
    "zh": (
        "图中文字为竖排，请从右到左读出，每列一行。",
        "请识别竖排文字，从最右一列开始，每列写一行。",
    ),
}
READ_BODY: Wordings = {
    "en": (
        "Read the page without its running title and page number, line by line.",
        "Transcribe the text of this page; leave out the header and the number at the foot.",
    ),
    "zh": (
        "逐行读出这一页的正文，不要页眉和页码。",
        "识别本页文字，略去页眉与页码，保留换行。",
    ),
}
SPOT: Wordings = {
    "en": (
        "Read every piece of text and give its place.",
        "Find all texts in the image, each with where it stands.",
    ),
    "zh": (
        "读出图中每处文字并给出位置。",
        "找出图中所有文字及其所在位置。",
    ),
}
LOCATE: Wordings = {
    "en": ("Where does it say {}?", "Give the place of the text {}.", "Locate {} in this image."),
    "zh": ("{}写在哪里？", "请给出文字{}的位置。", "在图中定位{}。"),
}
READ_AT: Wordings = {
    "en": ("What is written at {}?", "Read the text at {}.", "Which text stands at {}?"),
    "zh": ("{}处写的是什么？", "读出{}处的文字。", "位于{}的是什么文字？"),
}
RECONSTRUCT: Wordings = {
    "en": (
        "Write the {language} source of this picture.",
        "Reconstruct the {language} that gives this page.",
        "Turn this image back into {language}.",
    ),
    "zh": (
        "请写出这张图对应的 {language} 源码。",
        "根据图片还原 {language} 代码。",
        "把这张图转换回 {language}。",
    ),
}
FILL: Wordings = {
    "en": (
        "In this {language} source of the picture, what belongs at {hole}?\n{source}",
        "The picture shows what {hole} stands for here. Write only that.\n{source}",
    ),
    "zh": (
        "下面是图中内容的 {language} 源码，{hole} 处应填什么？\n{source}",
        "请根据图片补全 {language} 源码中的 {hole}，只写出补全的部分。\n{source}",
    ),
}
HIDDEN: Wordings = {
    "en": (
        "A grey bar hides a part of this page. Its {language} source follows. What is under the bar?\n{source}",
        "Compare the picture with its {language} source: what does the bar cover?\n{source}",
    ),
    "zh": (
        "图中有一处被灰条遮住。下面是它的 {language} 源码，被遮住的是什么？\n{source}",
        "对照 {language} 源码，写出图片中灰条遮住的内容。\n{source}",
    ),
}
