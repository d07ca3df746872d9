"""Answered turns as a chat template writes them: what stands before the reasoning, between it and the answer, after.

Templates are asked, not read: marked texts are put into every field in which templates look for reasoning, and found
again in what is rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from foreshock.jobs.prompts.chat_template import Message, TemplateError, apply_template, require_template
from foreshock.jobs.prompts.settings import SWITCHES, PromptSettings
from foreshock.jobs.prompts.tokenizer import Tokenizer

QUESTION, ANSWER, REASONING, FURTHER = "Qmarkedquestion", "Amarkedanswer", "Rmarkedreasons", "Fmarkedfurther"
_TOOL = "markedtool"
_FIELDS = ("reasoning_content", "reasoning", "thinking", "thought", "tool_plan")
_USER: Message = {"role": "user", "content": QUESTION}


@dataclass(frozen=True, slots=True)
class ReasonedTurn:
    """Text of a turn with reasoning: from the end of the question to the reasoning, from there to the answer.

    field: where the template looked for the reasoning. by_tool_call: only a turn that calls a tool shows it, and
    `between` ends at the call.
    """

    before: str
    between: str
    field: str
    by_tool_call: bool


@dataclass(frozen=True, slots=True)
class PlainTurn:
    """Text of a turn without reasoning: from the end of the question to the answer, and after the answer: at the end of
    the conversation, and where a further question follows (None if the template refuses one)."""

    before: str
    after_last: str
    after_earlier: str | None


class Turns:
    """The renderings of one template of a tokenizer, each made once, with the run's arguments and system message."""

    def __init__(
        self, tokenizer: Tokenizer, settings: PromptSettings, system: str | None = None, template: str | None = None
    ) -> None:
        require_template(tokenizer)
        self._tokenizer = tokenizer
        self._settings = settings
        self._template = template
        self._head: list[Message] = [{"role": "system", "content": system}] if system else []

    def generation_prompt(self) -> str:
        """From the end of the question to where the model goes on."""
        return self._render([_USER], self._settings, generate=True).rpartition(QUESTION)[2]

    def answer_lead(self) -> str:
        """The whitespace that an answered turn has between the generation prompt and the answer: the model writes it
        (`[/INST] answer`), so a text forced in its place begins with it, too."""
        turn, prompt = self.plain(), self.generation_prompt()
        rest = turn.before[len(prompt) :] if turn is not None and turn.before.startswith(prompt) else ""
        return "" if rest.strip() else rest

    def header_left_out(self, prompt: str, turn: PlainTurn | None) -> str:
        """What an answered `turn` writes before its answer, where the template does not heed add_generation_prompt and
        `prompt` lacks it; empty where nothing is missing."""
        if turn is None or not turn.before.startswith(prompt):
            return ""
        left_out = turn.before[len(prompt) :].strip()
        if not left_out or self._render([_USER], self._settings).rpartition(QUESTION)[2] != prompt:
            return ""
        return left_out

    def prompt_without_reasoning(self) -> str:
        """The same with the switches of reasoning off."""
        return self._render([_USER], self._switched(False), generate=True).rpartition(QUESTION)[2]

    def switched_off(self) -> bool:
        """Whether the run's own arguments switch reasoning off, and the template heeds them."""
        own = self._settings.template_args
        if all(own.get(name, True) for name in SWITCHES):
            return False
        given = self._render([_USER], self._settings, generate=True)
        return given != self._render([_USER], self._switched(True), generate=True)

    def _switched(self, on: bool) -> PromptSettings:
        return replace(self._settings, template_args={**self._settings.template_args, **dict.fromkeys(SWITCHES, on)})

    def is_switched_by(self, name: str) -> bool:
        """Whether the generation prompt, or the conversation before it, depends on an argument of the template."""
        before = self._render([_USER], self._settings, generate=True)
        for value in (False, True, 0, 1, "none", "high"):
            given = replace(self._settings, template_args={**self._settings.template_args, name: value})
            try:
                if self._render([_USER], given, generate=True) != before:
                    return True
            except TemplateError:
                return True
        return False

    def conversation_head(self) -> str:
        """What stands before the question: system messages that the template writes itself, and the run's."""
        return self._render([_USER], self._settings, generate=True).partition(QUESTION)[0]

    def plain(self) -> PlainTurn | None:
        """A turn without reasoning; None if the template cannot render one."""
        answered: list[Message] = [_USER, {"role": "assistant", "content": ANSWER}]
        try:
            before, after = _cut(self._render(answered, self._settings), QUESTION, ANSWER)
        except (TemplateError, ValueError):
            return None
        try:
            asked: list[Message] = [*answered, {"role": "user", "content": FURTHER}]
            _, earlier = _cut(self._render(asked, self._settings).partition(FURTHER)[0], QUESTION, ANSWER)
        except (TemplateError, ValueError):
            earlier = None
        return PlainTurn(before, after, earlier)

    def reasoned(self) -> ReasonedTurn | None:
        """The first rendering in which reasoning shows as such; None if there is none."""
        for field, message in _reasoned_messages():
            by_tool_call = "tool_calls" in message
            try:
                text = self._render([_USER, message], self._settings)
                before, rest = _cut(text, QUESTION, REASONING)
                between = rest[: min(_place(rest, ANSWER), _place(rest, _TOOL))]
            except (TemplateError, ValueError):
                continue
            if between.strip() and between != rest and not _is_dump(before, between):
                return ReasonedTurn(before, between, field, by_tool_call)
        return None

    def _render(self, messages: list[Message], settings: PromptSettings, *, generate: bool = False) -> str:
        def render(head: list[Message]) -> str:
            return apply_template(
                self._tokenizer,
                [*head, *messages],
                settings,
                add_generation_prompt=generate,
                template=self._template,
            )

        try:
            return render(self._head)
        except TemplateError:
            if not self._head:
                raise
            return render([])  # no system role: it goes into the question, which is cut off here


