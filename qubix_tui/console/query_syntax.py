"""The query language: its words, its tree, and the way between the two. It knows no rows and no Textual.

::

    query      = alternative { "or" alternative }
    alternative = term { [ "and" ] term }
    term       = ( "-" | "not" ) term | "(" query ")" | test | text
    test       = field ":" text | field ":*" | field compare number
    compare    = ">" | ">=" | "<" | "<=" | "="

A text is a run of characters without blanks and parentheses, or anything in double quotes (a backslash before
a quote or a backslash in it). Case never matters. Which fields there are, and of what kind, is handed in.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MOST_NESTED: Final = 40
"""How deep terms may stand in each other: more is no question that a person asks."""

KEYWORDS: Final = frozenset({"and", "or", "not"})


class QueryError(ValueError):
    """A query that can't be understood.

    Args:
        message: What is wrong, and what would be right.
        start: Where in the text the part at fault begins.
        end: Where it ends.
        term_end: Where the term that has it ends, if that is further.
    """

    def __init__(self, message: str, start: int, end: int, term_end: int = 0) -> None:
        super().__init__(message)
        self.start = start
        self.end = end
        self.term_end = max(end, term_end)


class Kind(NamedTuple):
    """What a field holds."""

    is_number: bool
    meaning: str
    """What it is, in a few words."""
    units: tuple[str, ...] = ()
    """What may stand behind a number, the usual one first."""
    values: tuple[str, ...] = ()
    """All that a text can be, where those are few."""


Vocabulary = Mapping[str, Kind]
"""The fields by name."""


@dataclass(frozen=True, slots=True)
class Word:
    """A text that is looked for in what a person would look for it in."""

    text: str


@dataclass(frozen=True, slots=True)
class Match:
    """A field has a text in it."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """A field has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class Compare:
    """A field's number compares to another; never where it is not known."""

    field: str
    operator: str
    number: float


@dataclass(frozen=True, slots=True)
class Not:
    """A term does not hold."""

    term: "Node"


