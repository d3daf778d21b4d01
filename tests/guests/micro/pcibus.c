// PCI and ACPI as a guest finds them: checksums of every ACPI table, CF8/CFC and ECAM agree, BARs
// can be sized and keep their place, each function with MSI-X has a table.
#include "pci.h"

static const char kName[] = "pcibus";

static uint8_t sum(const uint8_t* bytes, uint32_t size) {
    uint8_t total = 0;
    for (uint32_t i = 0; i < size; i++) {
        total = (uint8_t)(total + bytes[i]);
    }
    return total;
}

static void check_table(uint64_t address) {
    const uint8_t* table = (const uint8_t*)address;
    const uint32_t size = *(const uint32_t*)(table + 4);
    char name[5] = {0};
    memcpy(name, table, 4);
    if (size < 36 || size > 65536 || sum(table, size) != 0) {
        verdict_fail(kName, "ACPI table %s at %x: %u bytes, checksum %x", name, address,
                     (uint64_t)size, (uint64_t)sum(table, size));
    }
    print(" %s", name);
    if (memcmp(name, "FACP", 4) == 0) {
        check_table(*(const uint32_t*)(table + 40));  // DSDT
    }
}

static void check_acpi(void) {
    const uint8_t* rsdp = (const uint8_t*)rsdp_address();
    if (rsdp == NULL || memcmp(rsdp, "RSD PTR ", 8) != 0 || sum(rsdp, 20) != 0 ||
        sum(rsdp, 36) != 0) {
        verdict_fail(kName, "no valid RSDP at %x", (uint64_t)(uintptr_t)rsdp);
    }
    print("\nmicro: pcibus acpi");
    uint64_t address;
    memcpy(&address, rsdp + 24, 8);
    check_table(address);
    const uint8_t* xsdt = (const uint8_t*)address;
    const uint32_t size = *(const uint32_t*)(xsdt + 4);
    for (uint32_t at = 36; at + 8 <= size; at += 8) {
        memcpy(&address, xsdt + at, 8);
        check_table(address);
    }
}

static void check_ecam(uint32_t device, uint64_t ecam) {
    map_gib(ecam);
    for (uint32_t offset = 0; offset < 64; offset += 4) {
        const uint32_t by_port = pci_read32(device, offset);
        const uint32_t by_memory = *(volatile uint32_t*)(ecam + (device << 12) + offset);
        if (by_port != by_memory) {
            verdict_fail(kName, "device %u offset %x: %x by port, %x by ECAM", (uint64_t)device,
                         (uint64_t)offset, (uint64_t)by_port, (uint64_t)by_memory);
        }
    }
}

// Sizes a BAR the standard way; it must be a power of two and come back to its place.
static void check_bar(uint32_t device, uint32_t bar) {
    const uint32_t offset = 0x10 + bar * 4;
    const uint32_t before = pci_read32(device, offset);
    pci_write32(device, offset, ~0u);
    const uint32_t mask = pci_read32(device, offset) & ((before & 1) != 0 ? ~3u : ~15u);
    pci_write32(device, offset, before);
    const uint32_t size = ~mask + 1;
    if (mask != 0 && (size & (size - 1)) != 0) {
        verdict_fail(kName, "device %u BAR %u: mask %x", (uint64_t)device, (uint64_t)bar,
                     (uint64_t)mask);
    }
    if (pci_read32(device, offset) != before) {
        verdict_fail(kName, "device %u BAR %u: %x became %x", (uint64_t)device, (uint64_t)bar,
                     (uint64_t)before, (uint64_t)pci_read32(device, offset));
    }
}

int main(void) {
    check_acpi();
    const uint64_t ecam = ecam_address();
    uint64_t functions = 0, virtio = 0;
    for (uint32_t device = 0; device < kPciFunctions; device = pci_next(device)) {
        const uint32_t id = pci_read32(device, 0);
        if (id == ~0u) {
            continue;
        }
        functions++;
        print("\nmicro: pcibus slot=%u function=%u id=%x class=%x", (uint64_t)(device >> 3),
              (uint64_t)(device & 7), (uint64_t)id, (uint64_t)(pci_read32(device, 8) >> 8));
        if (ecam != 0) {
            check_ecam(device, ecam);
        }
        if ((id & 0xffff) != 0x1af4) {
            continue;
        }
        virtio++;
        const uint32_t command = pci_read32(device, 4) & 0xffff;
        pci_write32(device, 4, command & ~3u);  // sizing with decoding off
        for (uint32_t bar = 0; bar < 6; bar++) {
            check_bar(device, bar);
        }
        pci_write32(device, 4, command);
        if (pci_find_capability(device, 17, 0) == 0) {
            verdict_fail(kName, "virtio device %u has no MSI-X", (uint64_t)device);
        }
    }
    if (functions == 0) {
        verdict_fail(kName, "no PCI function answers");
    }
    verdict_ok(kName, "functions=%u virtio=%u ecam=%x", functions, virtio, ecam);
}
