"""The quota of CPU time, from the files of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from latkit.core.cgroup import cpu_quota
from latkit.core.cores import check_threads, usable_cores
from latkit.core.device import machine_facts
from latkit.core.errors import InputError

V2 = "36 25 0:31 {top} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "33 31 0:30 {top} /sys/fs/cgroup/cpu,cpuacct rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:31 {top} /sys/fs/cgroup/cpuset rw shared:5 - cgroup cgroup rw,cpuset\n"
)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("mountinfo", [{}, {"proc/self/mountinfo": V2.format(top="/")}])
@pytest.mark.parametrize(
    ("groups", "quota"),
    [
        ({"user.slice/job": "150000 100000\n"}, 1.5),
        ({"user.slice": "50000 100000\n"}, 0.5),
        # The tightest of the path counts, wherever it is.
        (
            {"": "400000 100000", "user.slice": "200000 100000", "user.slice/job": "300000 100000"},
            2,
        ),
        ({"user.slice": "max 100000", "user.slice/job": "70000 100000"}, 0.7),
        ({"user.slice": "max 100000", "user.slice/job": "max 100000"}, None),
        # Another job's limit is not ours.
        ({"user.slice/other": "10000 100000"}, None),
        ({"user.slice/job": "x 100000"}, None),
        ({"user.slice/job": "100000 0"}, None),
    ],
)
def test_v2(
    tmp_path: Path, mountinfo: dict[str, str], groups: dict[str, str], quota: float | None
) -> None:
    files = {f"sys/fs/cgroup/{group}/cpu.max": text for group, text in groups.items()}
    root = tree(tmp_path, {"proc/self/cgroup": "0::/user.slice/job\n", **mountinfo, **files})
    assert cpu_quota(root) == quota
    assert machine_facts(root)["cpu_quota"] == quota


@pytest.mark.parametrize("mountinfo", [{}, {"proc/self/mountinfo": V1.format(top="/")}])
def test_v1(tmp_path: Path, mountinfo: dict[str, str]) -> None:
    group = "sys/fs/cgroup/cpu,cpuacct/docker/ab12"
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": (
                "5:cpuset:/elsewhere\n4:cpu,cpuacct:/docker/ab12\n1:name=systemd:/docker/ab12\n"
            ),
            **mountinfo,
            f"{group}/cpu.cfs_quota_us": "250000\n",
            f"{group}/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cpu_quota(root) == 2.5
    (root / group / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(root) is None


def test_v1_and_v2_side_by_side(tmp_path: Path) -> None:
    unified = V2.format(top="/").replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "1:cpu:/a\n0::/b\n",
            "proc/self/mountinfo": V1.format(top="/") + unified,
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/unified/b/cpu.max": "200000 100000",
            "sys/fs/cgroup/unified/a/cpu.max": "1000 100000",
        },
    )
    assert cpu_quota(root) == 2


@pytest.mark.parametrize("inside", ["", "/init.scope"])
def test_a_container_that_sees_its_own_subtree_as_the_whole(tmp_path: Path, inside: str) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": f"0::/docker/ab12{inside}\n",
            "proc/self/mountinfo": V2.format(top="/docker/ab12"),
            f"sys/fs/cgroup{inside}/cpu.max": "150000 100000",
        },
    )
    assert cpu_quota(root) == 1.5


def test_a_path_above_the_namespace_is_not_followed(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "root",
        {"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/cpu.max": "100000 100000"},
    )
    tree(tmp_path, {"x/cpu.max": "1000 100000"})
    assert cpu_quota(root) == 1


def test_a_mount_with_a_space_and_lines_that_are_none(tmp_path: Path) -> None:
    mounts = V2.format(top="/").replace("/sys/fs/cgroup", "/my\\040groups")
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a\nnonsense\n",
            "proc/self/mountinfo": f"\nx\n - cgroup2\n{mounts}",
            "my groups/a/cpu.max": "100000 50000",
        },
    )
    assert cpu_quota(root) == 2


def test_no_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def test_more_threads_than_the_quota_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, {"sys/fs/cgroup/cpu.max": "50000 100000"})
    check_threads(1, root)  # throttled too, but there is no smaller number
    if usable_cores() > 1:
        with pytest.raises(InputError, match=r"0\.5.*--threads 1"):
            check_threads(2, root)
