"""The reasoning section of a chat template: how it is opened and closed, derived from what the template renders.

Four sources, in this order: a turn answered with reasoning; a generation prompt that goes on where an answered turn
does not; the empty section that a template writes when reasoning is switched off; a system message of the template's
own that tells the model how to mark its reasoning. Where none shows a section although the template speaks of one, the
tokenizer is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from foreshock.errors import InputError
from foreshock.jobs.prompts.chat_template import TemplateError
from foreshock.jobs.prompts.markers import (
    REASONING_WORDS,
    TAG,
    closing_of,
    control_tokens,
    find_controls,
    is_about_reasoning,
    last_marker,
    named_pairs,
    reasoning_pairs,
    tag_closing,
)
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.template_arguments import identifiers, read_arguments
from foreshock.jobs.prompts.tokenizer import Tokenizer, template_sources
from foreshock.jobs.prompts.turns import PlainTurn, ReasonedTurn, Turns

WHAT_TO_SET = (
    "set prompt.opening and prompt.closing to the texts around the model's reasoning (in YAML, for example, opening: "
    '"<think>\\n" and closing: "</think>"), or prompt.format: chat for a model that does not reason'
)
_DOUBT = (
    "its template writes down reasoning that it is given, but neither opens a section for the model nor has a switch: "
    "models that reason and models that do not (Qwen3-Instruct-2507) come with such ones. Prompts open the section; "
    "set prompt.format: chat if the model was not trained to reason, think if it was"
)
_SPOKEN_OF = re.compile(r"[<\[]/?\|?/?[\w:|]*(?:" + REASONING_WORDS + r")[\w:|]*[>\]]", re.I)


@dataclass(frozen=True, slots=True)
class Section:
    """A reasoning section.

    opening: text between the assistant's header and the reasoning. closing: the marker that ends it, without the
    whitespace around it. answer_header: what the model writes between closing and answer, stripped. source: where this
    was found, in words. closed: the generation prompt already holds the section, empty. doubt: why it is not certain
    that the model reasons where it is not shown a section.
    """

    opening: str
    closing: str
    answer_header: str
    source: str
    closed: bool = False
    between: str = ""
    """What stands between reasoning and answer, whitespace included, where an answered turn shows it."""
    doubt: str = ""

    @property
    def ending(self) -> str:
        """Text from the end of the reasoning to the answer."""
        if self.between:
            return self.between
        before, after = ("\n", "\n\n") if self.opening.endswith("\n") else ("", "\n" * (not self.answer_header))
        return f"{before}{self.closing}{after}{self.answer_header}"


def derive_section(tokenizer: Tokenizer, settings: PromptSettings, system: str | None = None) -> Section | None:
    """The section, or None for a template without one. Raises InputError, saying what to set, where the template speaks
    of reasoning but does not show how its section is opened and closed."""
    turns = Turns(tokenizer, settings, system)
    prompt = turns.generation_prompt()
    plain, reasoned = turns.plain(), turns.reasoned()
    found = (
        (_from_reasoned(tokenizer, prompt, reasoned) if reasoned is not None else None)
        or _from_prompt_end(tokenizer, prompt, plain)
        or _from_empty_section(tokenizer, turns, prompt)
        or _from_instructions(tokenizer, turns.conversation_head())
    )
    if found is not None:
        header = found.answer_header or (_bare_header(plain.before, prompt, found.closing) if plain is not None else "")
        doubt = _DOUBT if plain is not None and _is_history_alone(tokenizer, turns, plain, found) else ""
        return replace(found, answer_header=header, closed=found.closed or turns.switched_off(), doubt=doubt)
    spoken_of = _spoken_of(template_sources(tokenizer))
    if spoken_of is not None and not turns.switched_off():
        raise InputError(
            f"the chat template speaks of a reasoning section ({spoken_of}), but no conversation that it renders "
            "shows how one is opened and closed",
            fix=WHAT_TO_SET,
        )
    return None


def _is_history_alone(tokenizer: Tokenizer, turns: Turns, plain: PlainTurn, found: Section) -> bool:
    """Whether a template writes down the reasoning that it is given, and nothing more of it: its prompt opens none, no
    argument switches it, an answer without it has no empty section, and no system message asks for it."""
    if not found.opening or found.closing in plain.before:
        return False
    if found.opening.strip() in turns.conversation_head():
        return False
    arguments = read_arguments(template_sources(tokenizer))
    return not any(turns.is_switched_by(name) for name in sorted(arguments) if is_about_reasoning(name))


def _spoken_of(source: str) -> str | None:
    """A marker in a template's text that is about reasoning, else the name of an argument or a field that is."""
    marker = _SPOKEN_OF.search(source)
    if marker is not None:
        return marker[0]
    return next((name for name in sorted(identifiers(source)) if is_about_reasoning(name)), None)


