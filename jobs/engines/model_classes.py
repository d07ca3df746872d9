"""The parts of transformers that compute, imported as leanly as they can be."""

from foreshock.jobs.lean_transformers import leave_out_sklearn

leave_out_sklearn()

from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationMixin  # noqa: E402 - see above
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache  # noqa: E402 - see above
from transformers.integrations import sdpa_attention  # noqa: E402 - see above

__all__ = [
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "Cache",
    "CacheLayerMixin",
    "DynamicCache",
    "GenerationMixin",
    "sdpa_attention",
]
