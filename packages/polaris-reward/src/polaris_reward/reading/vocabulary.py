"""The words of mathematics: commands of LaTeX, and names that are written without a backslash."""

GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega ell hbar Pi odot "
    "oplus star perp parallel dagger top"
).split()
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot asin acos atan sinh cosh tanh coth exp ln log lg sqrt cbrt "
    "abs floor ceil ceiling gcd lcm min max det tg ctg arctg arcctg cosec sech csch arcsinh arccosh arctanh arsinh "
    "arcosh artanh asinh acosh atanh".split()
)
CONNECTIVES = frozenset({"and", "or"})
SYMBOLS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "pm": "pm", "mp": "mp", "le": "<=", "leq": "<=",
    "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">", "ne": "!=", "neq": "!=",
    "approx": "approx", "cup": "cup", "bigcup": "cup", "cap": "cap", "setminus": "setminus", "backslash": "setminus",
    "in": "in", "notin": "notin", "infty": "infinity", "infinity": "infinity", "inf": "infinity", "oo": "infinity",
    "pi": "pi", "emptyset": "emptyset", "varnothing": "emptyset", "bmod": "mod", "mod": "mod", "pmod": "pmod",
    "equiv": "equiv", "cong": "equiv", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "lfloor": "lfloor",
    "rfloor": "rfloor", "lceil": "lceil", "choose": "choose", "rceil": "rceil", "langle": "(", "rangle": ")",
    "lbrace": "\\{", "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "ldots": "dots", "dots": "dots", "cdots": "dots",
    "circ": "circ", "degree": "degree", "colon": ":", "sum": "sum", "int": "int", "prod": "prod", "frac": "frac",
    "binom": "binom", "angle": "angle", "triangle": "angle", "percent": "%", "pct": "%", "percentage": "%",
    "degrees": "degree", "deg": "degree", "R": "reals",
}  # fmt: skip
LARGE_NUMBERS = {
    "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "lakh": 10**5, "crore": 10**7, "万": 10**4, "亿": 10**8,
}  # fmt: skip
_ELSEWHERE = frozenset(
    "iint iiint oint lim limsup liminf sup inf partial nabla leftarrow rightarrow leftrightarrow longrightarrow "
    "Rightarrow Leftarrow Leftrightarrow implies iff forall exists nexists subset subseteq supset supseteq propto sim "
    "simeq arg deg dim ker hom Pr land lor lnot neg wedge vee otimes coprod mapsto colon star".split()
)
"""Commands without a meaning here that begin like others."""

PLAIN_ONLY = frozenset("inf infinity oo percent pct percentage degree degrees deg mod pi".split())
IGNORED = frozenset(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle limits nolimits "
    "quad qquad thinspace enspace space hfill noindent boldmath".split()
)
FONTS = frozenset(
    "mathbf boldsymbol bm mathit mathsf mathtt mathcal mathscr mathfrak underline boxed fbox pmb mathop ensuremath bf "
    "it rm".split()
)
SHORT_HYPERBOLICS = {
    "sh": "sinh", "ch": "cosh", "th": "tanh", "cth": "coth", "arsh": "asinh", "arch": "acosh", "arth": "atanh",
    "arcsh": "asinh", "arcch": "acosh", "arcth": "atanh",
}  # fmt: skip
ACCENTS = {
    "bar": "bar", "overline": "bar", "hat": "hat", "widehat": "hat", "tilde": "tilde", "widetilde": "tilde",
    "vec": "vec", "overrightarrow": "vec", "overleftarrow": "overleftarrow", "check": "check", "breve": "breve",
    "mathring": "ring", "acute": "acute", "grave": "grave", "dot": "dot", "ddot": "ddot", "wideparen": "arc",
    "overarc": "arc", "widearc": "arc",
}  # fmt: skip
"""Part of the symbol they stand over: the mean, the conjugate or the estimate is not the thing itself."""
TEXTS = frozenset("text textrm textbf textit textsf mbox hbox mathrm operatorname textnormal emph".split())


def leading_function(word: str) -> str | None:
    """Return the function that a run of letters such as ``sinx`` begins with."""
    for length in range(6, 1, -1):
        start, num_left = word[:length], len(word) - length
        if start in FUNCTIONS and 1 <= num_left <= 2 and start not in {"min", "max", "det", "abs", "lg"}:
            return start
    return None


def glued_command(name: str) -> str | None:
    """Return the longest known command that a name begins with, if only a few letters are left."""
    if name in _ELSEWHERE:
        return None
    for length in range(len(name) - 1, max(1, len(name) - 4), -1):
        if name[:length] in SYMBOLS or name[:length] in GREEK:
            return name[:length]
    return None
