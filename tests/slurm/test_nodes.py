"""Nodes on which elements fail at once."""

from __future__ import annotations

from pathlib import Path

from foreshock.slurm.nodes import bad_nodes, nodes_to_exclude


def note(run: Path, node: str, *marks: str) -> None:
    folder = run / "slurm" / "nodes" / node
    folder.mkdir(parents=True, exist_ok=True)
    for mark in marks:
        (folder / mark).write_text("1\n")


def test_a_bad_node_is_named_with_what_its_element_said(tmp_path: Path) -> None:
    note(tmp_path, "n1", "failed-7_0-0", "failed-7_3-0")
    note(tmp_path, "n2", "worked")
    logs = tmp_path / "logs" / "slurm"
    logs.mkdir(parents=True)
    (logs / "sweep_fs-1-a0-7_3.log").write_text(
        "[foreshock 2026-01-01 00:00:00] === job 7_3 attempt 0 on n1 ===\nXid 79\n"
    )
    (node,) = bad_nodes(tmp_path)
    assert str(node).startswith("n1: 2 elements failed at once (not excluded")
    assert str(node).endswith(": the GPU reported a fault: Xid 79")
    assert nodes_to_exclude(tmp_path) == ["n1"]


def test_one_failure_or_one_element_again_is_no_verdict(tmp_path: Path) -> None:
    note(tmp_path, "n1", "failed-7_0-0", "failed-7_0-1")
    note(tmp_path, "n2", "worked")
    assert nodes_to_exclude(tmp_path) == []


def test_where_no_node_does_work_the_nodes_are_not_to_blame(tmp_path: Path) -> None:
    note(tmp_path, "n1", "failed-7_0-0", "failed-7_1-0")
    note(tmp_path, "n2", "failed-7_2-0", "failed-7_3-0")
    assert nodes_to_exclude(tmp_path) == []


def test_a_node_that_did_work_is_kept_unless_the_jobs_excluded_it(tmp_path: Path) -> None:
    note(tmp_path, "n1", "failed-7_0-0", "failed-7_1-0", "worked")
    note(tmp_path, "n2", "worked")
    assert nodes_to_exclude(tmp_path) == []
    note(tmp_path, "n1", "excluded")
    assert nodes_to_exclude(tmp_path) == ["n1"]
