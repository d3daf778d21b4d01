// QmpClient: qemu-storage-daemon's monitor, one request after the other over its unix socket.
// Blocking, with a deadline on everything. What the daemon sends is bounded and checked: it serves
// a guest and is not trusted. One thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::compute {

class QmpClient {
public:
    static Result<QmpClient> connect(const std::string& path, int64_t timeout_ms);

    // The command's "return". An error that the daemon answered has its text and code Io.
    Result<Json> call(std::string_view command, Json arguments, int64_t timeout_ms);

private:
    explicit QmpClient(UniqueFd fd) : fd_(std::move(fd)) {}
    Result<Json> receive(int64_t deadline_ns);  // the next message that is no event
    Result<void> send(const std::string& line, int64_t deadline_ns);

    UniqueFd fd_;
    std::string received_;
};

}  // namespace kumoi::compute
