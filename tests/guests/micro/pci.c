#include "pci.h"

enum { kConfigAddress = 0xcf8, kConfigData = 0xcfc, kCommand = 4, kMemoryAndMaster = 6 };

uint32_t pci_read32(uint32_t device, uint32_t offset) {
    out32(kConfigAddress, 0x80000000u | device << 8 | (offset & 0xfc));
    return in32(kConfigData);
}

void pci_write32(uint32_t device, uint32_t offset, uint32_t value) {
    out32(kConfigAddress, 0x80000000u | device << 8 | (offset & 0xfc));
    out32(kConfigData, value);
}

static uint8_t read8(uint32_t device, uint32_t offset) {
    return (uint8_t)(pci_read32(device, offset) >> (offset & 3) * 8);
}

uint32_t pci_next(uint32_t device) {
    const bool several = (read8(device & ~7u, 0x0e) & 0x80) != 0;
    return several && pci_read32(device & ~7u, 0) != ~0u ? device + 1 : (device & ~7u) + 8;
}

uint64_t ecam_address(void) {
    const uint64_t rsdp = rsdp_address();
    if (rsdp == 0) {
        return 0;
    }
    const uint8_t* xsdt = (const uint8_t*)*(const uint64_t*)(rsdp + 24);
    const uint32_t size = *(const uint32_t*)(xsdt + 4);
    for (uint32_t at = 36; at + 8 <= size; at += 8) {
        uint64_t address;
        memcpy(&address, xsdt + at, 8);
        if (memcmp((const void*)address, "MCFG", 4) == 0) {
            memcpy(&address, (const uint8_t*)address + 44, 8);
            return address;
        }
    }
    return 0;
}

uint64_t pci_map_bar(uint32_t device, uint32_t bar) {
    const uint32_t low = pci_read32(device, 0x10 + bar * 4);
    if ((low & 1) != 0) {
        return 0;
    }
    uint64_t address = low & ~15u;
    if ((low & 6) == 4) {
        address |= (uint64_t)pci_read32(device, 0x14 + bar * 4) << 32;
    }
    if (address != 0) {
        map_gib(address);
        pci_write32(device, kCommand, (pci_read32(device, kCommand) & 0xffff) | kMemoryAndMaster);
    }
    return address;
}

uint32_t pci_find_capability(uint32_t device, uint8_t id, uint32_t after) {
    uint32_t at = after == 0 ? read8(device, 0x34) : read8(device, after + 1);
    for (int i = 0; i < 48 && at >= 0x40; i++) {
        if (read8(device, at) == id) {
            return at;
        }
        at = read8(device, at + 1);
    }
    return 0;
}

static void map_capabilities(Virtio* device) {
    for (uint32_t cap = 0; (cap = pci_find_capability(device->pci, 9, cap)) != 0;) {
        const uint8_t type = read8(device->pci, cap + 3);
        if (type < 1 || type > 4) {
            continue;
        }
        const uint64_t bar = pci_map_bar(device->pci, read8(device->pci, cap + 4));
        volatile uint8_t* at = (volatile uint8_t*)(bar + pci_read32(device->pci, cap + 8));
        if (bar == 0) {
            continue;
        }
        switch (type) {
            case 1: device->common = at; break;
            case 2:
                device->notify = at;
                device->notify_multiplier = pci_read32(device->pci, cap + 16);
                break;
            case 3: device->isr = at; break;
            default: device->config = at; break;
        }
    }
}

bool virtio_find(Virtio* device, uint32_t type, uint32_t nth) {
    for (uint32_t at = 0; at < kPciFunctions; at = pci_next(at)) {
        const uint32_t id = pci_read32(at, 0);
        if (id != (0x1af4u | (0x1040u + type) << 16) || nth-- != 0) {
            continue;
        }
        memset(device, 0, sizeof *device);
        device->pci = at;
        device->type = type;
        map_capabilities(device);
        return device->common != NULL && device->notify != NULL && device->isr != NULL;
    }
    return false;
}

void common_write16(const Virtio* device, uint32_t offset, uint16_t value) {
    *(volatile uint16_t*)(device->common + offset) = value;
}
static void common_write32(const Virtio* device, uint32_t offset, uint32_t value) {
    *(volatile uint32_t*)(device->common + offset) = value;
}
void common_write64(const Virtio* device, uint32_t offset, uint64_t value) {
    common_write32(device, offset, (uint32_t)value);  // §4.1.3.1: as two 32-bit halves
    common_write32(device, offset + 4, (uint32_t)(value >> 32));
}
uint16_t common_read16(const Virtio* device, uint32_t offset) {
    return *(volatile uint16_t*)(device->common + offset);
}
uint8_t virtio_status(const Virtio* device) {
    return device->common[kCommonStatus];
}