@dataclass(frozen=True, slots=True)
class Every:
    """All of some terms hold; also where there are none."""

    terms: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of some terms holds."""

    terms: tuple["Node", ...]


Node = Word | Match | Known | Compare | Not | Every | Either

EVERYTHING: Final = Every(())
"""What an empty query asks for."""


class _Token(NamedTuple):
    kind: str
    """``(``, ``)``, ``-``, a keyword, ``word``, ``field`` or ``end``."""
    start: int
    end: int
    text: str = ""
    field: str = ""
    operator: str = ""
    is_quoted: bool = False


_BLANK: Final = re.compile(r"\s*")
_FIELD: Final = re.compile(r"([A-Za-z_]+)(>=|<=|[:<>=])")
_BARE: Final = re.compile(r'[^\s()"]*')
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NUMBER: Final = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.ASCII)


def parse(text: str, vocabulary: Vocabulary) -> Node:
    """Read a query.

    Raises:
        QueryError: It can't be understood.
    """
    return _Parser(_tokens(text), vocabulary).query()


def to_text(node: Node) -> str:
    """Write a query so that `parse` gives the same again."""
    match node:
        case Word(text):
            return _quoted(text, plain=_is_plain_word(text))
        case Match(field, text):
            return f"{field}:{_quoted(text, plain=text != '*' and bool(text))}"
        case Known(field):
            return f"{field}:*"
        case Compare(field, operator, number):
            return f"{field}{operator}{_number_text(number)}"
        case Not(term):
            return f"-{_grouped(term, to_text(term))}"
        case Every(terms):
            return " ".join(_grouped(term, to_text(term)) for term in terms)
        case Either(terms):
            parts = (f"({to_text(term)})" if isinstance(term, Either) else to_text(term) for term in terms)
            return " or ".join(parts)


def _grouped(node: Node, text: str) -> str:
    return f"({text})" if isinstance(node, Every | Either) else text


def _quoted(text: str, *, plain: bool) -> str:
    if plain and _BARE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_plain_word(text: str) -> bool:
    return bool(text) and text not in KEYWORDS and not text.startswith("-") and not _FIELD.match(text)


def _number_text(number: float) -> str:
    return repr(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    at = 0
    while True:
        blank = _BLANK.match(text, at)
        assert blank is not None
        at = blank.end()
        if at == len(text):
            tokens.append(_Token("end", at, at))
            return tokens
        token = _token(text, at)
        tokens.append(token)
        at = token.end


def _token(text: str, at: int) -> _Token:
    character = text[at]
    if character in "()":
        return _Token(character, at, at + 1)
    if character == "-":
        return _Token("-", at, at + 1)
    field = _FIELD.match(text, at)
    name, operator = ("", "") if field is None else (field[1].lower(), field[2])
    begin = at if field is None else field.end()
    if text[begin : begin + 1] == '"':
        quoted = _QUOTED.match(text, begin)
        if quoted is None:
            raise QueryError('this quote has no end: put a " behind the text', begin, len(text))
        value, end = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end()
    else:
        bare = _BARE.match(text, begin)
        assert bare is not None
        value, end = bare[0], bare.end()
    is_quoted = text[begin : begin + 1] == '"'
    value = value.lower()
    if field is not None:
        return _Token("field", at, end, value, name, operator, is_quoted)
    if value in KEYWORDS and not is_quoted:
        return _Token(value, at, end)
    return _Token("word", at, end, value, is_quoted=is_quoted)


class _Parser:
    def __init__(self, tokens: Sequence[_Token], vocabulary: Vocabulary) -> None:
        self._tokens = tokens
        self._at = 0
        self._vocabulary = vocabulary
        self._depth = 0

    def query(self) -> Node:
        if self._next.kind == "end":
            return EVERYTHING
        node = self._either()
        if self._next.kind == ")":
            raise QueryError("nothing was opened that this ) could close", self._next.start, self._next.end)
        assert self._next.kind == "end"
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _either(self) -> Node:
        terms = [self._every()]
        while self._next.kind == "or":
            self._take()
            terms.append(self._every())
        return terms[0] if len(terms) == 1 else Either(tuple(terms))

    def _every(self) -> Node:
        terms = [self._term()]
        while self._next.kind not in {"end", "or", ")"}:
            if self._next.kind == "and":
                self._take()
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else Every(tuple(terms))

    def _term(self) -> Node:
        token = self._next
        if token.kind in {"end", ")"}:
            raise self._missing_term()
        if token.kind in {"and", "or"}:
            words = f'{token.kind} needs a term before it; as a word: "{token.kind}"'
            raise QueryError(words, token.start, token.end)
        if self._depth == MOST_NESTED:
            raise QueryError(f"more than {MOST_NESTED} terms in each other", token.start, token.end)
        self._take()
        self._depth += 1
        node = self._begun(token)
        self._depth -= 1
        return node

    def _begun(self, token: _Token) -> Node:
        match token.kind:
            case "-" | "not":
                return Not(self._term())
            case "(":
                return self._group(token)
            case "field":
                return self._field(token)
            case _:
                if not token.text:
                    raise QueryError("there is no text in these quotes", token.start, token.end)
                return Word(token.text)

    def _missing_term(self) -> QueryError:
        if self._at == 0:
            return QueryError("nothing was opened that this ) could close", self._next.start, self._next.end)
        last = self._tokens[self._at - 1]
        return QueryError(f"{last.kind} needs a term behind it", last.start, last.end)

    def _group(self, opened: _Token) -> Node:
        if self._next.kind == ")":
            raise QueryError("there is nothing in these parentheses", opened.start, self._next.end)
        node = self._either()
        if self._next.kind != ")":
            raise QueryError("this ( is not closed: put a ) behind it", opened.start, opened.end)
        self._take()
        return node

    def _field(self, token: _Token) -> Node:
        kind = self._vocabulary.get(token.field)
        name_end = token.start + len(token.field)
        if kind is None:
            close = difflib.get_close_matches(token.field, self._vocabulary, 1)
            advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(self._vocabulary)}"
            raise QueryError(f"no field {token.field}; {advice}", token.start, name_end, token.end)
        if token.operator == ":":
            return self._match(token, kind)
        if not kind.is_number:
            raise QueryError(
                f"{token.field} is a text: {token.field}:{token.text or '…'}", token.start, token.end
            )
        return Compare(token.field, token.operator, self._number(token, kind))

    def _match(self, token: _Token, kind: Kind) -> Node:
        if token.text == "*" and not token.is_quoted:
            return Known(token.field)
        if kind.is_number:
            raise QueryError(
                f"{token.field} is a number: {token.field}>{token.text or '0'}", token.start, token.end
            )
        if not token.text:
            raise QueryError(
                f"{token.field}: needs a text, or * for any that is known", token.start, token.end
            )
        if kind.values and not any(token.text in value for value in kind.values):
            raise QueryError(
                f"no {token.field} is {token.text}; there are {', '.join(kind.values)}",
                token.start,
                token.end,
            )
        return Match(token.field, token.text)

    def _number(self, token: _Token, kind: Kind) -> float:
        unit = next((unit for unit in kind.units if token.text.endswith(unit.lower())), "")
        text = token.text.removesuffix(unit.lower())
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(number):
            unit = f" ({kind.units[0]})" if kind.units else ""
            raise QueryError(f"{token.field}{token.operator} needs a number{unit}", token.start, token.end)
        return number
