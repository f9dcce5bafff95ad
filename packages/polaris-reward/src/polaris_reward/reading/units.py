"""Units that answers carry: names and symbols from a list, with what they measure and how large they are.

A word that is not in the list is no unit: ``5 million``, ``3 factorial`` and ``4 minus one`` are not 5, 3 and 4.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from polaris_reward.reading.counted import CHINESE, COUNTED, LIKE_COUNTED, QUALIFIERS, TRAILING
from polaris_reward.reading.vocabulary import LARGE_NUMBERS

Dimension = tuple[tuple[str, int], ...]
"""Base units with their powers, sorted; those that cancel are left out."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a quantity is measured in."""

    dimension: Dimension
    scale: Fraction = Fraction(1)
    """How many of the base units one of these is."""

    is_known: bool = True
    """Words that are no unit are kept here, too: they never vanish."""

    def times(self, other: "Unit", power: int = 1) -> "Unit":
        """Return the product with a power of another unit."""
        powers = dict(self.dimension)
        for name, exponent in other.dimension:
            powers[name] = powers.get(name, 0) + power * exponent
        dimension = tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent))
        return Unit(dimension, self.scale * other.scale**power, self.is_known and other.is_known)


ONE = Unit(())

_PIECE = re.compile(r"\s*([A-Za-zµμΩÅ\u212b]+\.?|[\u3400-\u9fff]+|[$€£¥₹¢]|[0-9]|[/*^()-])\s*")
_GRAMMAR = {
    *"degree degrees deg per a an of and or in square sq cubic cu squared cubed".split(),
    *QUALIFIERS, *TRAILING, *LARGE_NUMBERS,
}  # fmt: skip

# Names and symbols (with capitals as they are), then the value in what was defined before; `+` takes SI prefixes.
_TABLE = """
+m +meter +metre = m
+g +gram +gramme = 1/1000 kg
+s +sec +second = s
+A +ampere +amp = A
+K +kelvin = K
+mol +mole = mol
+cd +candela = cd
min minute = 60 s
h hr hour = 3600 s
day = 86400 s
wk week = 604800 s
fortnight = 1209600 s
mo month = month
yr year = 12 month
decade = 120 month
century = 1200 month
+Hz +hertz = s^-1
+N +newton = kg m s^-2
+Pa +pascal = kg m^-1 s^-2
hPa = 100 kg m^-1 s^-2
+J +joule = kg m^2 s^-2
+W +watt = kg m^2 s^-3
+C +coulomb = A s
+V +volt = kg m^2 s^-3 A^-1
+F +farad = A^2 s^4 kg^-1 m^-2
+Ω +ohm = kg m^2 s^-3 A^-2
+S +siemens = A^2 s^3 kg^-1 m^-2
+Wb +weber = kg m^2 s^-2 A^-1
+T +tesla = kg s^-2 A^-1
+H +henry = kg m^2 s^-2 A^-2
lm lumen = cd sr
lx lux = cd sr m^-2
+Bq +becquerel = s^-1
+Gy +gray = m^2 s^-2
+Sv +sievert = Sv
sr steradian = sr
rad radian = rad
mrad = 1/1000 rad
arcmin arcminute = arcmin
arcsec arcsecond = 1/60 arcmin
rev revolution = rev
rpm RPM = 1/60 rev s^-1
+L +l +liter +litre = 1/1000 m^3
dL dl = 1/10000 m^3
dm = 1/10 m
cc = 1/1000000 m^3
ha hectare = 10000 m^2
t tonne = 1000 kg
Å \u212b angstrom = 1/10000000000 m
micron = 1/1000000 m
+bar = 100000 kg m^-1 s^-2
atm atmosphere = 101325 kg m^-1 s^-2
torr Torr = 20265/152 kg m^-1 s^-2
mmHg = mmHg
psi = psi
+cal +calorie Cal = 4184/1000 kg m^2 s^-2
+eV +electronvolt = 801088317/5000000000000000000000000000 kg m^2 s^-2
+Wh = 3600 kg m^2 s^-2
hp horsepower = hp
erg = 1/10000000 kg m^2 s^-2
dyn dyne = 1/100000 kg m s^-2
G gauss Gauss = 1/10000 kg s^-2 A^-1
D debye Debye = debye
M molar = 1000 mol m^-3
mM = mol m^-3
Da dalton amu u = dalton
dB decibel = decibel
in inch = 254/10000 m
ft foot = 3048/10000 m
yd yard = 9144/10000 m
mi mile = 1609344/1000 m
kn knot = 463/900 m s^-1
mph = 1397/3125 m s^-1
kph kmh kmph = 5/18 m s^-1
fps = 3048/10000 m s^-1
mpg = mile_per_gallon
acre = 316160658/78125 m^2
lb lbs pound = 45359237/100000000 kg
oz ounce = 45359237/1600000000 kg
stone = 635029318/100000000 kg
ton = ton
gal gallon = 473176473/125000000000 m^3
qt quart = 473176473/500000000000 m^3
pt pint = 473176473/1000000000000 m^3
cup = 473176473/2000000000000 m^3
fl_oz = 473176473/16000000000000 m^3
tbsp tablespoon = 473176473/32000000000000 m^3
tsp teaspoon = 473176473/96000000000000 m^3
bushel = bushel
furlong = 201168/1000 m
+pc +parsec = pc
+ly lightyear = 9460730472580800 m
AU au = 149597870700 m
M_odot = solar_mass
L_odot = solar_luminosity
R_odot = solar_radius
M_oplus = earth_mass
R_oplus = earth_radius
degC Celsius celsius centigrade = degC
degF Fahrenheit fahrenheit = degF
bit = bit
B byte = 8 bit
KB kB kilobyte = 8000 bit
MB megabyte = 8000000 bit
GB gigabyte = 8000000000 bit
TB terabyte = 8000000000000 bit
px pixel = pixel
unit = unit
USD $ dollar buck = USD
cent ¢ = 1/100 USD
EUR € euro = EUR
GBP £ = GBP
INR ₹ Rs rupee = INR
JPY yen = JPY
CNY RMB yuan = CNY
¥ = yen_or_yuan
peso = peso
KRW won = KRW
CHF franc = CHF
RUB ruble rouble = RUB
CAD = CAD
AUD = AUD
"""
_PREFIXES = {
    "T": 12, "G": 9, "M": 6, "k": 3, "c": -2, "m": -3, "µ": -6, "n": -9, "p": -12, "f": -15, "tera": 12, "giga": 9,
    "mega": 6, "kilo": 3, "hecto": 2, "deci": -1, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "pico": -12,
    "femto": -15,
}  # fmt: skip
_LOWER_TO_SYMBOL = {one.lower(): one for one in "kg cm mm km mL mph lbs lb oz ft yd kWh Hz kHz MHz GHz hr min".split()}
"""Symbols that are clear in any case, as in ``KM`` and ``Kg``."""
_IRREGULAR = {"feet": "foot", "inches": "inch", "centuries": "century", "henries": "henry", "hertz": "hertz"}
_PLURAL_SYMBOLS = frozenset("hr yr lb yd mi oz wk".split())
_WITHOUT_A_SPACE = frozenset(
    "mm cm km mg kg lb lbs oz ft yd mi mL ml hr hrs min sec mph kph kmh Hz kHz MHz GHz rpm kJ kN kW kPa kWh MB GB cc "
    "rad USD inch inches feet foot hours hour minutes minute seconds second days day weeks months years meters miles "
    "pounds dollars cents units".split()
)


