"""Units of measure: what each is worth in the base units of its dimension, and products, quotients and powers of them.

Sizes: the International System of Units (BIPM, SI brochure, 9th edition, tables 2, 4, 7 and 8) and the international
yard and pound (1959); US gallons; a byte is 8 bits, kB is 1000 bytes and KiB 1024 (IEC 80000-13).
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

Dimensions = tuple[tuple[str, int], ...]
"""Powers of base units by name, in order, none zero: (("m", 1), ("s", -1)) for a speed; () for a pure number."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Something measured as `x` in this unit is `x * factor + offset` in the base units of `dimensions`."""

    factor: Fraction
    dimensions: Dimensions
    offset: Fraction = Fraction(0)


_PI = Fraction(3141592653589793238462643383279, 10**30)
_INCH, _POUND = Fraction(254, 10000), Fraction(45359237, 10**8)

# Names by size, all in one base unit. A name is looked up as it is written, then in lower case.
_TABLE: Mapping[str, Mapping[str, Fraction | int | str]] = {
    "m": {
        "m metre metres meter meters 米 公尺": 1, "km kilometre kilometres kilometer kilometers 千米 公里": 1000,
        "dm decimetre decimetres decimeter decimeters 分米": "0.1",
        "cm centimetre centimetres centimeter centimeters 厘米 公分": "0.01",
        "mm millimetre millimetres millimeter millimeters 毫米": "0.001",
        "um µm μm micron microns micrometre micrometres micrometer micrometers 微米": "1e-06",
        "nm nanometre nanometres nanometer nanometers 纳米": "1e-09",
        'in inch inches " ″ 英寸': _INCH, "ft foot feet ' ′ 英尺": 12 * _INCH, "yd yard yards 码": 36 * _INCH,
        "mi mile miles 英里": 63360 * _INCH, "nmi": 1852,
    },
    "kg": {
        "kg kilo kilos kilogram kilograms kilogramme kilogrammes 千克 公斤": 1,
        "g gram grams gramme grammes 克": "0.001",
        "mg milligram milligrams 毫克": "1e-06", "ug µg μg microgram micrograms 微克": "1e-09",
        "t tonne tonnes 吨": 1000,
        "lb lbs pound pounds 磅": _POUND, "oz ounce ounces 盎司": _POUND / 16, "斤": "0.5",
    },
    "s": {
        "s sec secs second seconds 秒 秒钟": 1, "ms millisecond milliseconds 毫秒": "0.001",
        "us µs μs microsecond microseconds 微秒": "1e-06", "ns nanosecond nanoseconds 纳秒": "1e-09",
        "min mins minute minutes 分钟": 60, "h hr hrs hour hours 小时": 3600, "d day days 天 日": 86400,
        "wk week weeks 周 星期": 604800,
    },
    "rad": {
        "rad rads radian radians 弧度": 1, "deg degs degree degrees ° º \\degree 度": _PI / 180,
        "arcmin": _PI / 10800, "rev turn turns revolution revolutions": 2 * _PI,
    },
    "bit": {
        "bit bits": 1, "B byte bytes 字节": 8, "kB KB kilobyte kilobytes": 8000, "MB megabyte megabytes": 8 * 10**6,
        "GB gigabyte gigabytes": 8 * 10**9, "TB terabyte terabytes": 8 * 10**12,
        "KiB kibibyte kibibytes": 8 * 2**10, "MiB mebibyte mebibytes": 8 * 2**20, "GiB gibibyte gibibytes": 8 * 2**30,
        "TiB tebibyte tebibytes": 8 * 2**40, "kbit kilobit kilobits": 1000, "Mbit megabit megabits": 10**6,
        "Gbit gigabit gigabits": 10**9,
    },
    "A": {"A amp amps ampere amperes 安培": 1, "mA milliampere milliamperes": "0.001"},
    "mol": {"mol mole moles 摩尔": 1, "mmol": "0.001"},
    "month": {"month months mo 个月 月": 1, "year years yr yrs 年": 12, "decade decades": 120,
        "century centuries": 1200},
    "USD": {"USD US$ $ \\$ dollar dollars 美元": 1, "cent cents ¢ ￠": "0.01"},
    "EUR": {"EUR € euro euros 欧元": 1},
    "GBP": {"GBP £ 英镑": 1, "pence penny": "0.01"},
    "CNY": {"CNY RMB 元 人民币 yuan 块": 1}, "JPY": {"JPY 日元 yen": 1}, "INR": {"INR ₹ rupee rupees": 1},
    "¥": {"¥ ￥": 1},
    "": {"% \\% percent pct per\u00a0cent 百分": "0.01", "‰ permille": "0.001"},
}  # fmt: skip
# Units of several base units, by their own parts.
_MADE: Mapping[str, tuple[Fraction | int | str, str]] = {
    "L l litre litres liter liters 升": ("0.001", "m^3"),
    "mL ml millilitre millilitres milliliter milliliters 毫升 cc": ("1e-06", "m^3"),
    "cL cl centilitre centilitres centiliter centiliters": ("1e-05", "m^3"),
    "gal gallon gallons 加仑": (231 * _INCH**3, "m^3"), "pt pint pints": (Fraction(231, 8) * _INCH**3, "m^3"),
    "ha hectare hectares 公顷": (10**4, "m^2"), "acre acres 英亩": ("4046.8564224", "m^2"),
    "mph": (1, "mi/h"), "kph kmh km/hr": (1, "km/h"), "kn knot knots": (1, "nmi/h"), "fps": (1, "ft/s"),
    "N newton newtons 牛顿 牛": (1, "kg*m/s^2"), "kN": (1000, "kg*m/s^2"),
    "J joule joules 焦耳 焦": (1, "kg*m^2/s^2"), "kJ kilojoule kilojoules": (1000, "kg*m^2/s^2"),
    "cal calorie calories": ("4.184", "kg*m^2/s^2"), "kcal": (4184, "kg*m^2/s^2"),
    "kWh": (3600000, "kg*m^2/s^2"), "eV": ("1.602176634e-19", "kg*m^2/s^2"),
    "W watt watts 瓦特 瓦": (1, "kg*m^2/s^3"), "kW kilowatt kilowatts 千瓦": (1000, "kg*m^2/s^3"),
    "MW megawatt megawatts": (10**6, "kg*m^2/s^3"),
    "Pa pascal pascals 帕": (1, "kg/m/s^2"), "kPa 千帕": (1000, "kg/m/s^2"), "MPa": (10**6, "kg/m/s^2"),
    "bar": (10**5, "kg/m/s^2"), "atm": (101325, "kg/m/s^2"),
    "V volt volts 伏特 伏": (1, "kg*m^2/s^3/A"), "mV": ("0.001", "kg*m^2/s^3/A"), "kV": (1000, "kg*m^2/s^3/A"),
    "Ω ohm ohms \\Omega 欧姆": (1, "kg*m^2/s^3/A^2"), "kΩ": (1000, "kg*m^2/s^3/A^2"),
    "C coulomb coulombs": (1, "A*s"),
    "Hz hertz 赫兹": (1, "s^-1"), "kHz": (1000, "s^-1"), "MHz": (10**6, "s^-1"), "GHz": (10**9, "s^-1"),
    "T tesla": (1, "kg/A/s^2"), "Mbps Mb/s": (10**6, "bit/s"), "kbps": (1000, "bit/s"), "Gbps": (10**9, "bit/s"),
}  # fmt: skip
_KELVIN: Dimensions = (("K", 1),)
_HEAT: Mapping[str, Unit] = {
    "K kelvin kelvins 开尔文": Unit(Fraction(1), _KELVIN),
    "°C ℃ degC celsius degree\u00a0celsius degrees\u00a0celsius 摄氏度": Unit(
        Fraction(1), _KELVIN, Fraction(27315, 100)
    ),
    "°F ℉ degF fahrenheit degree\u00a0fahrenheit degrees\u00a0fahrenheit 华氏度": Unit(
        Fraction(5, 9), _KELVIN, Fraction(27315, 100) - 32 * Fraction(5, 9)
    ),
}
_SQUARED = {"square": 2, "sq": 2, "cubic": 3, "平方": 2, "立方": 3}
_TERM = re.compile(r"(?P<name>[^\s*/·^\d()]+)(?:\^?(?:\((?P<deep>-?\d)\)|(?P<power>-?\d)))?")


