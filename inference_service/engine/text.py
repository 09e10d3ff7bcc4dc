"""From token ids to text that may be shown: whole characters only, and nothing of a stop string."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
REPLACEMENT = "�"


class Detokenizer:
    """Turns a growing list of tokens into text, a piece at a time.

    A character may be spread over tokens, and a token's text may depend on the one before it;
    so a token is decoded behind the last ones that were already given out.
    """

    def __init__(self, decode: Decode, before: Sequence[int] = ()) -> None:
        """``before``: tokens that the text goes on behind; they are not given out."""
        self._decode = decode
        self._window = list(before)
        self._shown = len(self._window)

    def add(self, token: int) -> str:
        """The text that ``token`` completes; empty while a character is only half there."""
        self._window.append(token)
        before = self._decode(self._window[: self._shown])
        after = self._decode(self._window)
        if len(after) <= len(before) or after.endswith(REPLACEMENT):
            return ""
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        return after[len(before) :]

    def finish(self) -> str:
        """What was kept back: the bytes of a character that never became whole."""
        before = self._decode(self._window[: self._shown])
        return self._decode(self._window)[len(before) :]


class StopFilter:
    """Lets text through up to the first stop string, and keeps back what might begin one."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stop_strings if stop)
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """The part of the text so far that is certainly no part of a stop string."""
        if not self._stops:
            return text
        self._held += text
        ends = [position for stop in self._stops if (position := self._held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            visible, self._held = self._held[: min(ends)], ""
            return visible
        keep = max(self._overlap(stop) for stop in self._stops)
        cut = len(self._held) - keep
        visible, self._held = self._held[:cut], self._held[cut:]
        return visible

    def finish(self) -> str:
        """What was held back, once no more text can come."""
        visible, self._held = self._held, ""
        return visible

    def _overlap(self, stop: str) -> int:
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)
