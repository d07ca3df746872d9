"""transformers' classes that read a folder's tokenizer and configuration, imported as leanly as they can be."""

from foreshock.jobs.lean_transformers import leave_out_sklearn

leave_out_sklearn()

from transformers import AutoConfig, AutoTokenizer  # noqa: E402 - see above

__all__ = ["AutoConfig", "AutoTokenizer"]
