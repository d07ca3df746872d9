"""Stop strings: found when they are completed, wherever tokens are cut."""

from __future__ import annotations

from engine_contract import request
from hypothesis import example, given
from hypothesis import strategies as st

from foreshock.jobs.engines.base import FinishReason
from foreshock.jobs.engines.stopping import find_stop, finished, says_stop

VOCABULARY = ["a", "b", "ab", "ba", "aab", "c", ""]
tokens = st.lists(st.integers(0, len(VOCABULARY) - 1), max_size=30).map(tuple)
strings = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=3).map(tuple)


def decode(token_ids: tuple[int, ...]) -> str:
    return "".join(VOCABULARY[token] for token in token_ids)


@given(tokens, strings)
@example((0, 6, 6, 6, 6, 6, 6, 1), ("ab",))
def test_a_continuation_ends_with_the_token_that_completes_the_first_string(
    drawn: tuple[int, ...], stop: tuple[str, ...]
) -> None:
    ends = [k for k in range(1, len(drawn) + 1) if any(string in decode(drawn[:k]) for string in stop)]
    seen = [k for k in range(1, len(drawn) + 1) if says_stop(decode, drawn[:k], stop)]
    assert set(seen) <= set(ends)
    if 6 not in drawn:  # tokens without text can push a string out of the tail that is looked at
        assert seen[:1] == ends[:1]
    result = finished(request(0, stop=stop), decode, drawn, FinishReason.LENGTH)
    assert result.finish_reason is (FinishReason.STOP if ends else FinishReason.LENGTH)
    assert result.token_ids == drawn[: ends[0] if ends else len(drawn)]
    whole = decode(drawn)
    assert result.text == (whole[: find_stop(whole, stop)] if ends else whole)


@given(tokens)
def test_without_stop_strings_nothing_is_cut(drawn: tuple[int, ...]) -> None:
    assert not says_stop(decode, drawn, ())
    result = finished(request(0), decode, drawn, FinishReason.LENGTH)
    assert (result.token_ids, result.text, result.finish_reason) == (drawn, decode(drawn), FinishReason.LENGTH)


def test_what_a_server_has_cut_already_is_taken_as_it_is() -> None:
    result = finished(request(0, stop=("b",)), decode, (0, 0), FinishReason.STOP, "aa")
    assert (result.text, result.finish_reason) == ("aa", FinishReason.STOP)
