"""Texts that a model could write to harm whoever looks at them."""

from __future__ import annotations

HOSTILE = {
    "script": "<script>document.title = 'owned'</script>",
    "image": "<img src=x onerror=\"document.title = 'owned'\">",
    "textarea": "</textarea></pre></script><script>document.title = 'owned'</script>",
    "json": '"});document.title="owned";//',
    "separators": "a\u2028b\u2029c",
    "surrogate": "half \ud800 pair",
    "ansi": "\x1b[31mred\x1b]8;;http://x\x07",
    "bidi": "abc\u202egnp.exe",
    "nul": "a\x00b",
}
