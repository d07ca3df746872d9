"""What ends a continuation beside a stop token: a stop string, or a token that ends it in its answer only.

Every engine looks for them itself, in the text that foreshock's own decoding gives, so that a string which lies
across tokens ends a continuation at the same place everywhere. The text ends before the string; the token ids are
those that were drawn, up to the one that completed it, as vLLM counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foreshock.jobs.engines.base import FinishReason, GenerationRequest, GenerationResult

Decode = Callable[[tuple[int, ...]], str]
"""Token ids to text, control tokens included."""

_SLACK = 4
"""Tokens more than a string's bytes that are looked at: the first ones of a tail may decode to less alone."""


def says_stop(decode: Decode, token_ids: Sequence[int], stop: Sequence[str]) -> bool:
    """Whether the last token completed a stop string. Cheap: only the tail is decoded until one is in it."""
    if not stop or not token_ids:
        return False
    longest = max(len(text.encode()) for text in stop)
    tail = decode(tuple(token_ids[-longest - _SLACK :]))
    return find_stop(tail, stop) is not None and find_stop(decode(tuple(token_ids)), stop) is not None


def ends_here(decode: Decode, request: GenerationRequest, token_ids: Sequence[int]) -> bool:
    """Whether the last token ended the request, by a stop string or as a late stop."""
    return _is_late_stop(request, token_ids) or says_stop(decode, token_ids, request.stop)


def looks_back(request: GenerationRequest) -> bool:
    """Whether anything but a stop token can end the request."""
    return bool(request.stop or request.late_stops)


def _is_late_stop(request: GenerationRequest, token_ids: Sequence[int]) -> bool:
    """Whether the last token is a late stop whose opening came before it."""
    if not token_ids:
        return False
    return any(token_ids[-1] in stop.token_ids and _holds(token_ids[:-1], stop.opening) for stop in request.late_stops)


def _holds(token_ids: Sequence[int], part: tuple[int, ...]) -> bool:
    n = len(part)
    return any(tuple(token_ids[i : i + n]) == part for i in range(len(token_ids) - n + 1))


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop string begins; None if there is none."""
    places = [place for place in (text.find(string) for string in stop) if place >= 0]
    return min(places, default=None)


def finished(
    request: GenerationRequest,
    decode: Decode,
    token_ids: tuple[int, ...],
    reason: FinishReason,
    text: str | None = None,
) -> GenerationResult:
    """The result of drawn tokens, ended at the first late stop or stop string. `text`: what they say, where it is known
    already."""
    if request.late_stops:
        late = {token for stop in request.late_stops for token in stop.token_ids}
        ends = (i for i, t in enumerate(token_ids) if t in late and _is_late_stop(request, token_ids[: i + 1]))
        place = next(ends, None)
        if place is not None:
            token_ids, reason, text = token_ids[:place], FinishReason.STOP, None
    text = decode(token_ids) if text is None else text
    place = find_stop(text, request.stop)
    if place is not None:
        while len(token_ids) > 1 and find_stop(decode(token_ids[:-1]), request.stop) is not None:
            token_ids = token_ids[:-1]  # drawn after the string, by an engine that looked later
        text, reason = text[:place], FinishReason.STOP
    return GenerationResult(request.request_id, token_ids, text, reason)
