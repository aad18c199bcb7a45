"""The report's colours, once. Figures are drawn in the light ones; the page turns them into CSS variables.

Video, image and text are the orange, blue and green of Okabe and Ito's set, told apart by people who do not see
red or green; nothing is said by colour alone.
"""

LIGHT = {
    "paper": "#f7f6f2",
    "card": "#ffffff",
    "ink": "#1f2328",
    "muted": "#5f6772",
    "line": "#dddad2",
    "soft": "#efede7",
    "video": "#d9822b",
    "image": "#2f6db5",
    "text": "#2f9478",
    "kept": "#4a7fb0",
    "dropped": "#c4553e",
    "quarantined": "#8560ad",
    "slow": "#e0912c",
    "fast": "#5b7fa6",
    "right": "#2a7f8f",
    "other": "#b3aa9b",
}
DARK = {
    "paper": "#14161a",
    "card": "#1c1f25",
    "ink": "#e9e7e0",
    "muted": "#a1a9b4",
    "line": "#363b43",
    "soft": "#262a31",
    "video": "#eb9a49",
    "image": "#6ba3e3",
    "text": "#55bb9d",
    "kept": "#6d9fce",
    "dropped": "#e07a63",
    "quarantined": "#ab8ad0",
    "slow": "#f2a33a",
    "fast": "#7fa2c8",
    "right": "#4fabbc",
    "other": "#77716a",
}


def css() -> str:
    """The colours as CSS variables, light unless the reader's system asks for dark."""
    light, dark = ("".join(f"--{name}:{value};" for name, value in colours.items()) for colours in (LIGHT, DARK))
    return f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


def themed(svg: str) -> str:
    """An SVG drawn in the light colours, with variables in their place."""
    for name, value in LIGHT.items():
        svg = svg.replace(value, f"var(--{name})")
    return svg
