// PCI configuration by CF8/CFC or ECAM, and the modern virtio transport (virtio 1.2 §4.1) with
// split queues. Bus 0 only. Everything polls unless a guest sets up MSI-X itself.
#pragma once

#include "micro.h"

// A function is named by device number * 8 + function number.
enum { kPciFunctions = 256 };
uint32_t pci_read32(uint32_t device, uint32_t offset);
void pci_write32(uint32_t device, uint32_t offset, uint32_t value);
// The next function that may be there: others than 0 only in a slot that says it has them.
uint32_t pci_next(uint32_t device);
uint64_t ecam_address(void);  // from the ACPI table MCFG; 0 without one
// Physical address of a memory BAR, 0 if there is none. Makes it accessible and decoded.
uint64_t pci_map_bar(uint32_t device, uint32_t bar);
uint32_t pci_find_capability(uint32_t device, uint8_t id, uint32_t after);

enum {
    kVirtioNet = 1,
    kVirtioBlock = 2,
    kVirtioConsole = 3,
    kVirtioRng = 4,
    kVirtioBalloon = 5,
    kVirtioInput = 18,
    kVirtioVsock = 19,
    kVirtioMem = 24,
    kStatusAcknowledge = 1,
    kStatusDriver = 2,
    kStatusDriverOk = 4,
    kStatusFeaturesOk = 8,
    kStatusNeedsReset = 64,
    kDescNext = 1,
    kDescWrite = 2,
    kDescIndirect = 4,
    kCommonDeviceFeatureSelect = 0,
    kCommonDeviceFeature = 4,
    kCommonDriverFeatureSelect = 8,
    kCommonDriverFeature = 12,
    kCommonMsixConfig = 16,
    kCommonNumQueues = 18,
    kCommonStatus = 20,
    kCommonGeneration = 21,
    kCommonQueueSelect = 22,
    kCommonQueueSize = 24,
    kCommonQueueMsix = 26,
    kCommonQueueEnable = 28,
    kCommonQueueNotifyOff = 30,
    kCommonQueueDesc = 32,
    kCommonQueueAvail = 40,
    kCommonQueueUsed = 48,
    kCommonEnd = 56,
};
static const uint64_t kFeatureVersion1 = 1ull << 32;
static const uint64_t kFeatureIndirect = 1ull << 28;

typedef struct {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
} Desc;
typedef struct {
    uint32_t id, length;
} UsedElement;

typedef struct {
    uint32_t pci;  // the function on bus 0
    uint32_t type;
    volatile uint8_t* common;
    volatile uint8_t* isr;
    volatile uint8_t* config;
    volatile uint8_t* notify;
    uint32_t notify_multiplier;
    uint64_t features;  // agreed
} Virtio;

typedef struct {
    Virtio* device;
    uint16_t index, size;
    volatile Desc* desc;
    volatile uint16_t* avail;  // flags, idx, ring[size]
    volatile uint16_t* used;   // flags, idx, ring of UsedElement
    uint16_t next_avail, seen_used;
    volatile uint16_t* doorbell;
} Queue;

// The nth (from 0) virtio device of a type.
bool virtio_find(Virtio* device, uint32_t type, uint32_t nth);
// Reset, features (VERSION_1, and of `wanted` what is offered), FEATURES_OK. Then set queues up,
// then go.
bool virtio_begin(Virtio* device, uint64_t wanted);
void virtio_reset(Virtio* device);
bool virtio_queue(Virtio* device, Queue* queue, uint16_t index, uint16_t size_max);
void virtio_go(Virtio* device);
uint8_t virtio_status(const Virtio* device);
void common_write16(const Virtio* device, uint32_t offset, uint16_t value);
void common_write64(const Virtio* device, uint32_t offset, uint64_t value);
uint16_t common_read16(const Virtio* device, uint32_t offset);

void queue_set(Queue* queue, uint16_t index, const volatile void* address, uint32_t length,
               uint16_t flags, uint16_t next);
void queue_offer(Queue* queue, uint16_t head);  // into the avail ring, idx advanced
void queue_notify(Queue* queue);
// Waits for one more used element; false after limit_us.
bool queue_wait(Queue* queue, UsedElement* element, uint64_t limit_us);

// MSI-X table entry to this processor, and MSI-X on.
bool msix_enable(Virtio* device, uint32_t entry, uint8_t vector);
