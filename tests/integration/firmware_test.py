"""Stock SeaBIOS boots GRUB from a disk and from a CD, and GRUB boots Linux.

Ring 0 is emulated on some machines: there each of these takes half a minute and more.
"""
import os

import boot_images
import harness

BIOS = "/usr/share/seabios/bios-256k.bin"
BIOS_SECONDS = 60
GRUB_SECONDS = 120
LINUX_SECONDS = 150


class Firmware(harness.Test):
    def guest(self, **members):
        if not os.path.exists(BIOS):
            harness.skip("no SeaBIOS: install seabios")
        guest = harness.Guest(self, None, start=False, memory_mib=64, **members)
        del guest.config["boot"]
        guest.config["firmware"] = {"type": "bios", "code": BIOS}
        return guest

    def test_bios_without_a_disk_says_so_and_resets(self):
        guest = self.guest().start()
        guest.expect("SeaBIOS", BIOS_SECONDS)
        guest.expect("No bootable device", BIOS_SECONDS)
        guest.control().call("reset")
        guest.expect("SeaBIOS", BIOS_SECONDS)
        guest.expect("No bootable device", BIOS_SECONDS)

    def test_disk_with_grub_boots_linux(self):
        path = self.disk(64)
        boot_images.make_disk(path, harness.linux("bzImage"), harness.root_image("kumoi-tiny.raw"),
                              "console=ttyS0 root=/dev/vda1 rw")
        guest = self.guest(disks=[{"id": "root", "path": path}], vcpus=2)
        guest.start()
        guest.expect("kumoi-grub: loading", BIOS_SECONDS)
        guest.expect("kumoi-grub: starting", GRUB_SECONDS)
        guest.expect("Linux version", LINUX_SECONDS)
        guest.expect("kumoi-tiny: user space", LINUX_SECONDS)
        guest.control().call("power_button")
        guest.expect("kumoi-tiny: power button, powering off", 60)
        self.assertEqual(guest.wait_exit(60), 0, guest.story())

    def test_disk_on_the_scsi_bus_boots_grub_although_another_has_the_first_slot(self):
        path = self.disk(64)
        boot_images.make_disk(path, harness.linux("bzImage"), harness.root_image("kumoi-tiny.raw"),
                              "earlyprintk=serial,ttyS0 console=ttyS0 panic=-1")
        guest = self.guest(disks=[{"id": "other", "path": self.disk(16)},
                                  {"id": "root", "path": path, "bus": "scsi"}],
                           cdroms=[{"id": "cd0"}])
        guest.config["boot"] = {"order": ["root"]}
        guest.start()
        guest.expect("kumoi-grub: loading", BIOS_SECONDS)
        guest.expect("kumoi-grub: starting", GRUB_SECONDS)
        guest.expect("Linux version", LINUX_SECONDS)

    def test_cd_with_grub_comes_first_and_starts_linux(self):
        path = os.path.join(self.disk(1) + ".iso")
        self.addCleanup(os.remove, path)
        # earlyprintk: the banner at once, not when the serial driver starts: minutes later on a slow host
        boot_images.make_cd(path, harness.linux("bzImage"),
                            "earlyprintk=serial,ttyS0 console=ttyS0 panic=-1")
        guest = self.guest(disks=[{"id": "root", "path": self.disk(16)}],
                           cdroms=[{"id": "cd0", "path": path}])
        guest.config["boot"] = {"order": ["cd0", "root"]}
        guest.start()
        guest.expect("kumoi-grub: loading", BIOS_SECONDS)
        guest.expect("kumoi-grub: starting", GRUB_SECONDS)
        guest.expect("Linux version", LINUX_SECONDS)


if __name__ == "__main__":
    harness.main()
