"""What is remembered of sealed shards says what their manifests say, as long as they are as they were sealed."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from foreshock.batch.status import sealed
from foreshock.batch.status.read import other_code
from foreshock.batch.status.sealed import SealedShards
from foreshock.jobs.records.bundling import bundle_shards
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.sealed_log import Sealed
from foreshock.jobs.records.shards import Origin, ShardManifest, ShardStore
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams


def spec(step: int) -> JobSpec:
    point = Checkpoint("run", step, Path("/nowhere"))
    digests = {"template_sha256": "t", "model_fingerprint": "f", "prefill_sha256": "p", "problems_sha256": "q"}
    return JobSpec(
        JobKind.EVAL, point, (0,), ("a",), (0, 1), SamplingParams(), "chat", verifier="v", schema_version=3, **digests
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunLayout, list[JobSpec]]:
    monkeypatch.setattr(sealed, "_WORTH", 1)
    layout, specs = RunLayout(tmp_path), [spec(step) for step in range(3)]
    for one in specs:
        writer = ShardStore(layout).open(one, Origin(f"commit-{one.checkpoint.step}", None, 3))
        rows = [
            {"checkpoint": one.checkpoint.name, "prefill_level": 0, "task_id": "a", "attempt_idx": i,
             "prefill_sha256": "p", "exploit_success": i == 0, "code_status": "ok"}
            for i in range(2)
        ]  # fmt: skip
        writer.write_part(rows)
        writer.seal()
    return layout, specs


def look(layout: RunLayout, specs: list[JobSpec]) -> list[Sealed | None]:
    shards = SealedShards(layout)
    found = [shards.find(one) for one in specs]
    shards.keep()
    return found


@pytest.mark.parametrize("logs", ["whole", "torn", "gone"])
def test_the_second_look_reads_no_manifest_and_says_the_same(
    run: tuple[RunLayout, list[JobSpec]], logs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log,) = (run[0].progress / "sealed").iterdir()
    if logs == "whole":
        monkeypatch.setattr(ShardManifest, "read", lambda path: pytest.fail(f"{path} was read"))
    elif logs == "torn":
        log.write_bytes(b"\0\0\n{}\n[]\n" + log.read_bytes()[:-20])
    else:
        shutil.rmtree(log.parent)
    first = look(*run)
    assert [one and (one.git_commit, one.n_exploits) for one in first] == [(f"commit-{i}", 1) for i in range(3)]
    monkeypatch.setattr(ShardManifest, "read", lambda path: pytest.fail(f"{path} was read"))
    assert look(*run) == first


@pytest.mark.parametrize("damage", ["gone", "cut", "touched and changed", "file", "format"])
def test_what_changed_is_looked_at_anew(run: tuple[RunLayout, list[JobSpec]], damage: str) -> None:
    layout, specs = run
    first = look(layout, specs)
    shard, memory = layout.shard_file(specs[1]), layout.progress / "sealed-shards.json"
    if damage == "gone":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-5])
    elif damage == "touched and changed":
        shard.write_bytes(shard.read_bytes().replace(b'"ok"', b'"oh"'))
        os.utime(shard, (1, 1))
    elif damage == "file":
        memory.write_text("{")
    else:
        memory.write_text(json.dumps({"format": 0, "shards": {"x": 1}}))
    expected = first if damage in ("file", "format") else [first[0], None, first[2]]
    assert look(layout, specs) == expected


@pytest.mark.parametrize("bundle", ["as written", "copied", "after the look began"])
def test_bundles_say_what_single_shards_said(run: tuple[RunLayout, list[JobSpec]], bundle: str) -> None:
    layout, specs = run
    first, began_before = look(layout, specs), SealedShards(layout)
    assert began_before.bundled(specs[0].key()) is None
    bundle_shards(ShardStore(layout), specs, pytest.fail)
    assert not layout.shard_file(specs[0]).exists()
    if bundle == "copied":
        os.utime(next(layout.bundles.iterdir()), (1, 1))
    if bundle == "after the look began":
        assert [began_before.find(one) for one in specs] == first
    else:
        assert look(layout, specs) == look(layout, specs) == first


BY_A = "the run was planned by aaaaaaaaaaaa"


@pytest.mark.parametrize(
    ("commits", "planned", "notes"),
    [
        ({"a" * 40: 3}, "a" * 40, []),
        ({None: 3, "a" * 40: 1}, None, []),
        ({"b" * 40: 2, "a" * 40: 1}, "a" * 40, ["2 shards were computed by commit bbbbbbbbbbbb, " + BY_A]),
        ({"a" * 40 + "+changed": 1}, "a" * 40, ["1 shards were computed by commit aaaaaaaaaaaa+changed, " + BY_A]),
        ({None: 2}, "a" * 40, ["2 shards do not say which code computed them, " + BY_A]),
    ],
)
def test_other_code_is_told(commits: dict[str | None, int], planned: str | None, notes: list[str]) -> None:
    assert other_code(Counter(commits), planned) == notes


def test_a_run_that_is_not_ours_is_read_all_the_same(run: tuple[RunLayout, list[JobSpec]]) -> None:
    layout, specs = run
    shutil.rmtree(layout.progress)
    layout.progress.write_text("a file where a folder should be")
    assert all(look(layout, specs))
