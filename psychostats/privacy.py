"""What could identify people: columns by their names and by what they hold.

In: cells as a file has them.  Out: one finding a column, of which no value is shown whole.  Knows no formats of files,
no models, and nothing of what an analysis needs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from psychostats.cells import Raw, parse_text
from psychostats.columns import COLUMNS
from psychostats.errors import DataError, Fault
from psychostats.identity import IPV4, MAIL, platform_ids, redact

_REMOVE = "remove the column before the file is shared; no analysis needs it"
_REPLACE = "check, fit and report replace such ids by pseudonyms; remove them from the file before it is shared"
_JUDGE = "read it, and remove what tells who somebody is before the file is shared"


@dataclass(frozen=True)
class Finding:
    """A column that could identify people.

    Parameters
    ----------
    column
        Its name, without platforms' ids.
    why
        What it seems to hold, in words.
    example
        One value with its middle masked.
    cells
        How many cells hold such values.
    advice
        What to do.
    """

    column: str
    why: str
    example: str
    cells: int
    advice: str


def find_identifying(raw: Raw, *, participant: str | None = None) -> list[Finding]:
    """Return what could identify people, a finding a column, in the file's order.

    Parameters
    ----------
    raw
        Cells as `psychostats.recordings.read_recordings` gives them.
    participant
        The file's column of participants, if it is not called as such columns usually are.

    Raises
    ------
    DataError
        If nothing could be read.
    """
    if not raw.rows:
        raise DataError(Fault(redact(fault.message)) for fault in raw.faults)
    people = participant if participant in raw.cells else _people_column(raw.cells)
    held = raw.cells.get(people or "", [])
    found = (_judge(name, cells, held if name != people else []) for name, cells in raw.cells.items())
    return [one for one in found if one]


def describe_findings(found: Sequence[Finding]) -> str:
    """Return the findings as text, a column a paragraph."""
    return "\n".join(
        f"{one.column}: {one.why} ({one.cells:,} cell{'s' * (one.cells != 1)}, such as {one.example}); {one.advice}."
        for one in found
    )


def mask(text: str) -> str:
    """Return a value with its middle masked, and with it its length: of short ones one letter is left, or none."""
    shown = 2 if len(text) > 8 else 1 if len(text) > 4 else 0
    return f"{text[:shown]}***{text[len(text) - shown :]}".replace("\n", " ")


def _judge(name: str, cells: Sequence[object], people: Sequence[object]) -> Finding | None:
    words = [parse_text(cell) for cell in cells]
    counts = Counter(word for word in words if word)
    if not counts:
        return None
    reasons = []
    for why, advice, holds in _CONTENTS:
        hits = {word: number for word, number in counts.items() if holds(word)}
        if hits:
            reasons.append((why, advice, hits))
    reasons += [(why, advice, dict(counts)) for why, advice in _of_whole_columns(name, counts, words, people, reasons)]
    named = _named(name, counts)
    if named:
        reasons.insert(0, (f"the name says {named}", _REMOVE, dict(counts)))
    if not reasons:
        return None
    every = {word: number for _, _, hits in reasons for word, number in hits.items()}
    example = next(iter(reasons[-1][2] if named and len(reasons) > 1 else reasons[0][2]))
    why = "; ".join(dict.fromkeys(one for one, _, _ in reasons))
    advice = next((advice for _, advice, _ in reasons if advice == _REPLACE), reasons[0][1])
    return Finding(redact(name), why, mask(example), sum(every.values()), advice)


# Names -----------------------------------------------------------------------------------------------------------

# What a column is called, as words that stand beside each other in its name: English and German.
_NAMES: Mapping[str, str] = {
    "a person's name": "name|full name|first name|last name|given name|family name|middle name|maiden name|real name|"
    "user name|nick name|participant name|subject name|student name|patient name|worker name|surname|firstname|"
    "lastname|fullname|username|nickname|realname|vorname|nachname|familienname|benutzername|spitzname",
    "an e-mail address": "email|e mail|mail|emailaddress|mailadresse|emailadresse",
    "a network address": "ip|ipaddress|ipaddr|mac address",
    "a phone number": "phone|telephone|phonenumber|telefon|telefonnummer|tel|handy|handynummer|mobile number|"
    "mobile phone|mobilnummer|fax|cell phone",
    "where somebody lives": "address|adresse|anschrift|street|strasse|straße|postcode|postal code|post code|zip|"
    "zipcode|zip code|plz|postleitzahl|wohnort|hometown|home town",
    "a date or place of birth": "birth|birthday|birthdate|birthplace|dob|geburtsdatum|geburtstag|geburtsort|"
    "geburtsjahr|geboren",
    "the browser, which tells devices apart": "browser|useragent|user agent",
    "a place on earth": "gps|lat|lon|lng|latitude|longitude|latlon|geolocation|breitengrad|längengrad|laengengrad",
    "a device's id": "device id|deviceid|device uuid|device serial|device fingerprint|udid|imei|geräte id|geraete id|"
    "cookie|cookies",
    "an account's or a session's id": "worker id|workerid|prolific id|prolific pid|prolific|mturk id|turk id|turker id|"
    "session id|sessionid|assignment id|assignmentid|submission id|participant pid|sona id|account id",
    "a student's or an official number": "student number|student id|student nr|matriculation|matrikelnummer|matrikel|"
    "matrikel nr|passport|ausweis|ausweisnummer|ssn|social security|iban|kontonummer|credit card|kreditkarte",
    "a signature": "signature|unterschrift",
    "where somebody comes from or how they live": "nationality|nationalität|nationalitaet|staatsangehörigkeit|"
    "ethnicity|ethnizität|religion|mother tongue|muttersprache|native language|first language|country of residence|"
    "student status|employment status|occupation|beruf|disability|behinderung",
}
_PHRASES = [(what, tuple(phrase.split())) for what, phrases in _NAMES.items() for phrase in phrases.split("|")]
# Names that end so are of something else, as a zip_file, an address_bar_height or a name_length is.
_ELSE = frozenset(
    {"file", "files", "path", "folder", "archive", "length", "height", "width", "count", "version", "time"}
)
_ELSE |= {"rt", "duration", "index", "order"}
_ALONE = frozenset({"name", "address", "tel", "lat", "lon", "cookie", "cookies"})


def _named(name: str, counts: Mapping[str, int]) -> str | None:
    """Return what a column's name says that it holds, or None."""
    parts = re.sub(r"(?<=[a-zäöüß0-9])(?=[A-ZÄÖÜ])", " ", name)
    words = re.findall(r"[^\W\d_]+", parts.casefold())
    if not words or words[-1] in _ELSE:
        return None
    for what, phrase in _PHRASES:
        phrase = tuple(word.casefold() for word in phrase)
        if phrase[0] in _ALONE and len(phrase) == 1 and not _stands_alone(phrase[0], words):
            continue
        if any(tuple(words[at : at + len(phrase)]) == phrase for at in range(len(words))):
            small = all(re.fullmatch(r"\d{1,4}|true|false|True|False", word) for word in counts)
            # Counted from 1 they are no accounts, and yes or no is no device.
            if small and what in ("an account's or a session's id", "the browser, which tells devices apart"):
                return None
            return what
    return None


