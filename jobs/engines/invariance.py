"""Does a row's result depend on the batch it is computed in? Measured on the loaded model, not assumed.

The answer is yes unless everything speaks against it: CPU, float32, one thread, a model small enough to test, and
bitwise equality of its matrix products over many batch sizes and of whole rows decoded and scored alone and in
company. Only then may an engine mix any rows in a batch, in any order, and still promise that a resumed run repeats
an uninterrupted one bit for bit.
"""

from __future__ import annotations

import numpy as np
import torch

from foreshock.jobs.engines.base import GenerationRequest
from foreshock.jobs.engines.decoding import Decoder, pad_prompts
from foreshock.jobs.engines.forward import MIN_ROWS, LogitsModel

_answers: dict[tuple[str, int], bool] = {}
_MAX_PARAMETERS = 50_000_000
_ROWS = (MIN_ROWS, MIN_ROWS + 1, 13, 16, 31, 48, 64, 100, 129, 256, 500)


@torch.inference_mode()
def rows_are_independent(model: LogitsModel) -> bool:
    """Whether generation and scoring of a row give the same bits whatever else is in the batch."""
    if (
        model.switch is not None
        or model.device.type != "cpu"
        or model.dtype != torch.float32
        or torch.get_num_threads() != 1
    ):
        return False
    if sum(p.numel() for p in model.model.parameters()) > _MAX_PARAMETERS:
        return False
    architecture = (model.config.to_json_string(use_diff=False), torch.get_num_threads())
    if architecture not in _answers:  # kernels are chosen by shape: one answer per architecture and process
        before = model.calls
        try:
            _answers[architecture] = _products_agree(model) and _rows_agree(model)
        finally:
            model.calls = before
    return _answers[architecture]


def _products_agree(model: LogitsModel) -> bool:
    """Matrix products of every shape in the model, over many numbers of rows."""
    shapes = {tuple(p.shape) for p in model.model.parameters() if p.dim() == 2}
    generator = torch.Generator().manual_seed(0)
    for n_out, n_in in shapes:
        weight = torch.randn(n_out, n_in, generator=generator)
        rows = torch.randn(max(_ROWS), n_in, generator=generator)
        whole = torch.nn.functional.linear(rows, weight)
        if any(not torch.equal(torch.nn.functional.linear(rows[:n], weight), whole[:n]) for n in _ROWS):
            return False
    return True


def _rows_agree(model: LogitsModel) -> bool:
    """Rows read, decoded for some steps and scored: alone, and among others of other lengths."""
    room = model.context_length or 256
    lengths = [n for n in (5, 12, 16, 23, 37, 50, 64, 90) if n + 8 < room] * 3
    prompts = [tuple((11 * i + 3 * k) % model.vocab_size for i in range(n)) for k, n in enumerate(lengths)]
    together = _trace(model, prompts)
    return all(torch.equal(_trace(model, [prompts[k]])[0], together[k]) for k in range(0, len(prompts), 5))


def _trace(model: LogitsModel, prompts: list[tuple[int, ...]]) -> torch.Tensor:
    """Logits [rows, steps, vocab] after each prompt and after each of some forced tokens, and of a plain pass."""
    requests = [GenerationRequest(i, prompt, 0, 8, temperature=0.0) for i, prompt in enumerate(prompts)]
    decoder = Decoder(model, requests, model.context_length, ragged=True)
    steps = [decoder.read_prompts()]
    rows = np.arange(len(steps[0]))
    rows[len(prompts) :] = 0
    for step in range(1, 4):
        tokens = torch.full((len(rows),), step % model.vocab_size, dtype=torch.long)
        steps.append(decoder.advance(tokens, rows, step))
    seen = torch.stack(steps, dim=1)[: len(prompts)]
    plain = torch.empty(len(prompts), 1, seen.shape[-1])
    widths = [model.padded(len(p)) for p in prompts]
    for width in set(widths):
        members = [k for k, w in enumerate(widths) if w == width]
        ids, counts = pad_prompts([prompts[k] for k in members], width, model.device)
        plain[members, 0] = model.prompt_logits(ids, torch.arange(len(members)), counts - 1)
    return torch.cat([seen, plain], dim=1)
