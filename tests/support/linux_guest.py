"""The Linux test guests of tests/guests/linux, made where they are not."""
import pathlib
import subprocess

GUESTS = pathlib.Path(__file__).resolve().parents[1] / "guests/linux"


def folders():
    """Where the kernel is, and where the root file systems are."""
    return [subprocess.run([str(GUESTS / script)], capture_output=True, text=True, check=True).stdout.strip()
            for script in ("build.sh", "make-root.sh")]
