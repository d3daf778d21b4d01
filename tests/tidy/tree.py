"""What all checks share: which files there are, and how findings are printed."""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("base", "scheduler", "hypervisor", "migration", "compute", "api", "sim", "tests")


def files(root, *suffixes):
    """Files git tracks or would add, below the code folders, as paths relative to root."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(name for name in listed
                  if name.startswith(tuple(folder + "/" for folder in CODE_FOLDERS))
                  and name.endswith(suffixes) and (root / name).is_file())


def finish(title, findings):
    for finding in findings:
        print(finding)
    print(f"{title}: {len(findings)} findings")
    sys.exit(1 if findings else 0)
