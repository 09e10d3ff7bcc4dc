"""Personal data and secrets in texts, as words in brackets. Pure.

What has a form can be found: addresses, numbers with check digits, keys. Names stay.
"""

import re
from collections.abc import Callable

_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
# As their makers write them: OpenAI, Anthropic, GenPlat, GitHub, GitLab, Slack, AWS, Google, JWT.
_KEY = re.compile(
    r"\b(?:sk|pk|rk|gp|hf)[-_][A-Za-z0-9_-]{16,200}|\bgh[pousr]_[A-Za-z0-9]{20,255}"
    r"|\bglpat-[\w-]{20,64}|\bxox[abprs]-[\w-]{10,200}|\bA[KS]IA[A-Z0-9]{16}\b"
    r"|\bAIza[\w-]{35}|\beyJ[\w-]{10,2000}\.[\w-]{10,4000}\.[\w-]{10,1000}"
)
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^\s/:@]{1,100}:[^\s/@]{1,100}(?=@)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\w.])(?:\d[ -]?){12,18}\d(?![\w.]?\d)")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_IP = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])"
)
# International, or with an area code in brackets, or in groups: a number alone may be anything.
_PHONE = re.compile(
    r"(?<![\w+./-])(?:(?:\+|00)\d{1,3}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){5,12}"
    r"|\(0?\d{2,5}\)[ .-]?\d(?:[ .-]?\d){4,9}|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-])"
)
_CARD_DIGITS = range(13, 20)
_IBAN_LENGTHS = range(15, 35)


def mask(text: str) -> str:
    """The text with what looks like personal data or a secret replaced: ``[email]``."""
    if len(text) < 5:
        return text
    if "@" in text:
        text = _PASSWORD_IN_URL.sub("[password]", text)
        text = _EMAIL.sub("[email]", text)
    text = _KEY.sub("[key]", text)
    if not any(character.isdigit() for character in text):
        return text
    text = _IBAN.sub(_if(_is_iban, "[iban]"), text)
    text = _CARD.sub(_if(_is_card, "[card]"), text)
    text = _SSN.sub("[ssn]", text)
    text = _IP.sub("[ip]", text)
    return _PHONE.sub("[phone]", text)


def _if(is_one: Callable[[str], bool], word: str) -> Callable[[re.Match[str]], str]:
    return lambda match: word if is_one(match.group()) else match.group()


def _is_card(text: str) -> bool:
    """Luhn's check, ISO/IEC 7812-1."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return len(digits) in _CARD_DIGITS and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """The remainder of ISO 13616."""
    signs = text.replace(" ", "")
    if len(signs) not in _IBAN_LENGTHS:
        return False
    return int("".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])) % 97 == 1
