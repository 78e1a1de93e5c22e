"""No n-gram twice: what `generate` calls `no_repeat_ngram_size`."""

from collections.abc import Sequence


class NoRepeat:
    """Knows which tokens would complete an n-gram that a sequence already has.

    Args:
        size: n, at least 2.
        prompt: its n-grams count too, as in `transformers`.
    """

    def __init__(self, size: int, prompt: Sequence[int]) -> None:
        self._size = size
        self._recent: list[int] = []
        self._followers: dict[tuple[int, ...], list[int]] = {}
        for token in prompt:
            self.append(token)

    def append(self, token: int) -> None:
        if len(self._recent) == self._size - 1:
            self._followers.setdefault(tuple(self._recent), []).append(token)
            del self._recent[0]
        self._recent.append(token)

    @property
    def banned(self) -> Sequence[int]:
        """Tokens that may not come next."""
        return self._followers.get(tuple(self._recent), ())
