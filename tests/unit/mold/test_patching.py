"""gevent's patch of the standard library as the mold does it, in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: A package with a plugin of gevent's: it writes down what it hears of.
PLUGIN = """
heard = []
def hear(event):
    heard.append(type(event).__name__ + ":" + getattr(event, "module_name", ""))
"""
GROUPS = ("will_patch_all", "will_patch_module", "did_patch_module", "did_patch_builtin_modules", "did_patch_all")
PROGRAM = """
from importlib import metadata
reads = 0
class Counted(metadata.DistributionFinder):
    def find_spec(self, *_args): ...
    def find_distributions(self, context):
        global reads
        reads += 1
        return iter(())
import sys
sys.meta_path.append(Counted())
ask = metadata.entry_points
{patch}
import plugged, socket
print(len(plugged.heard), hash(tuple(plugged.heard)), reads, metadata.entry_points is ask, socket.socket.__module__)
"""


def patched(folder: Path, patch: str) -> list[str]:
    """What became of it: what the plugin heard of, how often packages were read, and whether all is as it was."""
    (folder / "plugged.py").write_text(PLUGIN)
    information = folder / "plugged-1.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1\n")
    groups = [f"[gevent.plugins.monkey.{group}]\nplugged = plugged:hear\n" for group in GROUPS]
    (information / "entry_points.txt").write_text("\n".join(groups))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(patch=patch)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{folder}", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_plugins_hear_of_all_and_packages_are_read_once(tmp_path: Path) -> None:
    heard, words, reads, restored, module = patched(
        tmp_path, "from djworker.mold.patches import patching; patching.patch_all()"
    )
    usual = patched(tmp_path, "from gevent import monkey; monkey.patch_all()")
    assert [heard, words] == usual[:2]
    assert int(heard) > len(GROUPS)
    assert int(reads) == 1 < int(usual[2])
    assert [restored, module] == ["True", "gevent._socket3"]
