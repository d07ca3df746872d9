"""Render a conversation with the tokenizer's own chat template, the same on every day and machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import Conversation, RenderedPrompt
from foreshock.jobs.prompts.settings import DEFAULT, PromptSettings
from foreshock.jobs.prompts.tokenizer import PrefillTextError, Tokenizer, continue_text, encode_prefill, encode_prompt

RENDERING_VERSION = 3
"""Raise it when the rendering of any format changes: it is part of `template_sha256`."""

Message = Mapping[str, Any]


class TemplateError(InputError):
    """A tokenizer whose chat template is missing or cannot render a plain conversation."""


def render_chat(tokenizer: Tokenizer, system: str | None, user: str, settings: PromptSettings = DEFAULT) -> str:
    """The conversation up to where the assistant's turn begins."""
    require_template(tokenizer)
    asked = [{"role": "user", "content": user}]
    try:
        bare = apply_template(tokenizer, asked, settings, add_generation_prompt=True)
    except TemplateError:
        if not system:
            raise
        bare = ""  # some demand a system message
    text = _with_system(tokenizer, system, user, settings, bare) if system else bare
    if not _holds(text, user):
        raise TemplateError(
            "the chat template leaves the user's text out of the prompt: it takes messages in parts, as models that "
            "read images do; save a template that takes text"
        )
    return text


def _holds(text: str, part: str) -> bool:
    """Whether a text is in another, whitespace apart."""
    return "".join(part.split()) in "".join(text.split())


def _with_system(tokenizer: Tokenizer, system: str, user: str, settings: PromptSettings, bare: str) -> str:
    """The conversation with a system message; in front of the user's text where the template has no system role: it
    refuses one, or writes the same as without it (`bare`)."""
    told = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    try:
        text: str | None = apply_template(tokenizer, told, settings, add_generation_prompt=True)
    except TemplateError:
        text = None
    if text is not None and (text != bare or _holds(text, system)):  # it may be the template's own, given again
        return text
    merged = [{"role": "user", "content": f"{system}\n\n{user}"}]
    return apply_template(tokenizer, merged, settings, add_generation_prompt=True)


def require_template(tokenizer: Tokenizer) -> None:
    """Raise TemplateError if there is no chat template, or none that is used where tools play no part."""
    template = tokenizer.chat_template
    if not template:
        raise TemplateError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; use the prompt format "
            "'plain', or save the tokenizer with its template"
        )
    if isinstance(template, dict) and "default" not in template:
        raise TemplateError(
            f"the tokenizer has chat templates named {', '.join(sorted(template))}, but none named default, so which "
            "one the model is asked with is not known; save the right one as chat_template.jinja"
        )


def apply_template(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    settings: PromptSettings = DEFAULT,
    *,
    add_generation_prompt: bool,
    template: str | None = None,
) -> str:
    """`apply_chat_template` as text, with the date pinned. Raises TemplateError if the template refuses.

    `template`: another one of the tokenizer's than its default.
    """
    from jinja2 import TemplateError as JinjaError

    try:
        text: str = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            chat_template=template,
            **settings.arguments(),
            strftime_now=settings.date.strftime,
        )
    except (JinjaError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise TemplateError(f"the chat template cannot render the conversation: {error}") from error
    return text


class Renderer:
    """Joins prompts and prefills, tokenised apart: the boundary is exact.

    `prompt` writes the conversation up to the prefill; `markers` are texts that a prefill may not hold; `lead` is the
    whitespace that the model writes first. Recent prompts and prefills are remembered, since all levels and attempts of
    a task share them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Callable[[str | None, str], str],
        settings: PromptSettings = DEFAULT,
        markers: Sequence[str] = (),
        lead: str = "",
    ) -> None:
        self._lead = lead
        self._arguments = settings.arguments()
        self._tokenizer = tokenizer
        self._prompt = lru_cache(4096)(lambda system, user: self._encoded(tokenizer, prompt(system, user)))
        self._controls = frozenset(tokenizer.added_tokens_decoder)
        self._prefill = lru_cache(4096)(
            lambda text, after_text: encode_prefill(tokenizer, text, tuple(markers), after_text=after_text)
        )

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """Token ids of the prompt and of the prefill, joined."""
        text, ids = self._prompt(system, user)
        conversation = Conversation(system, user, self._arguments)
        forced, own = self._led(text, ids, prefill)
        return RenderedPrompt(ids + own, len(ids), text + forced, conversation)

    def render_answer(
        self, system: str | None, user: str, reasoning: str, ending: str | None, answer: str
    ) -> RenderedPrompt:
        """The prompt, `reasoning` and what ends it (None where prompts open none), the answer, each tokenised apart."""
        text, ids = self._prompt(system, user)
        conversation = Conversation(system, user, self._arguments)
        if ending is None:
            if reasoning:
                raise PrefillTextError("this model's prompts open no reasoning, so none can stand before the answer")
            forced, own = self._led(text, ids, answer)
            return RenderedPrompt(ids + own, len(ids), text + forced, conversation)
        text += reasoning + ending
        ids += self._prefill(reasoning, self._ends_in_text(ids))
        ids += continue_text(self._tokenizer, ending, after_text=self._ends_in_text(ids))
        own = self._prefill(answer, self._ends_in_text(ids))
        return RenderedPrompt(ids + own, len(ids), text + answer, conversation)

    def _ends_in_text(self, ids: tuple[int, ...]) -> bool:
        return bool(ids) and ids[-1] not in self._controls

    def _led(self, prompt: str, ids: tuple[int, ...], forced: str) -> tuple[str, tuple[int, ...]]:
        """A forced text, with the lead where it has none of its own, and its token ids.

        With a lead both are read in one piece, since tokenizers make one token of a space and a word, unless that would
        change the prompt's own tokens.
        """
        after_text = self._ends_in_text(ids)
        own = self._prefill(forced, after_text)
        if not self._lead or not forced or forced[0].isspace():
            return forced, own
        joined = encode_prompt(self._tokenizer, prompt + self._lead + forced)
        led = joined[len(ids) :] if joined[: len(ids)] == ids else self._prefill(self._lead + forced, after_text)
        return self._lead + forced, led

    @staticmethod
    def _encoded(tokenizer: Tokenizer, text: str) -> tuple[str, tuple[int, ...]]:
        return text, encode_prompt(tokenizer, text)


def rendering_digest(tokenizer: Tokenizer, settings: PromptSettings, **more: Any) -> str:
    """sha256 of everything that turns a conversation into token ids and ends a continuation: template, tokenizer, date,
    the run's settings, what was derived."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        vocabulary: Any = tokenizer.get_vocab()
    else:
        vocabulary = json.loads(backend.to_str())
        vocabulary.pop("padding", None)  # set by calls, not part of the tokenizer
        vocabulary.pop("truncation", None)
    content = {
        "version": RENDERING_VERSION,
        "chat_template": tokenizer.chat_template,
        "arguments": settings.arguments(),
        "date": settings.date.isoformat(),
        "tokenizer": vocabulary,
        **more,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