def _reasoned_messages() -> Iterator[tuple[str, dict[str, Any]]]:
    """Assistant messages with reasoning, in every way that templates read it; those that call a tool last."""
    message = {"role": "assistant", "content": ANSWER}
    for field in _FIELDS:
        yield field, {**message, field: REASONING}
    answer = {"type": "text", "text": ANSWER}
    text = {"type": "text", "text": REASONING}
    for chunk in (
        {"type": "thinking", "thinking": REASONING},
        {"type": "thinking", "thinking": [text]},
        {"type": "think", "think": REASONING},
        {"type": "reasoning", "reasoning": REASONING},
        {"type": "reasoning", "text": REASONING},
    ):
        yield f"content of type {chunk['type']}", {**message, "content": [chunk, answer]}
    blocks = [{"type": "thoughts", "text": REASONING}, {"type": "response", "text": ANSWER}]
    yield "blocks of type thoughts", {**message, "content": {"blocks": blocks}}
    function = {"name": _TOOL, "arguments": {"x": 1}}
    call = {"id": "call00001", "type": "function", "function": function}
    for calls in (_Uncalled(), [call]):
        for field in _FIELDS:
            yield field, {**message, field: REASONING, "tool_calls": calls}


class _Uncalled(list[Any]):
    """Tool calls that are there, as templates ask, and of which none is written."""

    def __bool__(self) -> bool:
        return True


def _cut(text: str, first: str, second: str) -> tuple[str, str]:
    """(from the end of `first` to `second`, from the end of `second`). Raises ValueError if one is not there."""
    _, found, rest = text.partition(first)
    middle, found_too, after = rest.partition(second)
    if not found or not found_too:
        raise ValueError
    return middle, after


def _place(text: str, mark: str) -> int:
    place = text.find(mark)
    return place if place >= 0 else len(text)


def _is_dump(before: str, between: str) -> bool:
    """Whether a message's content was printed as data, and not understood."""
    return before.endswith(("'", '"')) and between.startswith(before[-1])
