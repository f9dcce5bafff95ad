"""Units that answers carry; a unit never makes an answer wrong unless both sides name one and they differ."""

from fractions import Fraction

_DIMENSIONS: dict[str, dict[str, Fraction]] = {
    "length": {
        "mm millimeter millimetre": Fraction(1, 1000),
        "cm centimeter centimetre": Fraction(1, 100),
        "m meter metre": Fraction(1),
        "km kilometer kilometre": Fraction(1000),
        "in inch inches": Fraction(254, 10000),
        "ft foot feet": Fraction(3048, 10000),
        "yd yard": Fraction(9144, 10000),
        "mi mile": Fraction(1609344, 1000),
    },
    "mass": {
        "mg milligram": Fraction(1, 1000),
        "g gram": Fraction(1),
        "kg kilogram": Fraction(1000),
        "lb lbs pound": Fraction(45359237, 100000),
        "oz ounce": Fraction(45359237, 1600000),
    },
    "time": {
        "s sec second": Fraction(1),
        "min minute": Fraction(60),
        "h hr hour": Fraction(3600),
        "day": Fraction(86400),
        "week": Fraction(604800),
    },
    "money": {"cent": Fraction(1, 100), "dollar": Fraction(1)},
    "volume": {"ml milliliter millilitre": Fraction(1, 1000), "l liter litre": Fraction(1)},
    "speed": {
        "m/s": Fraction(1),
        "km/h kph kmh kilometers_per_hour": Fraction(5, 18),
        "mph mi/h miles_per_hour": Fraction(1609344, 3600000),
        "ft/s feet_per_second": Fraction(3048, 10000),
    },
    "count": {"unit units": Fraction(1)},
    "angle": {"rad radian": Fraction(1)},
}
_SCALES = {
    name: (dimension, scale)
    for dimension, table in _DIMENSIONS.items()
    for names, scale in table.items()
    for name in names.split()
}
_WITHOUT_A_SPACE = frozenset(_SCALES) - frozenset("m g s h l in".split()) | {"mph", "kph", "kmh", "Hz", "rpm"}


def is_unit(word: str) -> bool:
    """Whether a word is a unit even right after a number, as in ``5cm``."""
    return word in _WITHOUT_A_SPACE or _singular(word.lower()) in _WITHOUT_A_SPACE


def ratio_of_units(left: str, right: str) -> Fraction | None:
    """Return how many of the right unit make one of the left: 1 if one is unknown, ``None`` if they do not compare."""
    if left.startswith("mod ") and right.startswith("mod "):
        return Fraction(1) if left == right else None
    one, other = _scale(left), _scale(right)
    if one is None or other is None:
        return Fraction(1)
    return one[1] / other[1] if one[0] == other[0] else None


def _scale(unit: str) -> tuple[str, Fraction] | None:
    word, _, power = unit.strip().strip(".").replace(" / ", "/").replace(" per ", "_per_").partition("^")
    for prefix, exponent in (("square ", "2"), ("cubic ", "3"), ("sq ", "2"), ("cu ", "3")):
        if word.lower().startswith(prefix):
            word, power = word[len(prefix) :], exponent
    known = _SCALES.get(_singular(word.strip().strip(".").lower()))
    if known is None or (power and power not in {"2", "3"}):
        return None
    exponent = int(power or 1)
    return f"{known[0]}^{exponent}", known[1] ** exponent


def _singular(word: str) -> str:
    return word[:-1] if word not in _SCALES and word.endswith("s") else word
