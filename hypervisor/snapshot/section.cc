#include "hypervisor/snapshot/section.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "hypervisor/snapshot/section_core.h"

namespace kumoi::hypervisor {

namespace {

template <class T>
void put_little_endian(std::vector<std::byte>& out, T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
        out.push_back(static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i)));
    }
}

const uint8_t* raw(std::span<const std::byte> bytes) {
    return reinterpret_cast<const uint8_t*>(bytes.data());
}

std::string_view kind_name(uint16_t kind) {
    switch (kind) {
        case kSectionNumber: return "a number";
        case kSectionBytes: return "bytes";
        case kSectionText: return "text";
        default: return "a group";
    }
}

}  // namespace

// --- Writing ---

void SectionWriter::field(uint16_t id, uint16_t kind, size_t length) {
    KUMOI_ASSERT(length <= std::numeric_limits<uint32_t>::max());
    put_little_endian(body_, id);
    put_little_endian(body_, kind);
    put_little_endian(body_, static_cast<uint32_t>(length));
}

void SectionWriter::append(std::span<const std::byte> bytes) {
    body_.insert(body_.end(), bytes.begin(), bytes.end());
}

SectionWriter& SectionWriter::u64(uint16_t id, uint64_t value) {
    field(id, kSectionNumber, kSectionNumberSize);
    put_little_endian(body_, value);
    return *this;
}

SectionWriter& SectionWriter::bytes(uint16_t id, std::span<const std::byte> value) {
    field(id, kSectionBytes, value.size());
    append(value);
    return *this;
}

SectionWriter& SectionWriter::text(uint16_t id, std::string_view value) {
    field(id, kSectionText, value.size());
    append(std::as_bytes(std::span(value)));
    return *this;
}

SectionWriter& SectionWriter::group(uint16_t id, const SectionWriter& value) {
    KUMOI_ASSERT(value.name_.size() <= kSectionNameMax);
    field(id, kSectionGroup, kSectionGroupHeaderSize + value.name_.size() + value.body_.size());
    put_little_endian(body_, value.version_);
    put_little_endian(body_, static_cast<uint16_t>(value.name_.size()));
    append(std::as_bytes(std::span(value.name_)));
    append(value.body_);
    return *this;
}

// --- Reading ---

Result<SectionReader> SectionReader::parse(std::string name, uint16_t version,
                                           std::span<const std::byte> body) {
    SectionReader reader(std::move(name), version);
    SectionFieldView view{};
    size_t position = 0;
    for (;;) {
        const SectionStep step = section_next_field(raw(body), body.size(), &position, &view);
        if (step == kSectionEnd) {
            break;
        }
        if (step == kSectionMalformed) {
            return Error::make(ErrorCode::Corrupt, "section {}: no valid field at byte {} of {}",
                               reader.name_, position, body.size());
        }
        if (reader.fields_.size() == kSectionFieldsMax) {
            return Error::too_large("section {} has more than {} fields", reader.name_,
                                    kSectionFieldsMax);
        }
        reader.fields_.push_back(
            {view.id, view.kind, false, body.subspan(view.offset, view.length)});
    }
    std::ranges::stable_sort(reader.fields_, {}, &Field::id);
    return reader;
}

std::span<SectionReader::Field> SectionReader::fields_of(uint16_t id) {
    const auto range = std::ranges::equal_range(fields_, id, {}, &Field::id);
    return {range.begin(), range.end()};
}

bool SectionReader::has(uint16_t id) const {
    return std::ranges::binary_search(fields_, id, {}, &Field::id);
}

Error SectionReader::refuse(uint16_t id, std::string_view why) const {
    return Error::make(ErrorCode::Corrupt, "section {}: field {:#x} {}", name_, id, why);
}

Result<SectionReader::Field*> SectionReader::only_field(uint16_t id, uint16_t kind) {
    const std::span<Field> fields = fields_of(id);
    if (fields.empty()) {
        return refuse(id, "is missing");
    }
    if (fields.size() > 1) {
        return refuse(id, fmt::format("is there {} times", fields.size()));
    }
    if (fields.front().kind != kind) {
        return refuse(
            id, fmt::format("is {}, not {}", kind_name(fields.front().kind), kind_name(kind)));
    }
    fields.front().used = true;
    return &fields.front();
}

Result<uint64_t> SectionReader::number(uint16_t id, uint64_t max) {
    const Field* field = TRY(only_field(id, kSectionNumber));
    const uint64_t value = section_little_endian(raw(field->bytes), kSectionNumberSize);
    if (value > max) {
        return refuse(id, fmt::format("is {}, more than {}", value, max));
    }
    return value;
}

Result<uint64_t> SectionReader::u64_or(uint16_t id, uint64_t fallback) {
    if (!has(id)) {
        return fallback;
    }
    return u64(id);
}

Result<bool> SectionReader::flag(uint16_t id) {
    return TRY(number(id, 1)) != 0;
}

Result<std::span<const std::byte>> SectionReader::bytes(uint16_t id) {
    return TRY(only_field(id, kSectionBytes))->bytes;
}

Result<std::span<const std::byte>> SectionReader::bytes(uint16_t id, size_t exact_size) {
    const auto value = TRY(bytes(id));
    if (value.size() != exact_size) {
        return refuse(id, fmt::format("has {} bytes, not {}", value.size(), exact_size));
    }
    return value;
}

Result<std::string> SectionReader::text(uint16_t id, size_t size_max) {
    const auto value = TRY(only_field(id, kSectionText))->bytes;
    if (value.size() > size_max) {
        return refuse(id, fmt::format("has {} characters, more than {}", value.size(), size_max));
    }
    return std::string(reinterpret_cast<const char*>(value.data()), value.size());
}

Result<std::vector<SectionReader>> SectionReader::groups(uint16_t id, size_t count_max) {
    const std::span<Field> fields = fields_of(id);
    if (fields.size() > count_max) {
        return refuse(id, fmt::format("is there {} times, more than {}", fields.size(), count_max));
    }
    std::vector<SectionReader> all;
    for (Field& field : fields) {
        SectionGroupView view{};
        if (field.kind != kSectionGroup ||
            section_open_group(raw(field.bytes), field.bytes.size(), &view) == 0 ||
            view.name_length > kSectionNameMax) {
            return refuse(id, "is not a group");
        }
        field.used = true;
        const auto* name = reinterpret_cast<const char*>(field.bytes.data()) + view.name_offset;
        all.push_back(TRY_CONTEXT(parse(std::string(name, view.name_length), view.version,
                                        field.bytes.subspan(view.body_offset, view.body_length)),
                                  "section {}: field {:#x}", name_, id));
    }
    return all;
}

Result<SectionReader> SectionReader::group(uint16_t id) {
    auto all = TRY(groups(id, 1));
    if (all.empty()) {
        return refuse(id, "is missing");
    }
    return std::move(all.front());
}

Result<void> SectionReader::finish() const {
    std::vector<std::string> unknown;
    for (const Field& field : fields_) {
        const bool said = !unknown.empty() && unknown.back() == fmt::format("{:#x}", field.id);
        if (field.id >= kSectionMustUnderstand && !field.used && !said) {
            unknown.push_back(fmt::format("{:#x}", field.id));
        }
    }
    if (unknown.empty()) {
        return {};
    }
    return Error::unsupported(
               "section {} (version {}) has fields that this release does not know "
               "and must not ignore: {}",
               name_, version_, fmt::join(unknown, ", "))
        .with_hint("use the release that wrote it, or a newer one");
}

}  // namespace kumoi::hypervisor
