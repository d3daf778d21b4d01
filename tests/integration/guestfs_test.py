"""kumoi-guestfs on disks made here: what it finds, what it changes, what it refuses. Needs libguestfs and a kernel for
its appliance: devstack/guestfs.sh gets both. The appliance is emulated: its start takes seconds."""
import fcntl
import json
import os
import shutil
import subprocess

import boot_images
import harness

PROGRAM = os.path.join(os.path.dirname(harness.VMM), "kumoi-guestfs")
KERNELS = os.path.join(os.environ.get("KUMOI_CACHE", "/var/cache/kumoi"), "guestfs")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Q2y6Jf8bq5m3yCq8Zf5rY1c3P7gC0p4m5kXxYzabc admin@example"
FILES = {
    "/etc/os-release": 'ID=debian\nNAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\n',
    "/etc/debian_version": "12.5\n",
    "/etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "/etc/hostname": "template\n",
    "/etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\ttemplate\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nadmin:x:1000:1000::/home/admin:/bin/sh\n",
    "/etc/shadow": "root:*:19000:0:99999:7:::\nadmin:!:19000:0:99999:7:::\n",
    "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "/etc/ssh/ssh_host_ed25519_key": "secret\n",
    "/var/log/syslog.1": "old\n",
    "/home/admin/notes": "stays\n",
    "/etc/netplan/50-cloud-init.yaml": "network: {version: 2}\n",
}
FOLDERS = ["/bin", "/boot", "/dev", "/etc", "/etc/ssh", "/etc/netplan", "/home", "/home/admin", "/proc", "/root",
           "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/var", "/var/log", "/var/lib", "/var/tmp", "/lib", "/sbin"]


def appliance():
    """What libguestfs needs in its environment; skips when it has no kernel."""
    environment = {"LIBGUESTFS_BACKEND": "direct"}
    if any(name.startswith("vmlinuz-") for name in os.listdir("/boot")):
        return environment
    modules = os.path.join(KERNELS, "root/lib/modules")
    if not os.path.isdir(modules):
        harness.skip("no kernel for libguestfs' appliance: run devstack/guestfs.sh")
    version = os.listdir(modules)[0]
    return environment | {"SUPERMIN_KERNEL": os.path.join(KERNELS, "root/boot/vmlinuz-" + version),
                          "SUPERMIN_KERNEL_VERSION": version, "SUPERMIN_MODULES": os.path.join(modules, version)}


