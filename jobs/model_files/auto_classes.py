"""Importing this reads tokenizers' and configurations' code, so that processes forked afterwards have it."""

from foreshock.jobs.lean_transformers import reading_transformers

with reading_transformers() as transformers:
    _ = transformers.AutoConfig, transformers.AutoTokenizer
