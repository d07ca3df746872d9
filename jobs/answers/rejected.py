"""Blocks that the answer itself says are not its solution: wrong ones, what it started from, a template."""

from __future__ import annotations

import re

from foreshock.jobs.answers.python_text import is_stub

_KIND = r"(?: (?:version|attempt|solution|implementation|approach|example|code|function|snippet|way))?"
_REJECTED = re.compile(
    r"[\W\d_]*+(?:(?:what|this|the following|the code below|something like this)(?: version| code| one)?"
    r" (?:would|does|will|is|do)(?:n[’']?t| not)?(?: work| be right| be correct| correct| right| wrong| incorrect)"
    r"|(?:please )?(?:don[’']?t|do not|never|avoid) (?:do|doing|write|writing|use|using) (?:this|it like this)"
    rf"|(?:a |the )?(?:wrong|incorrect|buggy|broken|bad|anti-?pattern|common mistakes?){_KIND}(?: would be| is)?"
    r"|(?:for (?:reference|comparison|context)\W+)?(?:here(?:[’']s| is| was) )?(?:before"
    rf"|(?:your|the|my) (?:original|old|previous|initial|existing){_KIND})(?: (?:is|was|looked like)(?: this)?)?"
    r"|for (?:reference|comparison|contrast)\W+(?:here(?:[’']s| is) )?(?:the|a) "
    rf"(?:naive|naïve|brute[- ]force|slow|slower|inefficient|original|old){_KIND}(?: is| was)?)"
    r"(?:,? (?:because|since|as it|\()[^\n]*)?[\W_]*",
    re.I,
)
"""A line, or a comment on a block's first one, that says of the block below that it is not to be used, or that it is
what the answer started from."""
_REJECTED_ELSEWHERE = re.compile(
    r"[\W\d_]*+(?:"
    # German
    r"(?:so nicht|nicht so|(?:das |dies(?:es)? )?(?:ist |wäre )?(?:falsch|fehlerhaft)(?: wäre| ist)?"
    r"|(?:die |eine )?falsche (?:version|lösung|variante)|(?:ein )?(?:schlechtes|falsches) beispiel|vorher"
    r"|(?:dein|ihr|der) (?:ursprünglicher?|bisheriger?|alter?) (?:code|version)(?: war| lautete)?)"
    # French
    r"|(?:à|a) ne pas faire|ne (?:faites|fais|utilisez|utilise) pas (?:ceci|cela|ça)|(?:c['’]est )?(?:faux|incorrect)"
    r"|(?:un )?mauvais exemple|(?:la |une )?(?:mauvaise|fausse) (?:version|solution)|avant"
    r"|(?:votre|ton|le) code (?:original|initial|d['’]origine)(?: était| est)?"
    # Spanish, Portuguese, Italian
    r"|(?:esto es )?incorrecto|no (?:hagas|uses|haga|use) esto|(?:un )?(?:mal ejemplo|ejemplo incorrecto)|antes"
    r"|(?:la |una )?(?:versión|solución) (?:incorrecta|errónea)|(?:tu|su|el) código original(?: era| es)?"
    r"|(?:isto é |isso é )?(?:errado|incorreto)|não (?:faça|use) (?:isto|isso)"
    r"|(?:o )?(?:seu|teu) código original(?: era| é)?"
    r"|(?:questo è )?(?:sbagliato|errato)|non (?:fare|usare) (?:così|questo)|(?:il )?tuo codice originale(?: era| è)?"
    # Russian
    r"|(?:это )?(?:неправильно|неверно)|так (?:не надо|не делайте|нельзя)|(?:плохой|неправильный) пример|было"
    r"|(?:ваш|твой) (?:исходный|первоначальный) код"
    # Chinese, Japanese, Korean
    r"|(?:以下是|这是)?错误(?:的)?(?:示例|例子|写法|做法|代码|版本|实现)?|反例|(?:请)?(?:不要|别)这样(?:写|做)|修改前|改之前"
    r"|(?:你的|您的)?(?:原始|原来的|原)代码(?:是|如下)?"
    r"|(?:悪い|間違った|誤った)(?:例|コード|実装)|間違い|誤り|修正前|元のコード"
    r"|(?:잘못된|나쁜) (?:예|예시|코드)|수정 전|원래 코드"
    r")[\W_]*",
    re.I,
)
"""The same in other languages."""
_TEMPLATE_ABOVE = re.compile(
    r"\b(?:template|skeleton|stub|signature|starter|boilerplate|placeholder|scaffold(?:ing)?|prototype|interface|exercise)\b",
    re.I,
)
"""A word of a line that announces a function without its body."""


def is_rejected(above: str, code: str, name: str) -> bool:
    """Whether the line above a block of code, or a comment on its first line, says that it is not to be used."""
    if _TEMPLATE_ABOVE.search(above) and is_stub(code, name):
        return True
    first = code.split("\n", 1)[0]
    said = (above, first if first.startswith("#") else "")
    return any(kind.fullmatch(line) for kind in (_REJECTED, _REJECTED_ELSEWHERE) for line in said)
