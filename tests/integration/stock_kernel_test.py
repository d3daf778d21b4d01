"""Debian's own cloud kernel boots, where ring 0 runs natively. Where KVM emulates it, that kernel can't run
at all (its int3 self-test), so the test measures first and skips."""
import glob

import harness

NATIVE_MIPS = 100  # emulation does 1.5 to 4


class StockKernel(harness.Test):
    def test_debian_cloud_kernel_reaches_user_space(self):
        probe = harness.Guest(self, harness.micro("hello"), "speed")
        mips = int(probe.expect(r"micro: hello ok .*mips=(\d+)").group(1))
        if mips < NATIVE_MIPS:
            harness.skip(f"ring 0 is emulated here: {mips} million instructions a second")
        kernels = sorted(glob.glob("/boot/vmlinuz-*-cloud-amd64"))
        if not kernels:
            harness.skip("no stock kernel: install linux-image-cloud-amd64")
        guest = harness.Guest(self, kernels[-1], "console=ttyS0 quiet kumoi.end=poweroff",
                              initrd=harness.root_image("initrd.cpio"), memory_mib=256, vcpus=2)
        guest.expect("kumoi-tiny: user space", 60)
        guest.expect("kumoi-tiny: ready")
        self.assertEqual(guest.wait_exit(), 0, guest.story())


if __name__ == "__main__":
    harness.main()
