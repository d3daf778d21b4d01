#include "hypervisor/board/aml.h"

#include <algorithm>

#include "base/assert.h"

namespace kumoi::hypervisor::aml {

namespace {

constexpr char kNameOp = 0x08;
constexpr char kBytePrefix = 0x0a;
constexpr char kWordPrefix = 0x0b;
constexpr char kDwordPrefix = 0x0c;
constexpr char kStringPrefix = 0x0d;
constexpr char kQwordPrefix = 0x0e;
constexpr char kScopeOp = 0x10;
constexpr char kBufferOp = 0x11;
constexpr char kPackageOp = 0x12;
constexpr char kDualNamePrefix = 0x2e;
constexpr char kMultiNamePrefix = 0x2f;
constexpr char kExtPrefix = 0x5b;
constexpr char kDeviceOp = static_cast<char>(0x82);
constexpr size_t kSegment = 4;

template <class T>
std::string little_endian(T value) {
    std::string bytes;
    for (size_t i = 0; i < sizeof(T); ++i) {
        bytes += static_cast<char>(static_cast<uint64_t>(value) >> (i * 8));
    }
    return bytes;
}

// §20.2.4: the length counts itself. One byte up to 63, else 4 low bits and 1 to 3 more bytes.
Aml with_length(const Aml& body) {
    constexpr size_t kOneByteMax = 0x3f;
    if (body.size() + 1 <= kOneByteMax) {
        return static_cast<char>(body.size() + 1) + body;
    }
    for (size_t extra = 1; extra <= 3; ++extra) {
        const size_t total = body.size() + 1 + extra;
        if (total >> (4 + extra * 8) != 0) {
            continue;
        }
        Aml encoded(1, static_cast<char>((extra << 6) | (total & 0x0f)));
        for (size_t i = 0; i < extra; ++i) {
            encoded += static_cast<char>(total >> (4 + i * 8));
        }
        return encoded + body;
    }
    KUMOI_ASSERT(body.size() < (1u << 28));
    return {};
}

// §20.2.4 without counting itself: the width of a field in bits.
Aml bit_count(uint32_t bits) {
    constexpr uint32_t kOneByteMax = 0x3f;
    if (bits <= kOneByteMax) {
        return Aml(1, static_cast<char>(bits));
    }
    KUMOI_ASSERT(bits < (1u << 12));
    return Aml(1, static_cast<char>(1u << 6 | (bits & 0x0f))) + static_cast<char>(bits >> 4);
}

Aml name_segment(std::string_view name) {
    std::string segment(name);
    KUMOI_ASSERT(segment.size() <= kSegment);
    segment.resize(kSegment, '_');
    return segment;
}

// Address space descriptors (§6.4.3.5) share this head; the fields differ in width only.
constexpr char kMinAndMaxFixed = 0x0c;

template <class T>
std::string address_space(char tag, char kind, char type_flags, T first, T last) {
    const T length = static_cast<T>(last - first + 1);
    const std::string fields = little_endian(T{0}) + little_endian(first) + little_endian(last) +
                               little_endian(T{0}) + little_endian(length);
    const std::string body = std::string() + kind + kMinAndMaxFixed + type_flags + fields;
    return tag + little_endian(static_cast<uint16_t>(body.size())) + body;
}

constexpr char kMemoryKind = 0;
constexpr char kIoKind = 1;
constexpr char kBusKind = 2;
constexpr char kWord = static_cast<char>(0x88);
constexpr char kDword = static_cast<char>(0x87);
constexpr char kQword = static_cast<char>(0x8a);
constexpr char kEntireRange = 3;  // ISA and non-ISA ports
constexpr char kReadWrite = 1;    // non-cacheable
constexpr char kNoTypeFlags = 0;

}  // namespace

Aml integer(uint64_t value) {
    if (value <= 1) {
        return Aml(1, static_cast<char>(value));  // ZeroOp, OneOp
    }
    if (value <= 0xff) {
        return kBytePrefix + little_endian(static_cast<uint8_t>(value));
    }
    if (value <= 0xffff) {
        return kWordPrefix + little_endian(static_cast<uint16_t>(value));
    }
    if (value <= 0xffff'ffff) {
        return kDwordPrefix + little_endian(static_cast<uint32_t>(value));
    }
    return kQwordPrefix + little_endian(value);
}

Aml text(std::string_view value) {
    return kStringPrefix + std::string(value) + '\0';
}

// §6.1.5 (_HID): three letters of five bits, then four hexadecimal digits, big endian.
Aml eisa_id(std::string_view id) {
    KUMOI_ASSERT(id.size() == 7);
    uint32_t value = 0;
    for (size_t i = 0; i < 3; ++i) {
        value = (value << 5) | static_cast<uint32_t>(id[i] - '@');
    }
    for (size_t i = 3; i < 7; ++i) {
        const char digit = id[i];
        value = (value << 4) | static_cast<uint32_t>(digit <= '9' ? digit - '0' : digit - 'A' + 10);
    }
    return kDwordPrefix + little_endian(__builtin_bswap32(value));
}

Aml path(std::string_view name) {
    Aml root;
    if (!name.empty() && name.front() == '\\') {
        root = "\\";
        name.remove_prefix(1);
    }
    std::string segments;
    size_t count = 0;
    while (!name.empty()) {
        const size_t dot = std::min(name.find('.'), name.size());
        std::string segment(name.substr(0, dot));
        KUMOI_ASSERT(segment.size() <= kSegment);
        segment.resize(kSegment, '_');
        segments += segment;
        ++count;
        name.remove_prefix(std::min(dot + 1, name.size()));
    }
    if (count <= 1) {
        return root + segments;
    }
    if (count == 2) {
        return root + kDualNamePrefix + segments;
    }
    return root + kMultiNamePrefix + static_cast<char>(count) + segments;
}

Aml package(const std::vector<Aml>& elements) {
    KUMOI_ASSERT(elements.size() <= 255);
    Aml body(1, static_cast<char>(elements.size()));
    for (const Aml& element : elements) {
        body += element;
    }
    return kPackageOp + with_length(body);
}

Aml name_decl(std::string_view name, const Aml& value) {
    return kNameOp + path(name) + value;
}

Aml scope(std::string_view name, const Aml& body) {
    return kScopeOp + with_length(path(name) + body);
}

Aml device(std::string_view name, const Aml& body) {
    return Aml() + kExtPrefix + kDeviceOp + with_length(path(name) + body);
}

Aml resources(const std::vector<std::string>& descriptors) {
    constexpr char kEndTag = 0x79;
    std::string bytes;
    for (const std::string& descriptor : descriptors) {
        bytes += descriptor;
    }
    bytes += kEndTag;
    bytes += '\0';  // §6.4.2.9: a zero checksum means "not computed"
    return kBufferOp + with_length(integer(bytes.size()) + bytes);
}

std::string io_ports(uint16_t base, uint8_t size) {
    constexpr char kTag = 0x47;
    constexpr char kDecode16 = 0x01;
    constexpr char kAlignment = 0x01;
    return std::string() + kTag + kDecode16 + little_endian(base) + little_endian(base) +
           kAlignment + static_cast<char>(size);
}

std::string irq(uint32_t number) {
    constexpr char kTag = 0x22;  // IRQ without flags: edge, active high, exclusive
    return kTag + little_endian(static_cast<uint16_t>(1u << number));
}

std::string fixed_memory(uint32_t base, uint32_t size) {
    constexpr char kTag = static_cast<char>(0x86);
    const std::string body = kReadWrite + little_endian(base) + little_endian(size);
    return kTag + little_endian(static_cast<uint16_t>(body.size())) + body;
}

std::string bus_range(uint16_t first, uint16_t last) {
    return address_space<uint16_t>(kWord, kBusKind, kNoTypeFlags, first, last);
}

std::string port_window(uint16_t base, uint32_t size) {
    const auto last = static_cast<uint16_t>(base + size - 1);
    return address_space<uint16_t>(kWord, kIoKind, kEntireRange, base, last);
}

std::string memory_window32(uint32_t base, uint32_t size) {
    return address_space<uint32_t>(kDword, kMemoryKind, kReadWrite, base, base + (size - 1));
}

std::string memory_window64(uint64_t base, uint64_t size) {
    return address_space<uint64_t>(kQword, kMemoryKind, kReadWrite, base, base + (size - 1));
}

Aml buffer(std::string_view bytes) {
    return kBufferOp + with_length(integer(bytes.size()) + std::string(bytes));
}

Aml io_region(std::string_view name, uint16_t base, uint16_t size) {
    constexpr char kRegionOp = static_cast<char>(0x80);
    constexpr char kSystemIo = 1;
    return Aml() + kExtPrefix + kRegionOp + path(name) + kSystemIo + integer(base) + integer(size);
}

Aml field(std::string_view region, FieldAccess access, const std::vector<FieldUnit>& units) {
    constexpr char kFieldOp = static_cast<char>(0x81);
    constexpr uint8_t kWriteAsZeros = 2u << 5;  // the other bits of a register that is written
    Aml body = path(region) + static_cast<char>(static_cast<uint8_t>(access) | kWriteAsZeros);
    for (const FieldUnit& unit : units) {
        body += (unit.name.empty() ? Aml(1, '\0') : name_segment(unit.name)) + bit_count(unit.bits);
    }
    return Aml() + kExtPrefix + kFieldOp + with_length(body);
}

Aml method(std::string_view name, uint8_t argument_count, const Aml& body) {
    constexpr char kMethodOp = 0x14;
    constexpr uint8_t kSerialized = 1u << 3;
    return kMethodOp +
           with_length(path(name) + static_cast<char>(argument_count | kSerialized) + body);
}

Aml arg(uint8_t index) {
    constexpr char kArg0Op = 0x68;
    KUMOI_ASSERT(index <= 6);
    return Aml(1, static_cast<char>(kArg0Op + index));
}

Aml local(uint8_t index) {
    constexpr char kLocal0Op = 0x60;
    KUMOI_ASSERT(index <= 7);
    return Aml(1, static_cast<char>(kLocal0Op + index));
}

Aml call(std::string_view name, const std::vector<Aml>& arguments) {
    Aml all = path(name);
    for (const Aml& argument : arguments) {
        all += argument;
    }
    return all;
}

Aml store(const Aml& value, const Aml& target) {
    constexpr char kStoreOp = 0x70;
    return kStoreOp + value + target;
}

Aml op_and(const Aml& left, const Aml& right) {
    constexpr char kAndOp = 0x7b;
    constexpr char kNoTarget = 0;
    return kAndOp + left + right + kNoTarget;
}

Aml less(const Aml& left, const Aml& right) {
    constexpr char kLessOp = static_cast<char>(0x95);
    return kLessOp + left + right;
}

Aml equal(const Aml& left, const Aml& right) {
    constexpr char kEqualOp = static_cast<char>(0x93);
    return kEqualOp + left + right;
}

Aml increment(const Aml& target) {
    constexpr char kIncrementOp = 0x75;
    return kIncrementOp + target;
}

Aml op_if(const Aml& condition, const Aml& body) {
    constexpr char kIfOp = static_cast<char>(0xa0);
    return kIfOp + with_length(condition + body);
}

Aml op_while(const Aml& condition, const Aml& body) {
    constexpr char kWhileOp = static_cast<char>(0xa2);
    return kWhileOp + with_length(condition + body);
}

Aml op_return(const Aml& value) {
    constexpr char kReturnOp = static_cast<char>(0xa4);
    return kReturnOp + value;
}

Aml notify(std::string_view object, const Aml& value) {
    constexpr char kNotifyOp = static_cast<char>(0x86);
    return kNotifyOp + path(object) + value;
}

Aml mutex(std::string_view name) {
    constexpr char kMutexOp = 0x01;
    constexpr char kSyncLevel = 0;
    return Aml() + kExtPrefix + kMutexOp + path(name) + kSyncLevel;
}

Aml acquire(std::string_view name) {
    constexpr char kAcquireOp = 0x23;
    constexpr uint16_t kForever = 0xffff;
    return Aml() + kExtPrefix + kAcquireOp + path(name) + little_endian(kForever);
}

Aml release(std::string_view name) {
    constexpr char kReleaseOp = 0x27;
    return Aml() + kExtPrefix + kReleaseOp + path(name);
}

}  // namespace kumoi::hypervisor::aml
