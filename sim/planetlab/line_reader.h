// Lines of a text file, plain or compressed by xz, without holding the file in memory.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace kumoi::sim {

class LineReader {
public:
    static constexpr size_t kLineMax = 1u << 20;  // bytes

    // Decided by the first bytes, not by the name.
    static Result<LineReader> open(const std::string& path);
    LineReader(LineReader&&) noexcept;
    LineReader& operator=(LineReader&&) noexcept;
    ~LineReader();

    // The next line without its end (and without a carriage return), in `line`; false at the end.
    // Corrupt: a broken or truncated .xz. TooLarge: a line beyond kLineMax.
    Result<bool> next(std::string& line);
    uint64_t number() const;  // of the line last read, from 1
    const std::string& path() const;

private:
    struct State;
    explicit LineReader(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace kumoi::sim
