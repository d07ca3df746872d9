"""What is known of a family of models: its chat template, and what prompts and answers must look like."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """`opened`: what stands between the question and the prefill. `answered`: a whole response from inside the
    reasoning on, None without a section. `ends`: the template's stop tokens; `late`: those that end an answer only.
    `odd_tokens`: control tokens of a form that no other family has.
    """

    name: str
    template: str
    opened: str
    closing: str | None
    eos: str
    ends: tuple[str, ...]
    answered: str | None = None
    late: tuple[str, ...] = ()
    plain_tags: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    odd_tokens: tuple[str, ...] = ()

    def tokens(self) -> list[str]:
        """Control tokens: all markers of the template but `plain_tags`, which are ordinary text."""
        found = re.findall(r"<[|｜]?[A-Za-z/][\w:|｜/▁]*[|｜]?>|<[a-z]+\|>|\[/?[A-Z_]+\]", self.template)
        return [t for t in dict.fromkeys(["<pad>", self.eos, *self.odd_tokens, *found]) if t not in self.plain_tags]


def chatml(body: str, generation: str, head: str = "") -> str:
    """ChatML, with the assistant's message as `body` writes it and `generation` after the assistant's header."""
    return (
        head
        + "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
        + body
        + "<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + generation + "{% endif %}"
    )
