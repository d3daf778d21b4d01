#!/usr/bin/python3
"""Tempest against the compute service in the test cloud: tempest_test.py [smoke | all]. A failure that
devstack/cloud/tempest/reasons.txt explains is no failure here; docs/reference/tempest.md lists it."""
import os
import pathlib
import subprocess
import sys

from openstack_cloud import DEVSTACK, ROOT, OpenStackCloud

TEMPEST = DEVSTACK / "tempest"


def main():
    which = sys.argv[1] if len(sys.argv) > 1 else "smoke"
    cloud = OpenStackCloud.up(compute="kumoi", proxy=True)
    results = pathlib.Path(os.environ.get("RESULTS", cloud.state / f"tempest/{which}.json"))
    results.unlink(missing_ok=True)
    words = [f"@{TEMPEST}/smoke.txt"] if which == "smoke" else []
    environment = {**os.environ, "KUMOI_CLOUD_LOCKED": "1", "RESULTS": str(results)}
    environment.setdefault("CONCURRENCY", "2")
    ran = subprocess.run([str(TEMPEST / "run.sh"), *words], env=environment, check=False)
    if not results.exists():
        sys.exit(f"tempest ended with {ran.returncode} and without results")
    status = subprocess.run(["/usr/bin/python3", str(TEMPEST / "report.py"), "verdict", str(results)], check=False).returncode
    if which == "all":
        subprocess.run([str(TEMPEST / "run.sh"), "--list"], env=environment, stdout=subprocess.DEVNULL, check=True)
        page = ROOT / "build/tempest.md"
        with open(page, "w") as file:
            subprocess.run(["/usr/bin/python3", str(TEMPEST / "report.py"), "page", str(results),
                            os.environ.get("KUMOI_CACHE", "/var/cache/kumoi") + "/cloud/tempest-list"], stdout=file, check=True)
        print(f"{page} is the new docs/reference/tempest.md")
    cloud.release()
    sys.exit(status)


main()
