"""Typeset the equations of docstrings, such as ``y = x / (1 + |x|)``, as MathML.

Browsers draw MathML natively, so the pages need no script. Code that is not an equation of this
small language stays code: :func:`mathml` returns `None`.

The grammar, in which adjacent atoms are a product:

    relation = sum { "=" sum }
    sum      = ["-"] product { ("+" | "-") product }
    product  = atoms { ("/" | "·" | "*") atoms }
    atom     = number | name | "(" list ")" | "[" list "]" | "|" sum "|" | "√" atom
    name     = letter or word, followed by "ₜ", "²", "_c,k" or "^(2i)"
"""

import re
from html import escape

__all__ = ["mathml", "rows"]

FUNCTIONS = {"cos", "exp", "log", "max", "mean", "min", "sigmoid", "sign", "sin", "softmax", "tanh"}
WORDS = {"alpha", "batch", "beta", "decay", "dilation", "epsilon", "factor", "features", "final"}
WORDS |= {"fan_in", "fan_out", "gain", "gamma", "ids", "initial", "iterations", "kept"}
WORDS |= {"learning_rate", "limit", "lr", "momentum", "momentum_decay", "old", "output", "power"}
WORDS |= {"rate", "rising", "running", "scale", "size", "slope", "std", "step", "steps", "table"}
WORDS |= {"threshold", "time", "true", "value", "variance", "weight_decay"}
WORDS |= FUNCTIONS
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ᵢⱼₖₙₜ", "0123456789+-ijknt", strict=True))
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁱᵗˣⁿᵀ", "0123456789+-itxnT", strict=True))
RELATIONS = {"=": "=", "+=": "+=", "≤": "≤", "≥": "≥", "<": "&lt;", ">": "&gt;", "~": "∼", ":": ":"}
BRACKETS = {"(": ")", "[": "]", "⟨": "⟩", "|": "|", "‖": "‖"}
# Signs that mark an equation without a sign of equality; code does not contain them.
SIGNS = re.compile(r"[~·√ΣΠ½‖|≤≥⟨…Α-Ωα-ω" + "".join(SUBSCRIPTS) + "".join(SUPERSCRIPTS) + "]")
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?:\.\d+)?|½)|(?P<name>[A-Za-z]+(?:_[a-z]{2,})*|[Α-Ωα-ω])"
    r"|(?P<low>_[a-z0-9](?:,[a-z0-9])*(?![a-z])|[" + "".join(SUBSCRIPTS) + "]+)"
    r"|(?P<high>[" + "".join(SUPERSCRIPTS) + "]+)"
    r"|(?P<sign>\+=|[-+=/·*√^()\[\]|‖⟨⟩,…≤≥<>~:])"
)


def mathml(text: str, display: bool = False) -> str | None:
    """Return the MathML of an equation, or `None` if the string is not an equation."""
    text = " ".join(text.split())
    if not (" = " in text or " += " in text or SIGNS.search(text)):
        return None
    try:
        tokens = list(_tokens(text))
        reader = _Reader(tokens)
        body = reader.relation()
        reader.end()
    except ValueError:
        return None
    if len(tokens) < 2:
        return None
    mode = ' display="block"' if display else ""
    return f'<math{mode} displaystyle="true" alttext="{escape(text)}"><mrow>{body}</mrow></math>'


def rows(block):
    """Return the equations of a block, a list per line, or `None` if a line is not an equation.

    A line may contain several equations with at least four spaces between them.
    """
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    typeset = [[mathml(part) for part in re.split(r" {4,}", line)] for line in lines]
    return typeset if typeset and all(html for row in typeset for html in row) else None


def _tokens(text):
    """Yield pairs of kind and string, without spaces."""
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"unexpected character {text[position]!r} in an equation")
        kind, value = match.lastgroup, match.group()
        position = match.end()
        if value == "=" and text[match.start() - 1] != " ":
            raise ValueError("a keyword argument")
        if kind == "name" and len(value) > 1 and value not in WORDS:
            if len(value) > 2:
                raise ValueError(f"{value} is not a known word of equations")
            yield from (("name", letter) for letter in value)
        elif kind != "space":
            yield kind, value