@functools.cache
def _names() -> dict[str, Unit]:
    names = {name: unit for all_names, unit in _HEAT.items() for name in _split(all_names)}
    for base, table in _TABLE.items():
        dimensions = ((base, 1),) if base else ()
        names |= {
            name: Unit(Fraction(size), dimensions) for all_names, size in table.items() for name in _split(all_names)
        }
    for all_names, (size, parts) in _MADE.items():
        made = _product(parts, names)
        assert made is not None, parts
        names |= {name: Unit(Fraction(size) * made.factor, made.dimensions) for name in _split(all_names)}
    return names


def _split(all_names: str) -> list[str]:
    return [name.replace("\u00a0", " ") for name in all_names.split(" ")]


@functools.cache
def _lower() -> dict[str, Unit | None]:
    """Names in lower case; None where two units share one (mm and Mm would)."""
    found: dict[str, Unit | None] = {}
    for name, unit in _names().items():
        found[name.lower()] = unit if found.get(name.lower(), unit) == unit else None
    return found


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Unit | None:
    """A unit such as `cm`, `km/h`, `m/s^2`, `square metres`, `miles per hour`; None for what is none known here."""
    said = " ".join(text.replace("²", "^2").replace("³", "^3").split())
    if len(said) > 60:
        return None
    if (whole := _named(said)) is not None:
        return whole
    said = re.sub(r"\s+per\s+|每", "/", said)
    return _product(said, _names())


def _named(name: str) -> Unit | None:
    return _names().get(name) or _lower().get(name.lower())


def _product(text: str, names: Mapping[str, Unit]) -> Unit | None:
    """Terms with powers, between them `*`, `·`, white space or `/`; what comes after `/` divides, one term long."""
    factor, powers, power_of_next, divides, at = Fraction(1), dict[str, int](), 1, False, 0
    while at < len(text):
        if text[at] in " *·":
            at += 1
        elif text[at] == "/":
            divides, at = True, at + 1
        elif (term := _TERM.match(text, at)) is None:
            return None
        elif (word := term["name"].lower()) in _SQUARED and term.end() < len(text):
            power_of_next, at = _SQUARED[word], term.end()
        else:
            unit = names.get(term["name"]) or (_lower().get(word) if len(names) > 200 else None)
            if unit is None or unit.offset:
                return None
            power = int(term["deep"] or term["power"] or 1) * power_of_next * (-1 if divides else 1)
            factor *= unit.factor**power
            for base, size in unit.dimensions:
                powers[base] = powers.get(base, 0) + size * power
            power_of_next, divides, at = 1, False, term.end()
    dimensions = tuple(sorted((base, power) for base, power in powers.items() if power))
    return Unit(factor, dimensions) if text.strip() else None