def is_sure_unit(word: str) -> bool:
    """Whether a word is a unit even right after a number, as in ``5cm``; other letters there are factors."""
    return word in _WITHOUT_A_SPACE


@lru_cache(maxsize=4096)
def unit_named(word: str) -> Unit | None:
    """Return the unit that a word or a symbol stands for, in singular or plural."""
    word = CHINESE.get(word, word)
    found = _UNITS.get(word) or _UNITS.get(_LOWER_TO_SYMBOL.get(word.lower(), ""))
    if found is None and word[-1:] in {"2", "3"} and (length := _UNITS.get(word[:-1])) is not None:
        return ONE.times(length, int(word[-1]))
    # Names are written in any case and have a plural; letters in capitals are more likely a product.
    if found is None and len(word) > 2 and not (word.isupper() and len(word) < 5):
        lower = word.lower()
        singular = _IRREGULAR.get(lower) or lower.removesuffix("s")
        is_name = len(singular) > 2 or singular in _PLURAL_SYMBOLS
        found = _UNITS.get(lower) or (_UNITS.get(singular) if is_name else None) or _counted(lower)
    return found


def unit_pieces(text: str) -> list[str]:
    """Cut words, signs and digits of a unit apart; nothing if some of them cannot be part of one."""
    text = re.sub(r"\\(?:cdot|times)(?![A-Za-z])|[·⋅×]", "*", text).replace(r"\mu", "µ").replace(r"\Omega", "Ω")
    pieces: list[str] = []
    at, text, is_open = 0, text.strip().rstrip("."), False
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            return []
        piece, at = found[1], found.end()
        pieces.append(piece)
        is_open |= piece == "of"
        if piece[0].isalpha() and not is_open and piece.lower() not in _GRAMMAR and unit_named(piece) is None:
            return []
    # Grammar alone, such as `a` or `in`, is no unit.
    is_unit = any(piece[0].isalpha() and (unit_named(piece) or piece.lower() in LARGE_NUMBERS) for piece in pieces)
    return pieces if is_unit and not pieces[0][0].isdigit() else []


def ratio_of_units(left: Unit, right: Unit) -> Fraction | None:
    """Return how many of the right unit make one of the left; ``None`` if they measure different things."""
    return left.scale / right.scale if left.dimension == right.dimension else None


def _counted(word: str) -> Unit | None:
    for one in (word, LIKE_COUNTED.get(word, word), word.removesuffix("s"), word.removesuffix("es"), word[:-3] + "y"):
        if one in COUNTED:
            return Unit(((one, 1),))
    return None


def _read_table() -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for line in _TABLE.strip().splitlines():
        names, _, meaning = line.partition(" = ")
        unit = ONE
        for part in meaning.split():
            base, _, power = part.partition("^")
            if base[0].isdigit():
                unit = Unit(unit.dimension, unit.scale * Fraction(base))
            else:
                unit = unit.times(Unit(((base, 1),)), int(power or 1))
        for name in names.split():
            plain = name.removeprefix("+")
            units[plain] = unit
            if name != plain:
                is_word = len(plain) > 3 or plain in {"sec", "amp", "ohm", "bar", "cal"}
                for prefix, exponent in _PREFIXES.items():
                    if (len(prefix) > 2) == is_word or plain in {"bar", "cal", "sec"}:
                        units.setdefault(prefix + plain, Unit(unit.dimension, unit.scale * Fraction(10) ** exponent))
    return units


_UNITS = _read_table()
# The time of day is no length.
del _UNITS["pm"]
RADIAN = _UNITS["rad"]
