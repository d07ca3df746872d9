"""Families that write reasoning in further ways, in words of our own: see template_families."""

from __future__ import annotations

from template_family import Family, chatml

_IM = ("<|im_end|>",)
_HY3 = (
    "<｜hy_begin｜>{% set effort = reasoning_effort or 'no_think' %}<｜hy_mode｜>effort:{{ effort }}"
    "{% for m in messages %}{% if m.role == 'user' %}<｜hy_User｜>{{ m.content }}{% elif m.role == 'assistant' %}"
    "<｜hy_Assistant｜><think:hy>{{ m.reasoning_content or '' }}</think:hy>{{ m.content }}<｜hy_eos｜>"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜hy_Assistant｜><think:hy>{{ '</think:hy>' if effort == 'no_think' else '' }}"
    "{% endif %}"
)
_KIMI_K3 = (
    "{% for m in messages %}<|open|>message {{ m.role }}<|sep|>{% if m.role == 'assistant' %}"
    "{% if thinking %}<|open|>think<|sep|>{{ m.reasoning or '' }}<|close|>think<|sep|>{% endif %}"
    "<|open|>response<|sep|>{{ m.content }}<|close|>response<|sep|>{% else %}{{ m.content }}{% endif %}"
    "<|close|>message<|sep|><|end_of_msg|>{% endfor %}"
    "{% if add_generation_prompt %}<|open|>message assistant<|sep|><|open|>{{ 'think' if thinking else 'response' }}"
    "<|sep|>{% endif %}"
)

