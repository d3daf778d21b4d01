// Tar archives of plain files (POSIX.1-2017 pax, ustar headers; sizes over 8 GiB by pax records
// when
// written, by pax or GNU base-256 when read).
//
//     TarWriter writer(fd);                       TarReader reader(fd);
//     TRY(writer.begin("disk0.qcow2", size));     while (auto entry = TRY(reader.next())) {
//     TRY(writer.write(bytes)); ...                   while (size_t n =
// TRY(reader.read(buffer))) ...
//     TRY(writer.finish());                       }
//
// A reader takes regular files with a plain name in the top folder and refuses everything else by
// name: links, devices, folders, paths. Streams: neither seeks. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"

namespace kumoi::cli {

constexpr size_t kTarBlock = 512;
constexpr size_t kTarNameMax = 100;

class TarWriter {
public:
    explicit TarWriter(int fd) : fd_(fd) {}
    Result<void> begin(const std::string& name, uint64_t size);
    Result<void> write(std::span<const std::byte> bytes);  // together `size` of them
    Result<void> add(const std::string& name, std::string_view content);
    Result<void> finish();

private:
    Result<void> header(const std::string& name, uint64_t size, char type);
    Result<void> end_entry();

    const int fd_;
    std::string name_;
    uint64_t left_ = 0;
    uint64_t padding_ = 0;
};

struct TarEntry {
    std::string name;
    uint64_t size = 0;
};

class TarReader {
public:
    static constexpr size_t kEntriesMax = 256;

    explicit TarReader(int fd) : fd_(fd) {}
    // The next file, past what was not read of the last; nullopt at the end.
    Result<std::optional<TarEntry>> next();
    // Some of the current file's bytes; 0 at its end. A cut archive is Corrupt.
    Result<size_t> read(std::span<std::byte> out);
    Result<std::string> read_all(size_t size_max);

private:
    Result<bool> read_block(std::span<std::byte, kTarBlock> block);  // false at a clean end
    Result<void> skip_rest();
    Result<std::optional<uint64_t>> read_pax_size(uint64_t length);

    const int fd_;
    std::string name_;
    size_t entries_ = 0;
    uint64_t left_ = 0;
    uint64_t padding_ = 0;
};

}  // namespace kumoi::cli
