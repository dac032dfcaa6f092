"""Profiles of clusters: they take the place of profiles/default, so they have to hold it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.helpers import ROOT

PROFILES = ROOT / "profiles"
#: What depends on the machine.
OF_THE_MACHINE = {"resources"}


def profile(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROFILES / name / "config.yaml").read_text())
    return content


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_cluster_decides_as_one_machine_does_what_is_finished(name: str) -> None:
    common = {k: v for k, v in profile("default").items() if k not in OF_THE_MACHINE}
    assert {k: v for k, v in profile(name).items() if k in common} == common


def test_the_controller_may_be_away_for_an_hour() -> None:
    slurm = profile("slurm")
    seconds = slurm["slurm-status-attempts"] / slurm["max-status-checks-per-second"]
    assert seconds == pytest.approx(3600)


def test_slurm_limits_no_gpus_and_warns_before_the_end() -> None:
    slurm = profile("slurm")
    assert "resources" not in slurm
    assert "--signal=USR1@120" in slurm["default-resources"]["slurm_extra"]
    assert slurm["slurm-requeue"] is True


def test_the_pod_has_what_its_profile_hands_out() -> None:
    job = yaml.safe_load((PROFILES / "kubernetes/job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    inside = profile("kubernetes")
    limits = dict(pair.split("=") for pair in inside["resources"])
    assert limits["gpu"] == container["resources"]["limits"]["nvidia.com/gpu"]
    assert str(inside["cores"]) == container["resources"]["requests"]["cpu"]
    gigabytes = int(container["resources"]["limits"]["memory"].removesuffix("Gi"))
    assert int(limits["mem_mb"]) <= gigabytes * 1024
