#include "api/cli/archive/tar.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include <unistd.h>

#include "base/fd.h"

namespace kumoi::cli {

namespace {

constexpr uint64_t kOctalMax = 077777777777;  // 8 GiB - 1, in eleven digits
constexpr uint64_t kPaxMax = 64u << 10;
constexpr char kFile = '0';
constexpr char kOldFile = '\0';
constexpr char kPaxHeader = 'x';
constexpr char kPaxGlobal = 'g';

struct Field {
    size_t offset;
    size_t size;
};
constexpr Field kName{0, 100};
constexpr Field kMode{100, 8};
constexpr Field kOwner{108, 8};
constexpr Field kGroup{116, 8};
constexpr Field kSize{124, 12};
constexpr Field kTime{136, 12};
constexpr Field kChecksum{148, 8};
constexpr size_t kType = 156;
constexpr Field kMagic{257, 8};
constexpr Field kPrefix{345, 155};

using Block = std::array<std::byte, kTarBlock>;

void put_text(Block& block, Field field, std::string_view text) {
    std::memcpy(block.data() + field.offset, text.data(), std::min(text.size(), field.size));
}

void put_octal(Block& block, Field field, uint64_t value) {
    put_text(block, field, fmt::format("{:0{}o}", value, field.size - 1));
}

// §pax: the sum of all bytes with the checksum's own as spaces.
uint32_t checksum(const Block& block) {
    uint32_t sum = 0;
    for (size_t i = 0; i < block.size(); ++i) {
        const bool own = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
        sum += own ? uint32_t{' '} : static_cast<uint32_t>(block[i]);
    }
    return sum;
}

std::string_view text_of(const Block& block, Field field) {
    const auto* start = reinterpret_cast<const char*>(block.data() + field.offset);
    return {start, strnlen(start, field.size)};
}

std::optional<uint64_t> number_of(const Block& block, Field field) {
    if ((block[field.offset] & std::byte{0x80}) != std::byte{0}) {  // GNU base-256
        uint64_t value = 0;
        for (size_t i = 1; i < field.size; ++i) {
            if (value >> 56 != 0) {
                return std::nullopt;
            }
            value = value << 8 | static_cast<uint64_t>(block[field.offset + i]);
        }
        return value;
    }
    std::string_view text = text_of(block, field);
    while (!text.empty() && text.front() == ' ') {
        text.remove_prefix(1);
    }
    while (!text.empty() && text.back() == ' ') {
        text.remove_suffix(1);
    }
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(value)
                                                                    : std::nullopt;
}

bool plain_name(std::string_view name) {
    return !name.empty() && name.size() <= kTarNameMax && name != "." && name != ".." &&
           std::ranges::all_of(name,
                               [](unsigned char c) { return c > ' ' && c < 0x7f && c != '/'; });
}

uint64_t padding_of(uint64_t size) {
    return (kTarBlock - size % kTarBlock) % kTarBlock;
}

}  // namespace

Result<void> TarWriter::header(const std::string& name, uint64_t size, char type) {
    Block block{};
    put_text(block, kName, name);
    put_octal(block, kMode, 0644);
    put_octal(block, kOwner, 0);
    put_octal(block, kGroup, 0);
    put_octal(block, kSize, std::min(size, kOctalMax));
    put_octal(block, kTime, 0);
    block[kType] = static_cast<std::byte>(type);
    put_text(block, kMagic, std::string_view("ustar\00000", 8));
    put_text(block, kChecksum, fmt::format("{:06o}", checksum(block)));
    block[kChecksum.offset + 7] = std::byte{' '};
    return write_all(fd_, block);
}

Result<void> TarWriter::begin(const std::string& name, uint64_t size) {
    TRY(end_entry());
    if (!plain_name(name)) {
        return Error::invalid("\"{}\" cannot be a file name in an archive", name);
    }
    if (size > kOctalMax) {
        const std::string body = fmt::format(" size={}\n", size);
        // The length counts its own digits.
        std::string record = std::to_string(body.size() + 2) + body;
        TRY(header("pax", record.size(), kPaxHeader));
        record.resize(kTarBlock, '\0');
        TRY(write_all(fd_, std::as_bytes(std::span(record))));
    }
    TRY(header(name, size, kFile));
    name_ = name;
    left_ = size;
    padding_ = padding_of(size);
    return {};
}

Result<void> TarWriter::write(std::span<const std::byte> bytes) {
    if (bytes.size() > left_) {
        return Error::internal("{} in the archive is longer than was said", name_);
    }
    left_ -= bytes.size();
    return write_all(fd_, bytes);
}

Result<void> TarWriter::add(const std::string& name, std::string_view content) {
    TRY(begin(name, content.size()));
    return write(std::as_bytes(std::span(content)));
}

Result<void> TarWriter::end_entry() {
    if (left_ != 0) {
        return Error::internal("{} in the archive is {} bytes shorter than was said", name_, left_);
    }
    const Block zeros{};
    TRY(write_all(fd_, std::span(zeros).first(padding_)));
    padding_ = 0;
    return {};
}

Result<void> TarWriter::finish() {
    TRY(end_entry());
    const std::array<std::byte, 2 * kTarBlock> end{};
    return write_all(fd_, end);
}

namespace {

// As read(2), but all of it unless the file ends.
Result<size_t> read_fully(int fd, std::span<std::byte> out) {
    size_t done = 0;
    while (done < out.size()) {
        const ssize_t now = ::read(fd, out.data() + done, out.size() - done);
        if (now < 0 && errno == EINTR) {
            continue;
        }
        if (now < 0) {
            return Error::from_errno(errno, "reading the archive");
        }
        if (now == 0) {
            break;
        }
        done += static_cast<size_t>(now);
    }
    return done;
}

}  // namespace

Result<bool> TarReader::read_block(std::span<std::byte, kTarBlock> block) {
    const size_t size = TRY(read_fully(fd_, block));
    if (size != 0 && size != kTarBlock) {
        return Error::corrupt("the archive is cut: its last block has {} bytes", size);
    }
    return size != 0;
}

Result<void> TarReader::skip_rest() {
    std::array<std::byte, 64u << 10> buffer;
    uint64_t rest = left_ + padding_;
    while (rest != 0) {
        const auto part = std::span(buffer).first(std::min<uint64_t>(rest, buffer.size()));
        if (TRY(read_fully(fd_, part)) != part.size()) {
            return Error::corrupt("the archive is cut inside {}", name_);
        }
        rest -= part.size();
    }
    left_ = padding_ = 0;
    return {};
}

// "LENGTH key=value\n" records; only the size matters here.
Result<std::optional<uint64_t>> TarReader::read_pax_size(uint64_t length) {
    if (length > kPaxMax) {
        return Error::corrupt("the archive has an extended header of {} bytes", length);
    }
    left_ = length;
    padding_ = padding_of(length);
    const std::string records = TRY(read_all(kPaxMax));
    TRY(skip_rest());
    std::optional<uint64_t> size;
    for (size_t at = 0; at < records.size();) {
        size_t count = 0;
        const char* start = records.data() + at;
        const char* end_of_text = records.data() + records.size();
        const auto [end, error] = std::from_chars(start, end_of_text, count);
        if (error != std::errc() || end == end_of_text || *end != ' ' ||
            count > records.size() - at || count < static_cast<size_t>(end - start) + 2) {
            return Error::corrupt("the archive has a damaged extended header");
        }
        const std::string_view record(end + 1, count - static_cast<size_t>(end - start) - 2);
        if (record.starts_with("size=")) {
            uint64_t value = 0;
            const auto [last, bad] =
                std::from_chars(record.data() + 5, record.data() + record.size(), value);
            if (bad != std::errc() || last != record.data() + record.size()) {
                return Error::corrupt("the archive has a size of \"{}\"", record.substr(5));
            }
            size = value;
        } else if (record.starts_with("path=") || record.starts_with("GNU.sparse")) {
            return Error::unsupported("the archive uses {}, which is not read here",
                                      record.starts_with("path=") ? "long names" : "sparse files");
        }
        at += count;
    }
    return size;
}

Result<std::optional<TarEntry>> TarReader::next() {
    TRY(skip_rest());
    std::optional<uint64_t> pax_size;
    while (true) {
        Block block;
        if (!TRY(read_block(block)) ||
            std::ranges::all_of(block, [](std::byte b) { return b == std::byte{0}; })) {
            return std::optional<TarEntry>();
        }
        const auto sum = number_of(block, kChecksum);
        const auto size = number_of(block, kSize);
        if (!sum || *sum != checksum(block) || !size) {
            return Error::corrupt("this is no tar archive, or it is damaged: a header is wrong");
        }
        const auto type = static_cast<char>(block[kType]);
        if (type == kPaxHeader || type == kPaxGlobal) {
            name_ = "an extended header";
            const auto found = TRY(read_pax_size(*size));
            pax_size = type == kPaxHeader ? found : pax_size;
            continue;
        }
        std::string_view name = text_of(block, kName);
        if (name.starts_with("./")) {
            name.remove_prefix(2);
        }
        const bool has_prefix =
            text_of(block, kMagic) == "ustar" && !text_of(block, kPrefix).empty();
        if ((type != kFile && type != kOldFile) || !plain_name(name) || has_prefix) {
            return Error::unsupported(
                "the archive holds \"{}\", which is no plain file in its top "
                "folder",
                name.substr(0, kTarNameMax));
        }
        if (++entries_ > kEntriesMax) {
            return Error::too_large("the archive has more than {} files", kEntriesMax);
        }
        name_ = name;
        left_ = pax_size.value_or(*size);
        padding_ = padding_of(left_);
        return std::optional(TarEntry{name_, left_});
    }
}

Result<size_t> TarReader::read(std::span<std::byte> out) {
    const size_t wanted = std::min<uint64_t>(left_, out.size());
    if (TRY(read_fully(fd_, out.first(wanted))) != wanted) {
        return Error::corrupt("the archive is cut inside {}", name_);
    }
    left_ -= wanted;
    return wanted;
}

Result<std::string> TarReader::read_all(size_t size_max) {
    if (left_ > size_max) {
        return Error::too_large("{} in the archive has {} bytes; {} are read", name_, left_,
                                size_max);
    }
    std::string content(left_, '\0');
    TRY(read(std::as_writable_bytes(std::span(content))));
    return content;
}

}  // namespace kumoi::cli
