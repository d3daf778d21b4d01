// Frames in any order and of any size, as a hostile broker would send them once librabbitmq has
// decoded them. Each step of the input: kind, channel, length of a body.
#include <vector>

#include "api/amqp/content_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace kumoi::amqp;  // NOLINT: one function
    ContentReader reader;
    amqp_basic_deliver_t deliver{as_bytes("1"), 7, 0, as_bytes("nova"), as_bytes("compute")};
    amqp_basic_return_t returned{312, as_bytes("NO_ROUTE"), as_bytes("nova"), as_bytes("x")};
    amqp_basic_ack_t ack{3, 1};
    amqp_basic_cancel_t cancel{as_bytes("1"), 0};
    amqp_table_entry_t header{as_bytes("compression"), {}};
    header.value.kind = AMQP_FIELD_KIND_UTF8;
    header.value.value.bytes = as_bytes("application/x-gzip");
    amqp_basic_properties_t properties{};
    properties._flags = AMQP_BASIC_HEADERS_FLAG;
    properties.headers = {1, &header};
    const std::vector<char> bytes(256, 'x');
    for (size_t at = 0; at + 2 < size; at += 3) {
        amqp_frame_t frame{};
        frame.channel = data[at + 1] % 6;
        const uint8_t kind = data[at] % 8;
        frame.frame_type = kind < 4   ? AMQP_FRAME_METHOD
                           : kind < 6 ? AMQP_FRAME_HEADER
                                      : AMQP_FRAME_BODY;
        if (kind == 0) {
            frame.payload.method = {AMQP_BASIC_DELIVER_METHOD, &deliver};
        } else if (kind == 1) {
            frame.payload.method = {AMQP_BASIC_RETURN_METHOD, &returned};
        } else if (kind == 2) {
            frame.payload.method = {AMQP_BASIC_ACK_METHOD, &ack};
        } else if (kind == 3) {
            frame.payload.method = {AMQP_BASIC_CANCEL_METHOD, &cancel};
        } else if (kind < 6) {
            frame.payload.properties.class_id = AMQP_BASIC_CLASS;
            frame.payload.properties.body_size =
                kind == 4 ? data[at + 2] : uint64_t{data[at + 2]} << 56;
            frame.payload.properties.decoded = &properties;
        } else {
            frame.payload.body_fragment = {data[at + 2], const_cast<char*>(bytes.data())};
        }
        [[maybe_unused]] const auto event = reader.take(frame);
        if (frame.channel < 4 && data[at] > 250) {
            reader.forget(frame.channel);
        }
    }
    return 0;
}