def _stands_alone(word: str, words: Sequence[str]) -> bool:
    """Whether a word that other names hold too is about people: by itself, or beside what is said of people."""
    about = {"participant", "subject", "person", "worker", "student", "patient", "your", "my", "home", "user", "gps"}
    return set(words) - {word} <= about | {"geo", "street", "location"}


# Content ---------------------------------------------------------------------------------------------------------

_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{6,39}(?![\w:])")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d{1,3}[\s()/.-]*\d[\d\s()/.-]{5,16}\d"  # +49 (0)89 1234567
    r"|00\d{2}[\s/-]\d[\d\s()/-]{5,14}\d"
    r"|0\d{2,5}[\s/-]\d{3,8}(?:[\s-]\d{1,6}){0,3}"  # 089/1234567
    r"|\(\d{3}\)\s?\d{3}[-.\s]\d{4}|\d{3}-\d{3}-\d{4}"  # (555) 123-4567
    r")(?![\w.])"
)
_QUERY = re.compile(
    r"https?://\S+?[?&](?:\w*(?:pid|uid|token|email|user|worker|session|participant|subject)\w*|id|key)=[^&\s#]+",
    re.IGNORECASE,
)
_PLACE = re.compile(r"\W{0,2}([+-]?\d{1,2}\.\d{4,})\s*[,; ]\s*([+-]?\d{1,3}\.\d{4,})\W{0,2}")
_DATE = re.compile(r"(?:(\d{4})[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}))(?:[T ]00:00(?::00)?)?")
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?")
_CARD = re.compile(r"[3-6]\d{3}(?:[ -]?\d{4}){2,3}(?:[ -]?\d{1,3})?|3[47]\d{2}[ -]?\d{6}[ -]?\d{5}")


def _is_ipv6(word: str) -> bool:
    for found in _IPV6.findall(word):
        if found.count(":") > 1 and not re.fullmatch(r"[:\d]{1,8}", found):  # not as times are, 12:30:45
            try:
                IPv6Address(found)
            except AddressValueError:
                continue
            return True
    return False