NEWER_FAMILIES = [
    Family(
        "apertus",
        "<s><|developer_start|>Deliberation: {{ 'on' if enable_thinking else 'off' }}<|developer_end|>"
        "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant_start|>{% if m.content is string %}"
        "{{ m.content }}{% elif m.content is mapping %}{% for b in m.content.blocks %}{% if b.type == 'thoughts' %}"
        "<|inner_prefix|>{{ b.text }}{% else %}<|inner_suffix|>{{ b.text }}{% endif %}{% endfor %}"
        "{% else %}{{ raise_exception('no such content') }}{% endif %}<|assistant_end|>"
        "{% else %}<|user_start|>{{ m.content }}<|user_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant_start|>{% endif %}",
        "<|user_end|><|assistant_start|><|inner_prefix|>",
        "<|inner_suffix|>",
        "</s>",
        ("<|assistant_end|>",),
        " so.<|inner_suffix|>ANSWER",
    ),
    Family(
        "kimi-k3",
        _KIMI_K3,
        "<|close|>message<|sep|><|end_of_msg|><|open|>message assistant<|sep|><|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        "[EOS]",
        ("<|end_of_msg|>",),
        " so.<|close|>think<|sep|><|open|>response<|sep|>ANSWER<|close|>response<|sep|><|close|>message<|sep|>",
    ),
    Family(
        "kimi-k3-off",
        _KIMI_K3,
        "<|close|>message<|sep|><|end_of_msg|><|open|>message assistant<|sep|><|open|>response<|sep|>",
        None,
        "[EOS]",
        ("<|end_of_msg|>",),
        arguments={"thinking": False},
    ),
    Family(
        "hy3",
        _HY3,
        "<｜hy_Assistant｜><think:hy></think:hy>",
        None,
        "<｜hy_eos｜>",
        ("<｜hy_eos｜>",),
    ),
    Family(
        "hy3-high",
        _HY3,
        "<｜hy_Assistant｜><think:hy>",
        "</think:hy>",
        "<｜hy_eos｜>",
        ("<｜hy_eos｜>",),
        " so.</think:hy>ANSWER",
        arguments={"reasoning_effort": "high"},
    ),
    Family(
        "minimax-m2",
        "]~!b[{% for m in messages %}]~b]{{ 'ai' if m.role == 'assistant' else m.role }}\n"
        "{% if m.role == 'assistant' and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
        "{% endif %}{{ m.content }}[e~[\n{% endfor %}{% if add_generation_prompt %}]~b]ai\n<think>\n{% endif %}",
        "[e~[\n]~b]ai\n<think>\n",
        "</think>",
        "[e~[",
        ("[e~[",),
        " so.\n</think>\n\nANSWER",
        odd_tokens=("]~!b[", "]~b]", "[e~["),
    ),
    Family(
        "exaone4",
        "{% for m in messages %}[|{{ m.role }}|]\n"
        "{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}"
        "[|endofturn|]\n{% endfor %}{% if add_generation_prompt %}[|assistant|]\n"
        "{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}{% endif %}",
        "[|endofturn|]\n[|assistant|]\n<think>\n",
        "</think>",
        "[|endofturn|]",
        ("[|endofturn|]",),
        " so.\n</think>\n\nANSWER",
        odd_tokens=("[|endofturn|]", "[|user|]", "[|assistant|]", "[|system|]"),
    ),
    Family(
        "command-a-reasoning",
        "{% for m in messages %}<|START_OF_TURN_TOKEN|>{% if m.role == 'assistant' %}<|CHATBOT_TOKEN|>"
        "{% if m.content is string %}<|START_TEXT|>{{ m.content }}{% else %}<|START_THINKING|>"
        "{{ m.content[0].thinking }}<|END_THINKING|><|START_TEXT|>{{ m.content[1].text }}{% endif %}<|END_TEXT|>"
        "{% else %}<|USER_TOKEN|>{{ m.content }}{% endif %}<|END_OF_TURN_TOKEN|>{% endfor %}"
        "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>"
        "{% if reasoning is defined and not reasoning %}<|END_THINKING|>{% endif %}{% endif %}",
        "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>",
        "<|END_THINKING|>",
        "<|END_OF_TURN_TOKEN|>",
        ("<|END_OF_TURN_TOKEN|>",),
        " so.<|END_THINKING|><|START_TEXT|>ANSWER<|END_TEXT|>",
    ),
    Family(
        "deepseek-v3.2",
        "{% set last = namespace(at=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set last.at = loop.index0 %}{% endif %}{% endfor %}<｜begin▁of▁sentence｜>"
        "{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}<｜Assistant｜>"
        "{{ '<think>' if loop.index0 == last.at and thinking else '</think>' }}"
        "{% elif m.role == 'assistant' %}{% if thinking and loop.index0 > last.at %}{{ m.reasoning_content or '' }}"
        "</think>{% endif %}{{ m.content }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}",
        "<｜Assistant｜><think>",
        "</think>",
        "<｜end▁of▁sentence｜>",
        ("<｜end▁of▁sentence｜>",),
        " so.</think>ANSWER",
    ),
    Family(
        "ernie-4.5-thinking",
        chatml(
            "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n<response>\n{{ m.content }}\n</response>\n",
            "<think>\n",
        ),
        "<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "</think>",
        "</s>",
        _IM,
        " so.\n</think>\n\n<response>\nANSWER\n</response>\n",
        plain_tags=("<response>", "</response>"),
    ),
    Family(
        "ring",
        "{% for m in messages %}<role>{{ 'ASSISTANT' if m.role == 'assistant' else 'HUMAN' }}</role>"
        "{% if m.reasoning_content %}\n<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}"
        "<|role_end|>{% endfor %}{% if add_generation_prompt %}<role>ASSISTANT</role>\n<think>\n{% endif %}",
        "<|role_end|><role>ASSISTANT</role>\n<think>\n",
        "</think>",
        "<|endoftext|>",
        ("<|role_end|>",),
        " so.\n</think>\n\nANSWER",
    ),
    Family(
        "glimmer",
        "{% for m in messages %}{% if m.reasoning_content %}<|start|>assistant to=self<|message|>"
        "{{ m.reasoning_content }}<|eom|>{% endif %}<|start|>{{ m.role }}"
        "{{ ' to=user' if m.role == 'assistant' else '' }}<|message|>{{ m.content }}<|eot|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "<|eot|><|start|>assistant to=self<|message|>",
        "<|eom|>",
        "<|endoftext|>",
        ("<|eot|>",),
        " so.<|eom|><|start|>assistant to=user<|message|>ANSWER",
    ),
]