def _from_reasoned(tokenizer: Tokenizer, prompt: str, turn: ReasonedTurn) -> Section:
    """From a turn that was answered with reasoning."""
    closing, header = _split_between(tokenizer, turn)
    source = f"an answered turn whose reasoning is in {turn.field}" + (" and that calls a tool" * turn.by_tool_call)
    between = "" if turn.by_tool_call else turn.between
    if turn.before.startswith(prompt):
        return Section(turn.before[len(prompt) :], closing, header, source, between=between)
    if prompt.startswith(turn.before):
        rest = prompt[len(turn.before) :]  # the prompt itself opens the section, or writes it whole
        return Section("", closing, header, source, closed=closing in rest, between=between)
    if prompt.rstrip().endswith((closing, f"{closing}{header}")):  # an empty section, written in another way
        return Section(_marked_tail(tokenizer, turn.before), closing, header, source, closed=True, between=between)
    tail = _marked_tail(tokenizer, turn.before).strip()
    if is_about_reasoning(tail) and prompt.rstrip().endswith(tail):
        source = "the generation prompt, which opens the section"
        return Section("", closing, header, source, between=between)
    raise InputError(
        f"the chat template's generation prompt ends in {prompt[-60:]!r}, but a turn with reasoning begins with "
        f"{turn.before[-60:]!r}, so where its reasoning section begins is not known",
        fix=WHAT_TO_SET,
    )


def _marked_tail(tokenizer: Tokenizer, before: str) -> str:
    """The last marker of a text and what follows it."""
    marker = last_marker(before, control_tokens(tokenizer))
    return before[before.rfind(marker) :] if marker is not None else ""


def _split_between(tokenizer: Tokenizer, turn: ReasonedTurn) -> tuple[str, str]:
    """(closing marker, what follows it up to the answer), both stripped."""
    body = turn.between.strip()
    leading = [token for place, token in find_controls(body, control_tokens(tokenizer)) if place == 0]
    tag = TAG.match(body)
    marker = leading[0] if leading else tag[0] if tag else None
    if marker is None:
        return (body.splitlines()[0] if turn.by_tool_call else body), ""
    marker += _rest_of_tag(turn.before, body[len(marker) :], control_tokens(tokenizer))
    return marker, "" if turn.by_tool_call else body[len(marker) :].strip()


def _rest_of_tag(before: str, after: str, controls: frozenset[str]) -> str:
    """What a closing tag goes on with where tags are written in several tokens, `<|open|>`, `think`, `<|sep|>`: a name
    and a token that the opening one ends with, too."""
    found = re.match(r"\w+", after)
    if found is None:
        return ""
    token = next((token for place, token in find_controls(after, controls) if place == found.end()), None)
    rest = found[0] + (token or "")
    return rest if token is not None and before.rstrip().endswith(rest) else ""


def _bare_header(before: str, prompt: str, closing: str) -> str:
    """What an answered turn without reasoning writes between the generation prompt and the answer."""
    own = before.removeprefix(prompt) if before.startswith(prompt) else ""
    return own.rpartition(closing)[2].strip()


def _from_prompt_end(tokenizer: Tokenizer, prompt: str, plain: PlainTurn | None) -> Section | None:
    """From what a generation prompt ends in."""
    sources = template_sources(tokenizer)
    marker = last_marker(prompt, control_tokens(tokenizer))
    pairs = reasoning_pairs(prompt, tokenizer, sources)
    if marker is not None and marker in pairs.values():
        opening = max((text for text in pairs if pairs[text] == marker), key=prompt.rfind)
        held = prompt[prompt.rfind(opening) :] if opening in prompt else opening
        return Section(_up_to_reasoning(held, opening, marker), marker, "", "the generation prompt", closed=True)
    if marker is not None and marker in pairs:
        return Section("", pairs[marker], "", "the generation prompt, which opens the section")
    more = prompt[len(plain.before) :] if plain is not None and prompt.startswith(plain.before) else ""
    if not more.strip() and (marker is None or not is_about_reasoning(marker)):
        return None
    closing = closing_of(marker, tokenizer, sources) if marker is not None else None
    if closing is None and marker is not None and is_about_reasoning(marker):
        closing = tag_closing(marker)
    if closing is None:
        raise InputError(
            f"the generation prompt goes on with {(more or marker or '').strip()!r} where an answered turn has its "
            "answer, but neither vocabulary nor template says what closes that",
            fix="set prompt.closing to the text that ends the model's reasoning",
        )
    return Section("", closing, "", "the generation prompt, which opens the section")


def _from_empty_section(tokenizer: Tokenizer, turns: Turns, prompt: str) -> Section | None:
    """From the empty section that the generation prompt holds when reasoning is switched off."""
    try:
        off = turns.prompt_without_reasoning()
    except TemplateError:
        return None
    pairs = named_pairs(off, tokenizer, template_sources(tokenizer))
    if not pairs or not off.startswith(prompt.rstrip("\n")):
        return None
    opening, closing = pairs[-1]
    place = off.rfind(opening)
    if place < len(prompt.rstrip("\n")):
        return None
    text = _up_to_reasoning(off[place:], opening, closing)
    lead = off[len(prompt) : place] if off.startswith(prompt) else ""
    return Section(lead + text, closing, "", "the empty section that switching reasoning off writes")


def _up_to_reasoning(text: str, opening: str, closing: str) -> str:
    """The opening of an empty section: of the whitespace inside it, the first half belongs to the opening."""
    start = text.find(opening)
    end = text.find(closing, start)
    inside = text[start + len(opening) : end]
    return opening + inside[: (len(inside) + 1) // 2]


def _from_instructions(tokenizer: Tokenizer, head: str) -> Section | None:
    """From a system message in which the template tells the model how to mark its reasoning."""
    pairs = named_pairs(head, tokenizer, template_sources(tokenizer))
    if len(pairs) != 1:
        return None
    opening, closing = pairs[0]
    return Section(opening, closing, "", "the system message, which tells the model how to mark it")