def _is_place(word: str) -> bool:
    pair = _PLACE.fullmatch(word)
    if not pair:
        return False
    north, east = float(pair[1]), float(pair[2])
    # Both below 1 are rather positions on a screen, as shares of it.
    return abs(north) <= 90 and abs(east) <= 180 and max(abs(north), abs(east)) > 1


def _is_iban(word: str) -> bool:
    """Whether the check digits of ISO 13616 hold: the number, its first four signs last, is 1 modulo 97."""
    bare = word.replace(" ", "")
    if not _IBAN.fullmatch(word) or not 15 <= len(bare) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in bare[4:] + bare[:4])) % 97 == 1


def _is_card(word: str) -> bool:
    """Whether the check digit of Luhn's algorithm (ISO/IEC 7812) holds."""
    if not _CARD.fullmatch(word):
        return False
    digits = [int(sign) for sign in word if sign.isdigit()][::-1]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return len(digits) >= 14 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


# What is cheap to see is asked first: most cells are short words and numbers.
_CONTENTS: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    ("ids of a platform", _REPLACE, lambda word: len(word) > 12 and platform_ids(word)),
    ("e-mail addresses", _REMOVE, lambda word: "@" in word and MAIL.search(word)),
    (
        "network addresses",
        _REMOVE,
        lambda word: (word.count(".") > 2 and IPV4.search(word)) or (word.count(":") > 1 and _is_ipv6(word)),
    ),
    ("phone numbers", _REMOVE, lambda word: len(word) > 8 and _PHONE.search(word)),
    ("addresses of pages with ids in them", _REMOVE, lambda word: "://" in word and _QUERY.search(word)),
    ("places on earth", _REMOVE, _is_place),
    ("bank accounts", _REMOVE, _is_iban),
    ("numbers of payment cards", _REMOVE, _is_card),
)


# Whole columns ---------------------------------------------------------------------------------------------------

_PEOPLE = ("participant", "subject", "participant_id", "subject_id", "prolific_pid", "worker_id", "workerid", "subj")
_MEASURES = frozenset({"seed", "index", "trial", "time", "rt", "duration", "score", "accuracy", "order", "list"})
_MEASURES |= {"session", "started"}
_FEW = 5  # of fewer people or texts nothing can be said


def _people_column(cells: Collection[str]) -> str | None:
    lower = {name.lower().replace(" ", "_"): name for name in cells}
    return next((lower[name] for name in _PEOPLE if name in lower), None)


def _of_whole_columns(
    name: str,
    counts: Mapping[str, int],
    words: Sequence[str | None],
    people: Sequence[object],
    known: Collection[object],
) -> Iterator[tuple[str, str]]:
    """Yield what only a column's cells together show."""
    if _hold_births(counts):
        yield "dates of birth", _REMOVE
    if _hold_texts(counts):
        yield "free text", _JUDGE
    elif not known and name not in COLUMNS and _tell_people_apart(name, counts, words, people):
        yield "a value of one's own for nearly every participant", _JUDGE


def _hold_births(counts: Mapping[str, int]) -> bool:
    """Whether most cells are dates from 1900 to 2012, and years apart, unlike days of recording."""
    years = [int(date[1] or date[2]) for date in map(_DATE.fullmatch, counts) if date]
    past = [year for year in years if 1900 <= year <= 2012]
    return len(past) > 0.5 * len(counts) and (len(counts) == 1 or max(past) - min(past) > 3)


def _hold_texts(counts: Mapping[str, int]) -> bool:
    """Whether cells are sentences of which hardly any repeats."""
    if len(counts) < _FEW or len(counts) < 0.8 * sum(counts.values()):
        return False
    written = sum(" " in word and len(re.findall(r"[^\W\d_]{2,}", word)) >= _FEW for word in counts)
    return written > 0.5 * len(counts)


def _tell_people_apart(
    name: str, counts: Mapping[str, int], words: Sequence[str | None], people: Sequence[object]
) -> bool:
    """Whether a column is constant for each participant and nearly everybody's is another, as nobody's measure is."""
    if not people or set(re.findall(r"[a-z]+", name.lower())) & _MEASURES:
        return False
    theirs: dict[object, str] = {}
    for person, word in zip(people, words, strict=True):
        if person is not None and word and theirs.setdefault(person, word) != word:
            return False
    if any(_is_fraction(word) for word in counts):  # measured, not given
        return False
    same = all(parse_text(person) == word for person, word in theirs.items())
    return not same and len(theirs) >= _FEW and len(counts) >= 0.9 * len(theirs)


def _is_fraction(word: str) -> bool:
    try:
        number = float(word)
    except ValueError:
        return False
    return not math.isfinite(number) or not number.is_integer()
