"""Reads what `nft list ruleset` prints where no nft can be asked: into the JSON that nft would print.

The grammar is that of nft(8) as far as it is needed: tables, chains, sets and maps with elements, definitions, and in
rules the matches that the readers know. A rule is read from its beginning. Behind a word that is not understood only
its verdict is looked for, and the rule may match or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.foreign import place, plain, shown
from conntrack_py.policy.rulesets.nft_lines import FAMILIES, Word, words

_FIELDS = {
    **dict.fromkeys(("tcp", "udp", "sctp", "dccp", "udplite", "th"), ("sport", "dport")),
    "ip": ("saddr", "daddr", "protocol"),
    "ip6": ("saddr", "daddr", "nexthdr"),
    "icmp": ("type",),
    "icmpv6": ("type",),
}
_META = ("l4proto", "nfproto", "iif", "oif", "iifname", "oifname")
#: Numbers of the words for priorities, in the families of IP.
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_OPERATORS = ("==", "!=", "<", ">", "<=", ">=")
_VERDICTS = ("accept", "drop", "return", "continue")
#: Statements that decide in a way that is not told, or end what is looked at.
_LAST = ("queue", "masquerade", "snat", "dnat", "redirect", "tproxy", "synproxy", "notrack", "fwd")
#: Options of `log` with one word.
_LOG = ("prefix", "group", "queue-threshold", "snaplen", "level")
#: Tables of objects that no rule's match depends on.
_OBJECTS = ("counter", "quota", "limit", "secmark", "synproxy", "flowtable")
#: Definitions within each other.
_DEEPEST = 16


class _UnknownError(Exception):
    """Words that are not understood."""


@dataclass
class _Block:
    """The statements of a block: words, and the blocks that they begin."""

    statements: list[tuple[list[Word], _Block | None]] = field(default_factory=list)


def parse(text: str, name: str = "") -> dict[str, Any]:
    """The objects that `nft -j list ruleset` prints, of a text.

    Raises:
        PolicyError: A command is none that makes tables, chains, sets or rules; the message has its line.
    """
    found: list[dict[str, Any]] = []
    defined: dict[str, list[Word]] = {}
    for taken, block in _blocks(text, name).statements:
        said = [word.text for word in taken]
        if said[0] == "define" and len(said) > 3 and said[2] == "=":
            defined[said[1]] = _expanded(taken[3:], defined, name)
        elif said[:2] == ["flush", "ruleset"]:
            found.clear()
        else:
            _command(_expanded(taken, defined, name), block, found, (defined, name))
    return {"nftables": found}


def _expanded(taken: Sequence[Word], defined: dict[str, list[Word]], name: str) -> list[Word]:
    found: list[Word] = []
    for word in taken:
        known = defined.get(word.text[1:]) if word.text.startswith("$") else None
        if word.text.startswith("$") and known is None:
            raise PolicyError(f"{place(name, word.line)}found {shown(word.text)}, which is not defined before")
        found += [word] if known is None else [Word(one.text, word.line, one.is_end) for one in known]
        if len(found) > _MOST_WORDS:
            raise PolicyError(f"{place(name, word.line)}more than {_MOST_WORDS:,} words, with definitions")
    return found


#: Words of a statement, with those that definitions stand for.
_MOST_WORDS = 1_000_000


def _blocks(text: str, name: str) -> _Block:
    """The statements of a text, within their blocks; braces of values are words of a statement."""
    root = _Block()
    stack, taken, depth = [root], list[Word](), 0
    for word in words(text):
        begins = word.text == "{" and depth == 0 and _begins_block(taken)
        if begins and len(stack) > _DEEPEST:
            raise PolicyError(f"{place(name, word.line)}nested too deeply: more than {_DEEPEST} blocks")
        if begins:
            block = _Block()
            stack[-1].statements.append((taken, block))
            stack.append(block)
            taken = []
        elif word.is_end and word.text in "{}" and (depth or word.text == "{"):
            depth += 1 if word.text == "{" else -1
            taken.append(word)
        elif word.is_end and depth == 0:
            if taken:
                stack[-1].statements.append((taken, None))
            taken = []
            if word.text == "}":
                if len(stack) == 1:
                    raise PolicyError(f"{place(name, word.line)}found a brace that ends nothing")
                stack.pop()
        elif not word.is_end:
            taken.append(word)
    if len(stack) > 1 or depth:
        raise PolicyError(f"{place(name, None)}found no brace that ends the last block")
    if taken:
        root.statements.append((taken, None))
    return root


def _begins_block(taken: Sequence[Word]) -> bool:
    said = [word.text for word in taken]
    said = said[1:] if said[:1] in (["add"], ["create"]) else said
    if said[:1] == ["ct"]:
        return len(said) == 3 and said[1] in ("helper", "timeout", "expectation")
    return bool(said) and "=" not in said and said[0] in ("table", "chain", "set", "map", *_OBJECTS) and len(said) < 5


def _command(
    taken: list[Word],
    block: _Block | None,
    found: list[dict[str, Any]],
    context: tuple[dict[str, list[Word]], str],
) -> None:
    """A command outside of blocks."""
    said = [word.text for word in taken]
    said = said[1:] if said[0] in ("add", "create") else said
    kind, rest = said[0], said[1:]
    family = rest.pop(0) if rest and rest[0] in FAMILIES else "ip"
    given = {"family": family, "table": rest[0] if rest else ""}
    if kind == "table" and rest:
        for inner, nested in block.statements if block is not None else ():
            _of_table(_expanded(inner, *context), nested, given, found, context)
    elif kind == "chain" and len(rest) > 1:
        _chain(rest[1], block, given, found, context)
    elif kind == "rule" and len(rest) > 2:
        start = len(taken) - len(rest) + 2
        found.append({"rule": {**given, "chain": rest[1], "expr": list(_rule(taken[start:]))}})
    elif not (kind in ("delete", "destroy", "flush") and not found):
        raise PolicyError(
            f"{place(context[1], taken[0].line)}found {shown(plain(' '.join(said[:3])))}, expected what `nft list "
            "ruleset` prints; nft itself, which is not here, may read it"
        )


def _of_table(
    taken: list[Word],
    block: _Block | None,
    given: dict[str, str],
    found: list[dict[str, Any]],
    context: tuple[dict[str, list[Word]], str],
) -> None:
    said = [word.text for word in taken]
    if said[0] == "chain" and len(said) == 2:
        _chain(said[1], block, given, found, context)
    elif said[0] in ("set", "map") and len(said) == 2 and block is not None:
        _set(said[0], said[1], block, given, found, context)
    elif said[:2] == ["ct", "helper"] and len(said) == 3 and block is not None:
        inner = [[word.text for word in one] for one, _ in block.statements]
        kinds = [one[1].strip('"') for one in inner if one[0] == "type" and len(one) > 1]
        found.append({"ct helper": {**given, "name": said[2], "type": kinds[0] if kinds else ""}})


def _chain(
    name: str,
    block: _Block | None,
    given: dict[str, str],
    found: list[dict[str, Any]],
    context: tuple[dict[str, list[Word]], str],
) -> None:
    chain: dict[str, Any] = {**given, "name": name}
    found.append({"chain": chain})
    for inner, nested in block.statements if block is not None else ():
        taken = _expanded(inner, *context)
        if nested is not None:
            found.append({"rule": {**given, "chain": name, "expr": [{"xt": taken[0].text}]}})
            continue
        said = [word.text for word in taken]
        if said[0] == "type" and "hook" in said and "priority" in said:
            chain |= {"type": said[1], "hook": said[said.index("hook") + 1], "prio": _priority(said)}
        elif said[0] == "policy" and len(said) > 1:
            chain["policy"] = said[1]
        elif said[0] not in ("comment", "devices", "device", "flags", "type"):
            found.append({"rule": {**given, "chain": name, "expr": list(_rule(taken))}})


def _priority(said: list[str]) -> int:
    at = said.index("priority") + 1
    listed = "".join(said[at:]).replace(",", "")
    for word, number in _PRIORITIES.items():
        if listed.startswith(word):
            rest = listed.removeprefix(word)
            return number + (int(rest) if _is_number(rest.lstrip("+-")) else 0)
    return int(listed) if _is_number(listed.lstrip("-")) else 0


def _set(
    kind: str,
    name: str,
    block: _Block,
    given: dict[str, str],
    found: list[dict[str, Any]],
    context: tuple[dict[str, list[Word]], str],
) -> None:
    made: dict[str, Any] = {**given, "name": name, "flags": [], "elem": []}
    for inner, _ in block.statements:
        taken = _expanded(inner, *context)
        said = [word.text for word in taken]
        if said[0] == "flags":
            made["flags"] = [one for word in said[1:] for one in word.split(",") if one]
        elif said[0] == "timeout":
            made["timeout"] = 1
        elif said[:2] == ["elements", "="]:
            try:
                made["elem"] = _Values(taken[2:]).value()["set"]
            except (_UnknownError, KeyError, TypeError):
                made["flags"] = [*made["flags"], "dynamic"]  # what it holds is not known
    found.append({kind: made})


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 20


class _Values:
    """Words of a rule, read from the left."""

    def __init__(self, taken: Sequence[Word]) -> None:
        # A comma may stand beside the words that it parts.
        self.words = [part for word in taken for part in _parts(word.text)]
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        """The next word, or ""."""
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else ""

    def take(self) -> str:
        """The next word, which is behind then."""
        word = self.peek()
        self.at += 1
        return word

    def value(self) -> Any:
        """A value, a list of some, or a set; of a map pairs.

        Raises:
            _UnknownError: It is none of these.
        """
        if self.peek() == "{":
            return {"set": list(self._set())}
        first = _simple(self.take())
        listed = [first]
        while self.peek() == ",":
            self.take()
            listed.append(_simple(self.take()))
        if self.peek() in (".", "/", "&", "|"):
            raise _UnknownError
        return listed if len(listed) > 1 else first

    def _set(self) -> Iterator[Any]:
        self.take()
        while self.peek() != "}":
            value = _simple(self.take())
            if self.peek() == ":":
                self.take()
                verdict = self.take()
                if verdict in ("jump", "goto"):
                    value = [value, {verdict: {"target": self.take()}}]
                elif verdict in _VERDICTS:
                    value = [value, {verdict: None}]
                else:
                    raise _UnknownError
            yield value
            if self.peek() == ",":
                self.take()
            elif self.peek() != "}":
                raise _UnknownError
        self.take()


def _parts(word: str) -> Iterator[str]:
    if word.startswith('"') or "," not in word:
        yield word
        return
    for number, part in enumerate(word.split(",")):
        if number:
            yield ","
        if part:
            yield part


def _simple(word: str) -> Any:
    if not word or word in ("{", "}", ",", ":", ".", "(", ")", "!", "*", *_OPERATORS):
        raise _UnknownError
    if word.startswith('"'):
        return word.strip('"')
    if _is_number(word):
        return int(word)
    first, dash, last = word.partition("-")
    if dash and (_is_number(first) or "." in first or ":" in first) and last:
        return {"range": [_simple(first), _simple(last)]}
    address, slash, length = word.partition("/")
    if slash and _is_number(length) and ("." in address or ":" in address):
        return {"prefix": {"addr": address, "len": int(length)}}
    if slash:
        raise _UnknownError
    return word


def _rule(taken: Sequence[Word]) -> Iterator[dict[str, Any]]:
    """The expressions of a rule."""
    values = _Values(taken)
    while values.peek():
        start = values.at
        try:
            statement = _statement(values)
        except _UnknownError:
            yield from _rest(values.words[start:])
            return
        if statement is not None:
            yield statement


def _rest(said: list[str]) -> Iterator[dict[str, Any]]:
    """The rest of a rule behind a word that is not understood: its verdict, under a condition."""
    ends = (*_VERDICTS, *_LAST, "vmap", "reject", "jump", "goto")
    at = next((place for place, word in enumerate(said) if word in ends), len(said))
    yield {"unknown": " ".join(said[:at])}
    word = said[at] if at < len(said) else ""
    if word in ("jump", "goto") and at + 1 < len(said):
        yield {word: {"target": said[at + 1]}}
    elif word == "vmap" or word in _LAST:
        yield {"xt": " ".join(said[at:])}
    elif word:
        yield {word: None}


def _statement(values: _Values) -> dict[str, Any] | None:
    word, following = values.peek(), values.peek(1)
    if following in _FIELDS.get(word, ()):
        values.at += 2
        return _match(values, {"payload": {"protocol": word, "field": following}})
    if word in _META or (word == "meta" and following in _META):
        values.at += 1 + (word == "meta")
        return _match(values, {"meta": {"key": following if word == "meta" else word}})
    if (word, following) == ("ct", "state"):
        values.at += 2
        return _match(values, {"ct": {"key": "state"}})
    if word in ("meta", "ct") and values.peek(2) == "set":
        values.at += 3
        value = values.value()
        return {"ct helper": value} if (word, following) == ("ct", "helper") else {"mangle": None}
    values.at += 1
    if word in _VERDICTS:
        return {word: None}
    if word in ("jump", "goto") and following:
        return {word: {"target": values.take()}}
    if word == "reject":
        return {"reject": _answer(values)}
    if word in _LAST:
        values.at = len(values.words)
        return {word: None}
    return _harmless(word, values)


def _harmless(word: str, values: _Values) -> dict[str, Any] | None:
    """A statement that changes nothing about the packets that a rule is about, or takes some of them only."""
    if word == "comment":
        values.take()
        return None
    if word == "counter":
        while values.peek() in ("packets", "bytes", "name"):
            values.at += 2
        return {"counter": None}
    if word == "log":
        while values.peek() in (*_LOG, "flags"):
            if values.take() == "flags" and values.peek() in ("tcp", "ip"):
                values.take()
            values.value()
        return {"log": None}
    if word == "limit" and values.peek() == "rate":
        while (
            values.peek() in ("rate", "over", "burst", "packets", "bytes", "kbytes", "mbytes") or "/" in values.peek()
        ):
            values.at += 2 if values.peek() == "burst" else 1
            if _is_number(values.peek()) and "/" in values.peek(1):
                values.at += 1
        return {"limit": {}}
    raise _UnknownError


def _match(values: _Values, left: dict[str, Any]) -> dict[str, Any]:
    if values.peek() == "vmap":
        values.take()
        return {"vmap": {"key": left, "data": values.value()}}
    if values.peek() in (".", "&", "and", "|", "or", "map", "set", "^", "<<", ">>"):
        raise _UnknownError
    op = values.take() if values.peek() in _OPERATORS else "=="
    return {"match": {"op": op, "left": left, "right": values.value()}}


def _answer(values: _Values) -> dict[str, str] | None:
    if values.peek() != "with":
        return None
    values.take()
    kind = values.take()
    if kind == "tcp":
        values.take()
        return {"type": "tcp reset"}
    if values.peek() == "type":
        values.take()
    values.take()
    return {"type": kind}
