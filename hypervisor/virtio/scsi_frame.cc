#include "hypervisor/virtio/scsi_frame.h"

#include <algorithm>

namespace kumoi::hypervisor {

namespace {

struct [[gnu::packed]] Response {
    uint32_t sense_length = 0;
    uint32_t residual = 0;
    uint16_t status_qualifier = 0;
    uint8_t status = 0;
    uint8_t response = 0;
};
static_assert(sizeof(Response) == ScsiFrame::kResponseSize);

}  // namespace

void ScsiFrame::answer(Chain& chain, const ScsiReply& reply, const Transferred& transferred) const {
    const uint64_t room = data_in_size(chain);
    const uint64_t copied = std::min<uint64_t>(reply.data.size(), room);
    chain.copy_in(data_in_offset(), std::as_bytes(std::span(reply.data).first(copied)));
    const uint64_t in = transferred.in + copied;
    const uint64_t left = room - in + data_out_size(chain) - transferred.out;
    const size_t sense_bytes = std::min<size_t>(reply.sense.size(), sense_size);
    Response header;
    header.sense_length = static_cast<uint32_t>(sense_bytes);
    header.residual = static_cast<uint32_t>(std::min<uint64_t>(left, UINT32_MAX));
    header.status = reply.status;
    header.response = kOk;
    chain.copy_in(0, std::as_bytes(std::span(&header, 1)));
    chain.copy_in(sizeof header, std::as_bytes(std::span(reply.sense).first(sense_bytes)));
    chain.add_used(static_cast<uint32_t>(data_in_offset() + in));
    Chain(std::move(chain));
}

void ScsiFrame::fail(Chain& chain, uint8_t response) {
    Response header;
    header.response = response;
    chain.copy_in(0, std::as_bytes(std::span(&header, 1)));
    chain.add_used(sizeof header);
    Chain(std::move(chain));
}

}  // namespace kumoi::hypervisor
