"""Chat templates in the shape of public families: their markers and their ways with reasoning, in words of our own.

The derivation (foreshock.jobs.prompts.section, stops) knows none of these names.
"""

from __future__ import annotations

from newer_families import NEWER_FAMILIES
from template_family import Family, chatml

_OFF = "{% if enable_thinking is defined and enable_thinking is false %}"
_QWEN_BODY = (
    "{% set r = m.reasoning_content if m.reasoning_content is string else '' %}"
    "{% if loop.last or r %}<think>\n{{ r.strip('\n') }}\n</think>\n\n{% endif %}{{ m.content }}"
)
_IM = ("<|im_end|>",)

QWEN3 = Family(
    "qwen3",
    chatml(_QWEN_BODY, _OFF + "<think>\n\n</think>\n\n{% endif %}"),
    "<|im_end|>\n<|im_start|>assistant\n<think>\n",
    "</think>",
    "<|im_end|>",
    _IM,
    " so.\n</think>\n\nANSWER",
)

FAMILIES = [
    QWEN3,
    Family(
        "qwen3-off",
        QWEN3.template,
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        None,
        "<|im_end|>",
        _IM,
        arguments={"enable_thinking": False},
    ),
    Family(
        "qwen3.5",
        chatml(_QWEN_BODY, _OFF + "<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"),
        "<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "</think>",
        "<|im_end|>",
        _IM,
        " so.\n</think>\n\nANSWER",
    ),
    Family(
        "qwen3-instruct",
        chatml("{{ m.content }}", ""),
        "<|im_end|>\n<|im_start|>assistant\n",
        None,
        "<|im_end|>",
        _IM,
    ),
    Family(
        "llama3",
        "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        None,
        "<|end_of_text|>",
        ("<|eot_id|>",),
    ),
    Family(
        "gemma3",
        "<bos>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<end_of_turn>\n<start_of_turn>model\n",
        None,
        "<eos>",
        ("<end_of_turn>",),
    ),
    Family(
        "gemma4",
        "<bos>{% if enable_thinking %}<|turn>system\n<|think|>\n<turn|>\n{% endif %}{% for m in messages %}"
        "<|turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{% set r = m.get('reasoning') %}{% if r and m.get('tool_calls') %}<|channel>thought\n{{ r }}\n<channel|>"
        "{% for c in m.tool_calls %}<|call>{{ c.function.name }}<call|>{% endfor %}{% endif %}"
        "{{ m.content }}<turn|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|turn>model\n"
        "{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}{% endif %}",
        "<turn|>\n<|turn>model\n<|channel>thought\n",
        "<channel|>",
        "<eos>",
        ("<turn|>",),
        " so.\n<channel|>ANSWER",
    ),
    Family(
        "mistral",
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% elif m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]"
        "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
        "[/INST]",
        None,
        "</s>",
        ("</s>",),
    ),
    Family(
        "magistral",
        "<s>{% if messages[0].role != 'system' %}[SYSTEM_PROMPT]Draft first: [THINK]your draft[/THINK] then answer."
        "[/SYSTEM_PROMPT]{% endif %}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% elif m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]{% else %}"
        "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
        "{% if c.type == 'text' %}{{ c.text }}{% elif c.type == 'thinking' %}[THINK]{{ c.thinking }}[/THINK]"
        "{% else %}{{ raise_exception('no such chunk') }}{% endif %}{% endfor %}{% endif %}</s>{% endif %}{% endfor %}",
        "[/INST][THINK]",
        "[/THINK]",
        "</s>",
        ("</s>",),
        " so.[/THINK]ANSWER",
    ),
    Family(
        "r1-distill",
        "<｜begin▁of▁sentence｜>{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
        "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}",
        "<｜Assistant｜><think>\n",
        "</think>",
        "<｜end▁of▁sentence｜>",
        ("<｜end▁of▁sentence｜>",),
        " so.\n</think>\n\nANSWER",
    ),
    Family(
        "deepseek-v3.1",
        "<｜begin▁of▁sentence｜>{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
        "{% elif m.role == 'assistant' %}<｜Assistant｜></think>{{ m.content.split('</think>')[-1] }}"
        "<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜>{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}",
        "<｜Assistant｜><think>",
        "</think>",
        "<｜end▁of▁sentence｜>",
        ("<｜end▁of▁sentence｜>",),
        " so.</think>ANSWER",
    ),
    Family(
        "deepseek-v3.1-off",
        "<｜begin▁of▁sentence｜>{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
        "{% elif m.role == 'assistant' %}<｜Assistant｜></think>{{ m.content.split('</think>')[-1] }}"
        "<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜>{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}",
        "<｜Assistant｜></think>",
        None,
        "<｜end▁of▁sentence｜>",
        ("<｜end▁of▁sentence｜>",),
        arguments={"thinking": False},
    ),
    Family(
        "gpt-oss",
        "<|start|>system<|message|>Today is {{ strftime_now('%Y-%m-%d') }}. Effort: {{ reasoning_effort or 'medium' }}"
        "<|end|>{% for m in messages %}{% if m.role == 'assistant' %}"
        "{% if m.thinking and loop.last %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>"
        "{% endif %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
        "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
        "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "<|end|><|start|>assistant<|channel|>analysis<|message|>",
        "<|end|>",
        "<|return|>",
        ("<|return|>",),
        " so.<|end|><|start|>assistant<|channel|>final<|message|>ANSWER",
        late=("<|end|>",),
    ),
    Family(
        "phi4-reasoning",
        "<|im_start|>system<|im_sep|>Give a thought and a solution: <think> {Thought} </think> {Solution}<|im_end|>"
        "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}",
        "<|im_end|><|im_start|>assistant<|im_sep|><think>",
        "</think>",
        "<|endoftext|>",
        _IM,
        " so.</think>ANSWER",
    ),
    Family(
        "glm-4.6",
        "[gMASK]<sop>{% for m in messages %}{% if m.role == 'user' %}<|user|>\n{{ m.content }}"
        "{% if enable_thinking is false %}/nothink{% endif %}{% elif m.role == 'assistant' %}<|assistant|>\n"
        "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% else %}<think></think>{% endif %}"
        "\n{{ m.content }}{% else %}<|system|>\n{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{{ '\n<think></think>' if enable_thinking is false else '' }}"
        "{% endif %}",
        "<|assistant|>\n<think>",
        "</think>",
        "<|endoftext|>",
        ("<|user|>",),
        " so.</think>\nANSWER",
    ),
    Family(
        "kimi-k2",
        "{% for m in messages %}<|im_{{ m.role }}|>{{ m.role }}<|im_middle|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif %}"
        "{# <|im_user|> <|im_system|> #}",
        "<|im_end|><|im_assistant|>assistant<|im_middle|>",
        None,
        "[EOS]",
        _IM,
    ),
    Family(
        "kimi-k2-thinking",
        "{% for m in messages %}<|im_{{ m.role }}|>{{ m.role }}<|im_middle|>"
        "{% if m.role == 'assistant' %}<think>{{ m.reasoning_content if m.tool_calls else '' }}</think>{% endif %}"
        "{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif %}"
        "{# <|im_user|> <|im_system|> #}",
        "<|im_end|><|im_assistant|>assistant<|im_middle|><think>",
        "</think>",
        "[EOS]",
        _IM,
        " so.</think>ANSWER",
    ),
    Family(
        "seed-oss",
        "{% for m in messages %}<seed:bos>{{ m.role }}\n{% if m.role == 'assistant' and m.reasoning_content %}"
        "<seed:think>{{ m.reasoning_content | trim }}</seed:think>{% endif %}{{ m.content | trim }}<seed:eos>"
        "{% endfor %}"
        "{% if add_generation_prompt %}<seed:bos>assistant\n{% endif %}",
        "<seed:eos><seed:bos>assistant\n<seed:think>",
        "</seed:think>",
        "<seed:eos>",
        ("<seed:eos>",),
        " so.</seed:think>ANSWER",
    ),
    Family(
        "nemotron-3",
        chatml(
            "{{ '<think>\n' + m.reasoning_content + '\n</think>\n' if m.reasoning_content else '<think></think>' }}"
            "{{ m.content }}",
            _OFF + "<think></think>{% else %}<think>\n{% endif %}",
        ),
        "<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "</think>",
        "<|im_end|>",
        _IM,
        " so.\n</think>\nANSWER",
    ),
    Family(
        "nemotron-nano-v2",
        "<SPECIAL_10>System\n\n{% for m in messages %}{% if m.role == 'user' %}<SPECIAL_11>User\n{{ m.content }}\n"
        "{% elif m.role == 'assistant' and not loop.last %}<SPECIAL_11>Assistant\n{{ m.content }}\n<SPECIAL_12>\n"
        "{% endif %}{% endfor %}<SPECIAL_11>Assistant\n<think>\n"
        "{% if messages[-1].role == 'assistant' %}{{ messages[-1].content.split('</think>')[-1] }}\n<SPECIAL_12>\n"
        "{% endif %}",
        "\n<SPECIAL_11>Assistant\n<think>\n",
        "</think>",
        "<SPECIAL_12>",
        ("<SPECIAL_12>",),
        " so.\n</think>\nANSWER",
    ),
    Family(
        "olmo3",
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n{{ m.content }}"
        "{{ eos_token if loop.last else '<|im_end|>\n' }}{% else %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}{# </think> #}",
        "<|im_end|>\n<|im_start|>assistant\n<think>",
        "</think>",
        "<|endoftext|>",
        _IM,
        " so.</think>ANSWER",
        plain_tags=("<think>", "</think>"),
    ),
    Family(
        "smollm3",
        "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
        + chatml("{{ m.content }}", "{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}"),
        "<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "</think>",
        "<|im_end|>",
        _IM,
        " so.\n</think>\nANSWER",
    ),
    Family(
        "command",
        "{% for m in messages %}<|START_OF_TURN_TOKEN|>{% if m.role == 'assistant' %}<|CHATBOT_TOKEN|>"
        "{% if m.tool_plan and m.tool_calls %}<|START_THINKING|>{{ m.tool_plan }}<|END_THINKING|>"
        "<|START_ACTION|>{{ m.tool_calls | length }}<|END_ACTION|>{% else %}"
        "<|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>{% endif %}{% else %}<|USER_TOKEN|>{{ m.content }}{% endif %}"
        "<|END_OF_TURN_TOKEN|>{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
        + _OFF
        + "<|START_THINKING|><|END_THINKING|>{% endif %}{% endif %}",
        "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>",
        "<|END_THINKING|>",
        "<|END_OF_TURN_TOKEN|>",
        ("<|END_OF_TURN_TOKEN|>",),
        " so.<|END_THINKING|><|START_RESPONSE|>ANSWER<|END_RESPONSE|>",
    ),
    Family(
        "solar-open",
        "{% for m in messages %}{% if m.reasoning %}<|begin|>assistant<|think|>{{ m.reasoning }}<|end|>{% endif %}"
        "<|begin|>{{ m.role }}<|content|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|begin|>assistant{% endif %}",
        "<|end|><|begin|>assistant<|think|>",
        "<|end|>",
        "<|flush|>",
        (),
        " so.<|end|><|begin|>assistant<|content|>ANSWER",
        late=("<|end|>",),
    ),
    Family(
        "apriel",
        "{% for m in messages %}<|begin_{{ m.role }}|>\n{% if m.reasoning_content %}{{ m.reasoning_content }}\n"
        "[BEGIN FINAL RESPONSE]\n{% endif %}{{ m.content }}\n<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|begin_assistant|>\nHere are my reasoning steps:\n{% endif %}",
        "\n<|end|>\n<|begin_assistant|>\nHere are my reasoning steps:\n",
        "[BEGIN FINAL RESPONSE]",
        "<|end|>",
        ("<|end|>",),
        " so.\n[BEGIN FINAL RESPONSE]\nANSWER",
    ),
    Family(
        "granite",
        "{% if thinking %}<|start_of_role|>system<|end_of_role|>Think between <think></think> and respond between "
        "<response></response>.<|end_of_text|>\n{% endif %}{% for m in messages %}<|start_of_role|>{{ m.role }}"
        "<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}",
        "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|><think>",
        "</think>",
        "<|end_of_text|>",
        ("<|end_of_text|>",),
        " so.</think>ANSWER",
        plain_tags=("<think>", "</think>", "<response>", "</response>"),
    ),
    Family(
        "phi3",
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}{# <|user|> <|system|> #}",
        "<|end|>\n<|assistant|>\n",
        None,
        "<|endoftext|>",
        ("<|end|>",),
    ),
    *NEWER_FAMILIES,
]
