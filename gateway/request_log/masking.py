"""Personal data and secrets in texts, as words in brackets. Pure.

What has a form can be found: addresses, numbers with check digits, keys. Names stay. Every pattern
takes a time that grows with the text alone: what may begin anywhere is of bounded length, what may
be long begins only where nothing of its kind stands before.
"""

import ipaddress
import re
from collections.abc import Callable

# What may stand in front of an @, without the rarest that addresses may hold.
_LOCAL = r"[\w.!#$%&+^~-]"
_EMAIL = re.compile(
    rf"(?<!{_LOCAL}){_LOCAL}++(?:['’]{_LOCAL}++){{0,2}}['’]*+@(?:[\w-]{{1,63}}\.)+[\w-]{{1,63}}"
)
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^\s/@:]{0,200}:[^\s/]{1,200}(?=@)")
# As their makers write them: OpenAI, Anthropic, GenPlat; Stripe; Hugging Face, Groq, npm; GitHub;
# GitLab; Slack; AWS; Google; JSON Web Tokens; what is sent as one.
_KEY = re.compile(
    r"\b(?:sk|gp)-[\w-]{16,}|\b[spr]k_(?:live|test)_\w{10,}|\b(?:hf|gsk|npm)_[A-Za-z0-9]{16,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{20,}"
    r"|\bx(?:ox[abeprs]|app)-[\w-]{10,}|\bA[KS]IA[A-Z0-9]{16}\b|\bAIza[\w-]{35,}"
    r"|(?<![\w-])eyJ[\w-]{10,}+\.[\w-]{10,}+(?:\.[\w-]++)?"
    r"|(?<=[Bb]earer )[\w.~+/-]{16,}=*"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)", re.S
)

_GAP = "[ .\u00a0\u202f-]"
# Looked for from each place on where they may begin: what stands before is often alike.
_IBAN = re.compile(rf"(?<![A-Za-z0-9])(?=([A-Za-z]{{2}}[0-9]{{2}}(?:{_GAP}?[A-Za-z0-9]){{11,30}}))")
# In a block, or as they are printed.
_CARD = re.compile(
    rf"(?<!\w)(?<!\d[.,])(?=(\d{{13,19}}(?!\w|[.,]\d)|\d{{4}}(?:{_GAP}\d{{4}}){{3}}(?!\d)"
    rf"|\d{{4}}{_GAP}\d{{6}}{_GAP}\d{{4,5}}(?!\d)))"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_IPV4 = re.compile(
    r"(?<!\w)(?<!\d\.)(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\w|\.\d)"
)
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:.]{3,45}(?!\w)")
# International; with an area code in brackets; in the groups of some countries: a number alone may
# be anything.
_PHONE = re.compile(
    rf"(?<![\w+./-])(?:(?:\+|00)\d{{1,3}}[ ./\u00a0\u202f-]?(?:\(0?\d{{0,4}}\)[ ./-]?)?"
    rf"\d(?:[ ./\u00a0\u202f-]?\d){{5,12}}"
    rf"|\(0?\d{{2,5}}\)[ ./-]?\d(?:[ .-]?\d){{4,9}}"
    rf"|(?:1[ .-])?\d{{3}}[.-]\d{{3}}[.-]\d{{4}}"
    rf"|0\d{{1,4}}[ /-](?:\d{{5,8}}|\d{{3,4}}[ -]\d{{3,4}})|0\d(?:{_GAP}\d{{2}}){{4}})(?!\w)"
)
_CARD_DIGITS = range(13, 20)
# Of whole numbers, by country: the registry of ISO 13616.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA",
        30: "JO KW MU", 31: "MT SC", 32: "LC",
    }.items()
    for country in countries.split()
}  # fmt: skip
_NO_IBAN = 99
_WITHOUT_GAPS = {ord(sign): None for sign in " .\u00a0\u202f-"}
_VALUES = {ord(sign): str(int(sign, 36)) for sign in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def mask(text: str) -> str:
    """The text with what looks like personal data or a secret replaced: ``[email]``."""
    if len(text) < 3:
        return text
    if "@" in text:
        text = _PASSWORD_IN_URL.sub("[password]", text)
        text = _EMAIL.sub("[email]", text)
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub("[key]", text)
    text = _KEY.sub("[key]", text)
    if "::" in text or text.count(":") >= 7:
        text = _IPV6.sub(_ipv6, text)
    if not any(character.isdigit() for character in text):
        return text
    text = _masked(text, _IBAN, _iban, "[iban]")
    text = _masked(text, _CARD, _card, "[card]")
    text = _SSN.sub("[ssn]", text)
    text = _IPV4.sub("[ip]", text)
    return _PHONE.sub("[phone]", text)


def _masked(
    text: str, pattern: re.Pattern[str], length_of: Callable[[str], int | None], word: str
) -> str:
    """With ``word`` for what ``pattern`` looks ahead to, as far as ``length_of`` says of it."""
    pieces, end = [], 0
    for found in pattern.finditer(text):
        if found.start() >= end and (length := length_of(found.group(1))) is not None:
            pieces += [text[end : found.start()], word]
            end = found.start() + length
    return "".join([*pieces, text[end:]]) if pieces else text


def _card(text: str) -> int | None:
    """Luhn's check, ISO/IEC 7812-1."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    right = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return len(text) if right and len(digits) in _CARD_DIGITS else None


def _iban(text: str) -> int | None:
    """Of a number whose remainder is right, without what stands behind it."""
    length = _IBAN_LENGTHS.get(text[:2].upper(), _NO_IBAN)
    signs = text.translate(_WITHOUT_GAPS)[:length]
    if len(signs) < length or int((signs[4:] + signs[:4]).upper().translate(_VALUES)) % 97 != 1:
        return None
    end = [place for place, sign in enumerate(text) if sign.isalnum()][length - 1] + 1
    return None if text[end : end + 1].isalnum() else end


def _ipv6(found: re.Match[str]) -> str:
    text = found.group()
    address = text.rstrip(".:") + ("::" if text.endswith("::") else "")
    groups = [group for group in address.split(":") if group]
    # (`[1::2]` and `a::b` are code.)
    telling = len(groups) > 2 or (len(groups) == 2 and len(groups[0]) == 4)
    if not telling or ("::" not in address and len(groups) not in (7, 8)):
        return text
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return text
    return "[ip]" + text[len(address) :]
