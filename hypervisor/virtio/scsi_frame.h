// ScsiFrame: how requests and answers of a virtio SCSI host lie in a chain (virtio 1.2 §5.6.6.1):
//
//     device-readable   LUN, id, attributes (19 bytes), CDB, data to the device
//     device-writable   response (12 bytes), sense data, data to the driver
//
// The driver chooses the sizes of CDB and sense before it starts the device. Values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hypervisor/scsi/target.h"
#include "hypervisor/virtio/queue.h"

namespace kumoi::hypervisor {

struct ScsiFrame {
    static constexpr size_t kHeaderSize = 19;
    static constexpr size_t kResponseSize = 12;
    static constexpr uint32_t kSizeMax = 256;  // of sense and CDB, whatever the driver writes

    // §5.6.6.1: responses.
    static constexpr uint8_t kOk = 0;
    static constexpr uint8_t kOverrun = 1;
    static constexpr uint8_t kBadTarget = 3;

    uint32_t sense_size = 96;
    uint32_t cdb_size = 32;

    size_t data_out_offset() const { return kHeaderSize + cdb_size; }
    size_t data_in_offset() const { return kResponseSize + sense_size; }
    uint64_t data_out_size(const Chain& chain) const {
        return chain.readable_size() - data_out_offset();
    }
    uint64_t data_in_size(const Chain& chain) const {
        return chain.writable_size() - data_in_offset();
    }
    // Returns the chain. `transferred`: bytes of the medium that went to the driver, and lie behind
    // the response already, or came from it.
    struct Transferred {
        uint64_t in = 0;
        uint64_t out = 0;
    };
    void answer(Chain& chain, const ScsiReply& reply, const Transferred& transferred) const;
    static void fail(Chain& chain, uint8_t response);
};

}  // namespace kumoi::hypervisor
