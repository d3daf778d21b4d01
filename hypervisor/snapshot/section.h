// Sections: how the state of one part of a machine is written down so that a later release can read
// it: a name, a version, and numbered fields.
//
// A device declares its field ids as constants that are never reused, and writes and reads them:
//
//     void AcpiPm::save(SectionWriter& out) const {
//         out.u64(kEnable, enable_).u64(kStatus, status_);
//     }
//     Result<void> AcpiPm::load(SectionReader& in) {
//         enable_ = TRY(in.u16(kEnable));
//         status_ = TRY(in.u16(kStatus));
//         cap_ = TRY(in.u64_or(kCap, 0));        // younger than the first release
//         return {};
//     }
//
// Rules of change: a new field has an id below 0x8000 if an old reader may skip it, and 0x8000 or
// above if restoring without it would be wrong: a reader refuses what it must understand and was
// never asked for (finish(), which whoever called load() calls). The version rises only when the
// meaning of existing fields changes; load() sees it in version().
// The bytes come from a file or a peer and are hostile: every getter is bounded and checked, a
// missing field, a wrong kind, a number out of range are errors that name section and field.
// Groups are sections inside a section, for repeated parts (queues, vectors, vCPUs).
// Values, used by one thread at a time; a reader borrows the bytes it was given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor {

constexpr uint16_t kSectionMustUnderstand = 0x8000;  // field ids from here on
constexpr size_t kSectionFieldsMax = 1u << 16;
constexpr size_t kSectionNameMax = 255;

class SectionWriter {
public:
    SectionWriter(std::string name, uint16_t version) : name_(std::move(name)), version_(version) {}

    SectionWriter& u64(uint16_t id, uint64_t value);
    SectionWriter& flag(uint16_t id, bool value) { return u64(id, value ? 1 : 0); }
    SectionWriter& bytes(uint16_t id, std::span<const std::byte> value);
    SectionWriter& bytes(uint16_t id, std::span<const uint8_t> value) {
        return bytes(id, std::as_bytes(value));
    }
    SectionWriter& text(uint16_t id, std::string_view value);
    SectionWriter& group(uint16_t id, const SectionWriter& value);
    // A structure whose layout is fixed by somebody else (the kernel's KVM structures).
    template <class T>
        requires std::is_trivially_copyable_v<T>
    SectionWriter& object(uint16_t id, const T& value) {
        return bytes(id, std::as_bytes(std::span(&value, 1)));
    }

    const std::string& name() const { return name_; }
    uint16_t version() const { return version_; }
    std::span<const std::byte> body() const { return body_; }

private:
    void field(uint16_t id, uint16_t kind, size_t length);
    void append(std::span<const std::byte> bytes);

    std::string name_;
    uint16_t version_;
    std::vector<std::byte> body_;
};

class SectionReader {
public:
    // Checks the structure of all fields at once; what they mean is checked by the getters.
    static Result<SectionReader> parse(std::string name, uint16_t version,
                                       std::span<const std::byte> body);
    // The section as it has just been written; the writer must live on.
    static Result<SectionReader> parse(const SectionWriter& writer) {
        return parse(writer.name(), writer.version(), writer.body());
    }

    const std::string& name() const { return name_; }
    uint16_t version() const { return version_; }
    bool has(uint16_t id) const;

    Result<uint64_t> u64(uint16_t id) { return number(id, UINT64_MAX); }
    Result<uint64_t> u64_or(uint16_t id, uint64_t fallback);
    Result<uint64_t> u64_max(uint16_t id, uint64_t max) { return number(id, max); }
    Result<uint32_t> u32(uint16_t id) { return narrow<uint32_t>(id); }
    Result<uint16_t> u16(uint16_t id) { return narrow<uint16_t>(id); }
    Result<uint8_t> u8(uint16_t id) { return narrow<uint8_t>(id); }
    Result<bool> flag(uint16_t id);
    Result<std::span<const std::byte>> bytes(uint16_t id);  // of any length
    Result<std::span<const std::byte>> bytes(uint16_t id, size_t exact_size);
    Result<std::string> text(uint16_t id, size_t size_max = 4096);
    Result<std::vector<SectionReader>> groups(uint16_t id, size_t count_max = 4096);
    Result<SectionReader> group(uint16_t id);  // exactly one
    template <class T>
        requires std::is_trivially_copyable_v<T>
    Result<T> object(uint16_t id) {
        const auto from = TRY(bytes(id, sizeof(T)));
        T value;
        std::memcpy(static_cast<void*>(&value), from.data(), sizeof(T));
        return value;
    }

    // Refuses fields that must be understood and were not asked for, naming all of them.
    Result<void> finish() const;

    // "section serial0: field 3" as the start of a refusal of the caller's own.
    Error refuse(uint16_t id, std::string_view why) const;

private:
    struct Field {
        uint16_t id = 0;
        uint16_t kind = 0;
        bool used = false;
        std::span<const std::byte> bytes;
    };
    SectionReader(std::string name, uint16_t version) : name_(std::move(name)), version_(version) {}
    std::span<Field> fields_of(uint16_t id);
    Result<Field*> only_field(uint16_t id, uint16_t kind);
    Result<uint64_t> number(uint16_t id, uint64_t max);
    template <class T>
    Result<T> narrow(uint16_t id) {
        return static_cast<T>(TRY(number(id, static_cast<T>(~T{0}))));
    }

    std::string name_;
    uint16_t version_ = 0;
    std::vector<Field> fields_;  // by id, in the order written within one
};

// A part of a machine whose state is one section of a snapshot or a migration. save() and load()
// are called while the machine stands still, load() on a freshly made part before it first runs.
// load() changes the part only as far as it succeeded: a failed one makes the whole machine void.
class Snapshottable {
public:
    virtual ~Snapshottable() = default;
    virtual std::string section_name() const = 0;  // "serial0": unique in its machine
    virtual uint16_t section_version() const { return 1; }
    virtual void save(SectionWriter& out) const = 0;
    virtual Result<void> load(SectionReader& in) = 0;
};

}  // namespace kumoi::hypervisor
