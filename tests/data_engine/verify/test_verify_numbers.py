"""Numbers and units: whatever way they are written, the same value; times; number words."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy.physics import units as si

from data_engine.verify import number_words, numbers, times, units
from data_engine.verify.quantity import stated
from data_engine.verify.truth import truth_from

_DECIMALS = st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=3)


def _value(text: str) -> Fraction:
    found = numbers.parse(text)
    assert found is not None, text
    return found.value


@given(_DECIMALS)
def test_a_decimal_is_itself_in_every_style(value: Decimal) -> None:
    exact = Fraction(value)
    minus = f"{value:,}".replace("-", "−")
    styles = [f"{value}", f"{value:,}", f"${value}$", f"\\text{{{value}}}", f" {value} ", f"**{value}**", minus]
    styles += [f"{value:,}".replace(",", "{,}"), f"{value:,}".replace(",", " "), f"about {value}", f"({value})"]
    styles += [f"{value:.12e}", f"{value} \\times 10^{{0}}", f"{value}×10⁰"]
    assert {_value(style) for style in styles} == {exact}
    assert _value(f"{value}%") / 100 == numbers.parse(f"{value}%").base * 1  # type: ignore[union-attr]


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**4), st.integers(0, 99))
def test_fractions_and_mixed_numbers(top: int, under: int, whole: int) -> None:
    exact = Fraction(top, under)
    sign = "-" if top < 0 else ""
    styles = [f"{top}/{under}", f"{sign}\\frac{{{abs(top)}}}{{{under}}}", f"{sign}\\dfrac{{{abs(top)}}}{{{under}}}"]
    assert {_value(style) for style in styles} == {exact}
    assert _value(f"{whole} {abs(top)}/{under}") == whole + abs(exact)


def _words(number: int) -> str:
    """English words of a number below a billion, written another way than they are read."""
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    names = [*small.split(), "seventeen", "eighteen", "nineteen"]
    tens = ["x", "x", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    if number < 20:
        return names[number]
    if number < 100:
        return tens[number // 10] + (f"-{names[number % 10]}" if number % 10 else "")
    size, word = next(pair for pair in ((10**6, "million"), (1000, "thousand"), (100, "hundred")) if number >= pair[0])
    rest = number % size
    return f"{_words(number // size)} {word}" + (f" and {_words(rest)}" if rest else "")


@given(st.one_of(st.integers(0, 1000), st.integers(0, 10**9 - 1)))
def test_number_words(number: int) -> None:
    assert number_words.parse(_words(number)) == (number, "")
    assert _value(_words(number).replace(" and ", " ")) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [("half", Fraction(1, 2)), ("three quarters", Fraction(3, 4)), ("two and a half", Fraction(5, 2)), ("a dozen", 12)]
    + [("minus seven", -7), ("一百二十", 120), ("三点五", Fraction(7, 2)), ("3.5万", 35000), ("½", Fraction(1, 2))]
    + [("3½", Fraction(7, 2)), ("1.234,56", Fraction(123456, 100)), ("2.5M", 2_500_000), ("１２", 12), ("1e-3",
    Fraction(1, 1000))],
)  # fmt: skip
def test_other_ways(text: str, value: Fraction) -> None:
    assert _value(text) == value


@pytest.mark.parametrize(
    "text",
    ["3-5", "3 to 5", "3 or 5", "more than 3", "≥3", "<3", "3±1", "1, 2", "3,5", "1/0", "x=5", "", "5 - 3", "2nd", "7!"]
    + ["1e999999", "9" * 10_000, "two seven", "hundred and", "三四", "1:30", "1.2.3", "12,34", "--5", "5 x 10", "no"],
)  # fmt: skip
def test_what_is_no_one_number_is_none(text: str) -> None:
    assert numbers.parse(text) is None


@pytest.mark.parametrize(
    ("name", "oracle", "base"),
    [("km", si.km, si.m), ("inch", si.inch, si.m), ("ft", si.ft, si.m), ("yd", si.yard, si.m), ("mile", si.mile, si.m)]
    + [("lb", si.pound, si.kg), ("g", si.g, si.kg), ("h", si.hour, si.s), ("day", si.day, si.s), ("L",
    si.liter, si.m**3)]
    + [("km/h", si.km / si.hour, si.m / si.s), ("mL", si.milliliter, si.m**3), ("ha", si.hectare, si.m**2)]
    + [("J", si.joule, si.kg * si.m**2 / si.s**2), ("kPa", si.kPa, si.kg / si.m / si.s**2)]
    + [("ms", si.millisecond, si.s), ("cm^2", si.cm**2, si.m**2), ("square feet", si.ft**2, si.m**2)],
)  # fmt: skip
def test_units_are_worth_what_sympy_says(name: str, oracle: object, base: object) -> None:
    unit = units.parse(name)
    assert unit is not None
    factor = si.convert_to(oracle, [si.m, si.kg, si.s]) / base
    assert float(unit.factor) == pytest.approx(float(factor.simplify()), rel=1e-12)


def test_degrees_of_heat_have_an_offset_and_data_sizes_two_kilos() -> None:
    cold, hot, kelvin = (numbers.parse(text) for text in ("32 °F", "212 °F", "373.15 K"))
    assert cold and hot and kelvin
    assert cold.base == Fraction("273.15")
    assert hot.base == kelvin.base
    assert [numbers.parse(text).base for text in ("1 kB", "1 KiB")] == [8000, 8192]  # type: ignore[union-attr]


@pytest.mark.parametrize(("text", "base"), [("5 ft 3 in", "1.6002"), ("1 h 30 min", "5400"), ("5'11\"", "1.8034")])
def test_parts_of_one_quantity_add_up(text: str, base: str) -> None:
    found = numbers.parse(text)
    assert found is not None
    assert found.base == Fraction(base)
    assert numbers.parse("3 in 5 ft") is None
    assert numbers.parse("5 ft 3 kg") is None


def test_a_sentence_states_one_number_or_none() -> None:
    said = {
        "70+99+70 = 239": 239,
        "There are 239 strings of length 6.": 239,
        "The value for real x is 2, when x = 0.": 2,
    }
    for text, value in said.items():
        found = stated(text)
        assert found is not None
        assert found.value == value
    assert stated("x = 5 or x = -5") is None
    assert stated("7 cars and 3 people") is None
    assert stated("It is not 7.") is None
    assert stated("It grows like $9^{9^{9}}$") is None


@given(st.integers(0, 359_999))
def test_times_are_read_back(whole: int) -> None:
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    forms = [f"{whole}", f"{whole}s", f"{whole} seconds", f"{hours}:{minutes:02d}:{seconds:02d}"]
    forms += [f"{whole // 60}:{seconds:02d}", f"{hours}h{minutes}m{seconds}s", f"{hours}小时{minutes}分{seconds}秒"]
    assert {times.seconds(form) for form in forms} == {whole}
    with pytest.raises(ValueError, match="is no time"):
        times.seconds(f"{hours}:75:00")


def test_significant_digits_and_tolerances_are_of_the_truth() -> None:
    from data_engine.verify.check import judge

    truth = truth_from({"kind": "number", "value": "0.0123456", "digits": 3})
    assert judge(truth, "0.0123").right
    assert judge(truth, "0.012395").right  # half a unit of the third digit, exactly within
    assert not judge(truth, "0.0124").right
    close = truth_from({"kind": "number", "value": "1000001"})
    assert not judge(close, "1000000").right
