// Bodies that do not fit in memory. A BodyReader gives a streaming handler the request body piece
// by piece; a BodySource gives the server the reply body piece by piece. Both are pulled, so the
// slower side sets the pace and memory stays constant. Used from the one thread that runs the
// handler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::api {

class BodyReader {
public:
    virtual ~BodyReader() = default;
    // Fills part or all of `buffer`, waits for at least one byte; 0 at the end of the body. Errors:
    // Cancelled (client gone in mid body), Timeout, InvalidArgument (broken chunk), TooLarge.
    // "100 Continue" is sent at the first call, so a refusal before it costs the client no upload.
    virtual Result<size_t> read(std::span<std::byte> buffer) = 0;
    virtual std::optional<uint64_t> declared_length() const = 0;  // Content-Length; none if chunked
};

// Fills part or all of the buffer, 0 at the end. An error cuts the connection: the client sees a
// short body, never a wrong one.
using BodySource = std::function<Result<size_t>(std::span<std::byte> buffer)>;

// A range of an open file, sent with sendfile(2).
struct FileRange {
    UniqueFd fd;
    uint64_t offset = 0;
    uint64_t length = 0;
};

}  // namespace kumoi::api
