"""transformers is imported without scikit-learn, its tokenizers without torch, and nothing else of it is changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.generation.candidate_generator as loaded
from transformers import utils

from foreshock.jobs.lean_transformers import leave_out_sklearn, reading_transformers
from foreshock.jobs.model_files.transformers_config import DTYPES, require_dtypes, transformers_config
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint


def test_only_the_generation_code_is_told_that_scikit_learn_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["transformers.generation"], "candidate_generator", loaded)  # put back at the end
    monkeypatch.delitem(sys.modules, loaded.__name__)
    before = utils.is_sklearn_available
    leave_out_sklearn()
    anew = sys.modules[loaded.__name__]
    assert anew is not loaded
    assert not anew.is_sklearn_available()
    assert not hasattr(anew, "roc_curve")
    assert utils.is_sklearn_available is before
    assert utils.is_sklearn_available()


def test_what_is_imported_stays() -> None:
    leave_out_sklearn()
    assert sys.modules[loaded.__name__] is loaded


def test_where_transformers_is_imported_it_is_that_one() -> None:
    with reading_transformers() as found:
        assert found is sys.modules["transformers"]


def test_torchs_dtypes_are_known_without_it() -> None:
    assert {name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)} == DTYPES


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("placed", [lambda stated: stated, lambda stated: {"text_config": stated}])
def test_a_dtype_that_torch_lacks_is_refused(key: str, placed: Callable[[dict[str, str]], dict[str, Any]]) -> None:
    require_dtypes(placed({key: "bfloat16"}))
    with pytest.raises(ValueError, match="torch has no dtype 'auto'"):
        require_dtypes(placed({key: "auto"}))


_TELL = """
def tell(folder):
    tokenizer, config = load_tokenizer(folder), transformers_config(Path(folder)).to_dict()
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "What is  it?"}], tokenize=False)
    return [tokenizer.encode(" a  b\\n"), tokenizer.decode([5, 9]), asked, sorted(tokenizer.get_vocab()), repr(config)]
"""
_ALONE = f"""
import json, sys
from pathlib import Path
from foreshock.jobs.lean_transformers import reading_transformers
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.model_files.transformers_config import transformers_config
{_TELL}
said = tell(sys.argv[1])
with reading_transformers() as outer, reading_transformers() as inner:
    same = outer is inner and not outer.is_torch_available()
imported = [name for name in ("torch", "transformers", "sklearn", "pandas") if name in sys.modules]
import transformers

print(json.dumps([said, same, imported, transformers.is_torch_available()]))
"""


def test_tokenizers_and_configurations_are_the_same_without_torch_and_leave_no_trace(tiny: Checkpoint) -> None:
    child = subprocess.run([sys.executable, "-c", _ALONE, str(tiny.path)], capture_output=True, text=True, check=True)
    assert child.stderr == ""
    here: dict[str, Any] = {"Path": Path, "load_tokenizer": load_tokenizer, "transformers_config": transformers_config}
    exec(_TELL, here)
    assert json.loads(child.stdout) == [here["tell"](tiny.path), True, [], True]