class _Reader:
    """Read tokens from left to right; each method reads one rule and returns its MathML."""

    def __init__(self, tokens):
        self.tokens = [*tokens, ("end", "")]
        self.position = 0
        self.closing = []
        self.inline = False

    @property
    def next(self):
        return self.tokens[self.position]

    def take(self, *values):
        """Return and consume the next token, if it is one of these signs."""
        kind, value = self.next
        if kind == "sign" and value in values:
            self.position += 1
            return value
        return None

    def end(self):
        if self.next[0] != "end":
            raise ValueError(f"unexpected {self.next[1]}")

    def relation(self):
        parts = ["" if self.next == ("sign", ":") else self.sum()]
        while sign := self.take(*RELATIONS):
            parts += [f"<mo>{RELATIONS[sign]}</mo>", self.sum()]
        return "".join(parts)

    def sum(self):
        sign = self.take("-", "+")
        parts = [f'<mo form="prefix">{_minus(sign)}</mo>'] if sign else []
        parts.append(self.product())
        while sign := self.take("-", "+"):
            parts += [f"<mo>{_minus(sign)}</mo>", self.product()]
        return "".join(parts)

    def product(self):
        start = self.position
        parts, slashes = self.factors()
        if slashes and not self.inline:
            # Fractions within a fraction are written with a slash.
            self.position = start
            self.inline = True
            parts, slashes = self.factors()
            self.inline = False
            top, (bottom, *rest) = parts[: slashes[-1]], parts[slashes[-1] + 1 :]
            top = [atom for part in top for atom in part]
            parts = [[f"<mfrac>{_row(_bare(top))}{_row(_bare(bottom))}</mfrac>"], *rest]
        return "".join(atom for part in parts for atom in part)

    def factors(self):
        """Return lists of atoms with the signs between them, and the indices of the slashes."""
        parts, slashes = [self.atoms()], []
        while sign := self.take("/", "·", "*"):
            if sign == "/":
                slashes.append(len(parts))
            parts += [["<mo>/</mo>" if sign == "/" else "<mo>·</mo>"], self.atoms()]
        return parts, slashes

    def atoms(self):
        """Return the list of adjacent atoms, with the spaces between them."""
        found = []
        before = None
        while (kind := self.next[0]) in ("number", "name") or self.next[1] in self.opening():
            name = self.next[1]
            atom = self.atom()
            spaced = found and (before in FUNCTIONS or name in FUNCTIONS)
            wordy = found and kind == "name" and (len(name) > 1 or len(before or "") > 1)
            if (spaced or wordy) and not atom.startswith("<mrow><mo>("):
                found.append('<mspace width="0.17em"/>')
            found.append(atom)
            before = name
        if not found:
            raise ValueError(f"expected a number, a name or a bracket, not {self.next[1]!r}")
        return found

    def opening(self):
        signs = {*BRACKETS, "√", "…"}
        return signs - {self.closing[-1]} if self.closing else signs

    def atom(self):
        kind, value = self.next
        self.position += 1
        if kind == "number":
            base = f"<mn>{value}</mn>"
        elif kind == "name":
            tag = "mo" if value in "ΣΠ" else "mi"
            text = {"Σ": "∑", "Π": "∏"}.get(value, value) if tag == "mo" else value
            base = f"<{tag}>{text.replace('_', ' ')}</{tag}>"
            if tag == "mo":
                base = base.replace("<mo>", '<mo movablelimits="false" stretchy="false">')
        elif value == "√":
            return f"<msqrt>{''.join(_bare([self.atom()]))}</msqrt>"
        elif value == "…":
            return "<mo>…</mo>"
        else:
            base = self.bracket(value)
        return self.scripts(base)

    def bracket(self, opening):
        close = BRACKETS[opening]
        self.closing.append(close)
        parts = [self.relation()] if self.next[1] != close else []
        while self.take(","):
            parts.append(self.relation())
        self.closing.pop()
        if not self.take(close):
            raise ValueError(f"{opening} is not closed")
        inside = '<mo separator="true">,</mo>'.join(parts)
        fence = '<mo fence="true" form="{}">{}</mo>'
        left, right = fence.format("prefix", opening), fence.format("postfix", close)
        return f"<mrow>{left}{inside}{right}</mrow>"

    def scripts(self, base):
        low = high = None
        while True:
            kind, value = self.next
            if kind == "low" and low is None:
                self.position += 1
                low = _script(value.removeprefix("_"), SUBSCRIPTS)
            elif kind == "high" and high is None:
                self.position += 1
                high = _script(value, SUPERSCRIPTS)
            elif self.take("^"):
                outside, self.inline = self.inline, True
                high = _row(_bare([self.atom()]))
                self.inline = outside
            else:
                break
        if low and high:
            return f"<msubsup>{base}{low}{high}</msubsup>"
        if low or high:
            tag = "msub" if low else "msup"
            return f"<{tag}>{base}{low or high}</{tag}>"
        return base


def _minus(sign):
    return "−" if sign == "-" else sign


def _script(text, letters):
    plain = "".join(letters.get(letter, letter) for letter in text)
    parts = re.findall(r"\d+|.", plain)
    tags = ["mn" if p.isdigit() else "mi" if p.isalpha() else "mo" for p in parts]
    pairs = zip(tags, parts, strict=True)
    return _row([f"<{tag}>{_minus(part)}</{tag}>" for tag, part in pairs])


def _row(atoms):
    return f"<mrow>{''.join(atoms)}</mrow>"


PARENTHESES = re.compile(
    r'<mrow><mo fence="true" form="prefix">\(</mo>(.*)<mo [^>]*>\)</mo></mrow>'
)


def _bare(atoms):
    """Remove parentheses that a fraction or a root makes redundant."""
    if len(atoms) == 1 and (match := PARENTHESES.fullmatch(atoms[0])):
        return [match.group(1)]
    return atoms
