"""transformers' reading of a model's config.json: the one place, since code that a model brings along is never run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreshock.jobs.lean_transformers import reading_transformers

_DTYPES = """
    bfloat16 bit bits16 bits1x8 bits2x4 bits4x2 bits8 bool cdouble cfloat chalf complex128 complex32 complex64 double
    float float16 float32 float4_e2m1fn_x2 float64 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz
    float8_e8m0fnu half int int1 int16 int2 int3 int32 int4 int5 int6 int64 int7 int8 long qint32 qint8 quint2x4
    quint4x2 quint8 short uint1 uint16 uint2 uint3 uint32 uint4 uint5 uint6 uint64 uint7 uint8
"""
DTYPES = frozenset(_DTYPES.split())
"""torch's, to be known without it."""


def transformers_config(folder: Path) -> Any:
    """A PretrainedConfig; its dtypes may be names. Raises what transformers does: OSError, ValueError, KeyError;
    ValueError for wrong types."""
    try:
        with reading_transformers() as transformers:
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        require_dtypes(config.to_dict())
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{error} (a value of the wrong type)") from error
    except (OSError, ValueError, KeyError, MemoryError):
        raise
    except Exception as error:  # each model's class checks its values in its own way
        raise ValueError(str(error)) from error
    return config


_OTHER_TASK = re.compile(r"(Classification|QuestionAnswering|MultipleChoice|MaskedLM|Reward|RewardModel|ValueModel)$")


def other_task(config: Mapping[str, Any]) -> str | None:
    """The class that a parsed config.json names, where that is one of models that predict no tokens; else None. A
    language model can be made of most: their last layer is left out then, and embeddings that are tied take its place.
    """
    named = config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    return names[0] if names and all(map(_OTHER_TASK.search, names)) else None


def require_dtypes(config: Mapping[str, Any]) -> None:
    """Raise ValueError for a dtype that torch lacks: transformers refuses it where torch is imported."""
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    for stated in [part.get(key) for part in parts for key in ("dtype", "torch_dtype")]:
        if isinstance(stated, str) and stated not in DTYPES:
            raise ValueError(f"torch has no dtype {stated!r}")
