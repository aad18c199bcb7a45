"""placeholder"""


def prepare() -> None: ...