class Guestfs(harness.Test):
    @classmethod
    def setUpClass(cls):
        if not os.path.exists(PROGRAM):
            harness.skip("kumoi-guestfs was not built: run devstack/guestfs.sh and build again")
        if shutil.which("mke2fs") is None and not os.path.exists("/sbin/mke2fs"):
            harness.skip("no mke2fs: install e2fsprogs")
        cls.environment = os.environ | appliance()

    def system(self, size_mib=48):
        """A raw disk with a small Debian-like system on it."""
        path = self.disk(size_mib)
        harness.run("/sbin/mke2fs", "-q", "-F", "-t", "ext4", path)
        texts = []
        folder = path + ".files"
        os.mkdir(folder)
        self.addCleanup(shutil.rmtree, folder, True)
        commands = [f"mkdir {name}" for name in FOLDERS]
        for index, (name, text) in enumerate(FILES.items()):
            source = os.path.join(folder, str(index))
            with open(source, "w") as file:
                file.write(text)
            texts.append(source)
            commands.append(f"write {source} {name}")
        boot_images.debugfs(path, *commands)
        return path

    def program(self, *arguments, request=None):
        return subprocess.run([PROGRAM, *arguments], input=json.dumps(request) if request is not None else "",
                              capture_output=True, text=True, env=self.environment, timeout=600)

    def cat(self, path, name):
        done = subprocess.run(["/sbin/debugfs", "-R", f"cat {name}", path], capture_output=True, text=True)
        return done.stdout

    def stat(self, path, name):
        return subprocess.run(["/sbin/debugfs", "-R", f"stat {name}", path], capture_output=True, text=True).stdout

    def test_inspect_and_customize(self):
        path = self.system()
        done = self.program("inspect", "--emulate", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        about = json.loads(done.stdout)
        self.assertEqual((about["type"], about["distribution"], about["hostname"]), ("linux", "debian", "template"))
        self.assertEqual(list(about["file_systems"]), ["/"])

        request = {"hostname": "web-1.example.org", "reset": True,
                   "users": [{"name": "root", "password": "correct horse"},
                             {"name": "admin", "ssh_keys": [KEY]}],
                   "network": [{"mac": "52:54:00:12:34:56", "addresses": ["192.0.2.5/24"],
                                "gateway4": "192.0.2.1", "dns": ["192.0.2.53"]}]}
        done = self.program("customize", "--emulate", path, request=request)
        self.assertEqual(done.returncode, 0, done.stderr)
        harness.run("/sbin/e2fsck", "-f", "-n", path)
        self.assertEqual(self.cat(path, "/etc/hostname"), "web-1.example.org\n")
        self.assertIn("127.0.1.1\tweb-1.example.org web-1\n", self.cat(path, "/etc/hosts"))
        self.assertEqual(self.cat(path, "/etc/machine-id"), "")
        self.assertEqual(self.cat(path, "/etc/ssh/ssh_host_ed25519_key"), "")
        self.assertEqual(self.cat(path, "/home/admin/notes"), "stays\n")
        hashed = self.cat(path, "/etc/shadow").split(":")[1]
        self.assertEqual(harness.run("openssl", "passwd", "-6", "-salt", hashed.split("$")[2],
                                     "correct horse").strip(), hashed)
        self.assertEqual(self.cat(path, "/home/admin/.ssh/authorized_keys"), KEY + "\n")
        self.assertRegex(self.stat(path, "/home/admin/.ssh/authorized_keys"), r"Mode:\s+0600")
        self.assertRegex(self.stat(path, "/home/admin/.ssh"), r"User:\s+1000\s+Group:\s+1000")
        self.assertIn('addresses: ["192.0.2.5/24"]', self.cat(path, "/etc/netplan/60-kumoi.yaml"))

    def test_the_command_line_works_on_stopped_machines_only(self):
        instances = self.disk(1) + ".instances"
        folder = os.path.join(instances, "6f1d0c0e-1b2a-4c3d-8e9f-001122334455")
        os.makedirs(folder)
        self.addCleanup(shutil.rmtree, instances, True)
        disk = self.system()
        for name, content in (("config.json", {"format": 1, "name": "web-1"}),
                              ("guest.json", {"disks": [{"id": "root", "path": disk, "format": "raw"}]})):
            with open(os.path.join(folder, name), "w") as file:
                json.dump(content, file)
        key = os.path.join(instances, "key.pub")
        with open(key, "w") as file:
            file.write(KEY + "\n")

        def kumoi(*arguments):
            return subprocess.run([os.path.join(os.path.dirname(harness.VMM), "kumoi"), "--instances-path", instances,
                                   "vm", *arguments], capture_output=True, text=True, env=self.environment, timeout=900)
        with open(os.path.join(folder, "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = kumoi("inspect", "web-1")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("web-1 runs", done.stderr)
        self.environment["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
        done = kumoi("customize", "web-1", "--reset", "--hostname", "web-2", "--ssh-key", "root=" + key)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("host name web-2", done.stdout + done.stderr)
        self.assertEqual(self.cat(disk, "/root/.ssh/authorized_keys"), KEY + "\n")

    def test_a_disk_without_a_system_is_refused(self):
        done = self.program("inspect", "--emulate", self.disk(4))
        self.assertEqual(done.returncode, 1)
        self.assertIn("0 operating systems", done.stderr)

    def test_wrong_requests_are_refused_before_the_disk_is_touched(self):
        for request, reason in (({"hostname": "a b"}, "host name"), ({"users": [{"name": "../x"}]}, "account name"),
                                ({"network": [{"mac": "1"}]}, "MAC address"), ({"hostnam": "a"}, "hostname")):
            done = self.program("customize", "--emulate", "/nonexistent", request=request)
            self.assertEqual(done.returncode, 1)
            self.assertIn(reason, done.stderr)


if __name__ == "__main__":
    harness.main()