void virtio_reset(Virtio* device) {
    device->common[kCommonStatus] = 0;
    const uint64_t begun = rdtsc();
    while (virtio_status(device) != 0 && rdtsc() - begun < 2000000 * tsc_per_us()) {
        pause_once();
    }
}

bool virtio_begin(Virtio* device, uint64_t wanted) {
    virtio_reset(device);
    device->common[kCommonStatus] = kStatusAcknowledge;
    device->common[kCommonStatus] = kStatusAcknowledge | kStatusDriver;
    uint64_t offered = 0;
    for (uint32_t half = 0; half < 2; half++) {
        common_write32(device, kCommonDeviceFeatureSelect, half);
        offered |= (uint64_t) * (volatile uint32_t*)(device->common + kCommonDeviceFeature)
                   << half * 32;
    }
    device->features = offered & (wanted | kFeatureVersion1);
    for (uint32_t half = 0; half < 2; half++) {
        common_write32(device, kCommonDriverFeatureSelect, half);
        common_write32(device, kCommonDriverFeature, (uint32_t)(device->features >> half * 32));
    }
    device->common[kCommonStatus] = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
    return (device->features & kFeatureVersion1) != 0 &&
           (virtio_status(device) & kStatusFeaturesOk) != 0;
}

bool virtio_queue(Virtio* device, Queue* queue, uint16_t index, uint16_t size_max) {
    common_write16(device, kCommonQueueSelect, index);
    const uint16_t offered = common_read16(device, kCommonQueueSize);
    if (offered == 0) {
        return false;
    }
    if (queue->size == 0) {  // first time: later ones use the same memory again
        queue->size = offered < size_max ? offered : size_max;
        queue->desc = allocate(queue->size * sizeof(Desc), 4096);
        queue->avail = allocate(6 + 2 * (size_t)queue->size, 16);
        queue->used = allocate(6 + 8 * (size_t)queue->size, 16);
    }
    memset((void*)queue->desc, 0, queue->size * sizeof(Desc));
    memset((void*)queue->avail, 0, 6 + 2 * (size_t)queue->size);
    memset((void*)queue->used, 0, 6 + 8 * (size_t)queue->size);
    queue->device = device;
    queue->index = index;
    queue->next_avail = 0;
    queue->seen_used = 0;
    common_write16(device, kCommonQueueSize, queue->size);
    common_write64(device, kCommonQueueDesc, (uint64_t)(uintptr_t)queue->desc);
    common_write64(device, kCommonQueueAvail, (uint64_t)(uintptr_t)queue->avail);
    common_write64(device, kCommonQueueUsed, (uint64_t)(uintptr_t)queue->used);
    const uint32_t offset = common_read16(device, kCommonQueueNotifyOff);
    queue->doorbell =
        (volatile uint16_t*)(device->notify + (uint64_t)offset * device->notify_multiplier);
    common_write16(device, kCommonQueueEnable, 1);
    return true;
}

void virtio_go(Virtio* device) {
    device->common[kCommonStatus] =
        kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk;
}

void queue_set(Queue* queue, uint16_t index, const volatile void* address, uint32_t length,
               uint16_t flags, uint16_t next) {
    volatile Desc* desc = &queue->desc[index];
    desc->address = (uint64_t)(uintptr_t)address;
    desc->length = length;
    desc->flags = flags;
    desc->next = next;
}

void queue_offer(Queue* queue, uint16_t head) {
    queue->avail[2 + queue->next_avail % queue->size] = head;
    barrier();
    queue->avail[1] = ++queue->next_avail;
    barrier();
}

void queue_notify(Queue* queue) {
    *queue->doorbell = queue->index;
}

bool queue_wait(Queue* queue, UsedElement* element, uint64_t limit_us) {
    const uint64_t begun = rdtsc();
    while (queue->used[1] == queue->seen_used) {
        pause_once();
        if (rdtsc() - begun > limit_us * tsc_per_us()) {
            return false;
        }
    }
    barrier();
    const volatile UsedElement* ring = (const volatile UsedElement*)(queue->used + 2);
    element->id = ring[queue->seen_used % queue->size].id;
    element->length = ring[queue->seen_used % queue->size].length;
    queue->seen_used++;
    return true;
}

bool msix_enable(Virtio* device, uint32_t entry, uint8_t vector) {
    const uint32_t cap = pci_find_capability(device->pci, 17, 0);
    if (cap == 0) {
        return false;
    }
    const uint32_t table = pci_read32(device->pci, cap + 4);
    const uint64_t bar = pci_map_bar(device->pci, table & 7);
    volatile uint32_t* at = (volatile uint32_t*)(bar + (table & ~7u) + entry * 16);
    at[0] = 0xfee00000u | lapic_read(0x20) >> 24 << 12;
    at[1] = 0;
    at[2] = vector;
    at[3] = 0;  // not masked
    pci_write32(device->pci, cap, pci_read32(device->pci, cap) | 0x80000000u);
    return bar != 0;
}
