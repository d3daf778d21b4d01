// VirtioDevice: what every virtio device type implements, and VirtioContext, what it gets while
// running.
//
// Life: the transport asks for features, queue sizes and config space at any time. At DRIVER_OK the
// DeviceRunner starts the device's I/O thread and calls start(); then process_queue() whenever the
// driver rings a queue; quiesce() before a pause; stop() (after quiesce()) at reset.
// Threading: read_config, write_config and statistics are called by vCPU and control threads while
// the device runs, so what they touch is atomic, constant or locked. Everything else runs on the
// I/O thread. A device may ask for several: then each queue is served by one of them, the *_queue
// calls come on that one, and everything else on the first.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "hypervisor/snapshot/section.h"
#include "hypervisor/virtio/queue.h"

namespace kumoi::hypervisor {

struct Statistic {
    std::string name;  // "read_bytes"
    uint64_t value = 0;
};
using DeviceStatistics = std::vector<Statistic>;

class VirtioContext {
public:
    virtual ~VirtioContext() = default;
    virtual EventLoop& loop() = 0;                                        // of the first thread
    virtual EventLoop& queue_loop(uint16_t /*index*/) { return loop(); }  // of the queue's thread
    virtual const Clock& clock() const = 0;                               // of the loops' timers
    virtual Queue* queue(uint16_t index) = 0;  // null when the driver did not enable it
    virtual uint64_t features() const = 0;     // what was negotiated
    // A turn for that queue now: process_queue(), publish, rearm. False when the queue is not
    // enabled or the device is broken: stop asking.
    virtual bool serve_queue(uint16_t index) = 0;
    // A turn soon: a device that stopped early has room again.
    virtual void run_queue(uint16_t index) = 0;
    virtual void config_changed() = 0;  // raises the configuration interrupt
    // For a queue that is served elsewhere: what the driver rings, and guest memory; -1 and null
    // where that cannot be.
    virtual int doorbell(uint16_t /*index*/) const { return -1; }
    virtual GuestMemory* memory() { return nullptr; }
};

class VirtioDevice {
public:
    virtual ~VirtioDevice() = default;
    virtual std::string name() const = 0;     // "disk0": for logs, events and statistics
    virtual uint16_t type() const = 0;        // virtio 1.2 §5
    virtual uint32_t class_code() const = 0;  // PCI class, 24 bits
    virtual uint64_t features() const = 0;    // device type bits only (0-23, 50-127)
    virtual std::vector<uint16_t> queue_sizes() const = 0;  // largest size of each queue
    // Any offset and length; bytes past the end of the config space read as zero.
    virtual void read_config(uint32_t offset, std::span<uint8_t> out) const = 0;
    virtual void write_config(uint32_t /*offset*/, std::span<const uint8_t> /*bytes*/) {}
    virtual DeviceStatistics statistics() const = 0;

    // How many threads serve it (at least 1), and which one serves a queue.
    virtual uint16_t thread_count() const { return 1; }
    virtual uint16_t thread_of(uint16_t /*queue_index*/) const { return 0; }

    virtual Result<void> start(VirtioContext& context) = 0;
    virtual Result<void> start_queue(Queue& /*queue*/) { return {}; }  // after start()
    // On the first thread, each time that turns begin: after a start or a resume, not while paused.
    virtual void begin_serving() {}
    // Somebody else has this queue (vhost-net): no turns, and nobody here touches its rings.
    virtual bool served_elsewhere(uint16_t /*queue_index*/) const { return false; }
    // One bounded turn. The caller has begun the batch, publishes afterwards, and if the queue ran
    // dry asks the driver to notify again.
    virtual void process_queue(Queue& queue) = 0;
    // Return when nothing is in flight and guest memory is not touched any more; queues first.
    virtual void quiesce_queue(Queue& /*queue*/) {}
    virtual void quiesce() {}
    virtual void resume() {}                      // after a pause; every queue is processed next
    virtual void stop_queue(Queue& /*queue*/) {}  // drops what start_queue() made
    virtual void stop() = 0;                      // drops everything that start() made

    // State that only this type has, as fields of a section of its own; features, registers and
    // queues are saved by the transport. save() is called when the device is quiet or was never
    // started, load() on a fresh one before start(). Both on the control thread.
    virtual void save(SectionWriter& /*out*/) const {}
    virtual Result<void> load(SectionReader& /*in*/) { return {}; }
};

// For read_config(): copies out of a packed structure, zeros past its end.
void read_config_bytes(std::span<const uint8_t> config, uint32_t offset, std::span<uint8_t> out);

}  // namespace kumoi::hypervisor
