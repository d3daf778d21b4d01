// The reading core of sections: bounds-checked steps over (pointer, size), in the common subset of
// C11 and C++ so that tests/proof can hand exactly these functions to a bounded model checker.
//
// A section's body is a sequence of fields, little-endian, without padding:
//     u16 id   u16 kind (1 number, 2 bytes, 3 text, 4 group)   u32 length   `length` bytes
// A group's bytes are a section within: u16 version, u16 name length, the name, then fields.
// Nothing here allocates, loops over hostile counts, or reads outside [bytes, bytes + size).
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
namespace kumoi::hypervisor {
#endif

enum SectionKind {
    kSectionNumber = 1,
    kSectionBytes = 2,
    kSectionText = 3,
    kSectionGroup = 4,
};

enum SectionStep {
    kSectionMalformed = -1,
    kSectionEnd = 0,
    kSectionField = 1,
};

enum { kSectionFieldHeaderSize = 8, kSectionGroupHeaderSize = 4, kSectionNumberSize = 8 };

struct SectionFieldView {
    uint16_t id;
    uint16_t kind;
    size_t offset;  // of the field's bytes in the body
    size_t length;
};

struct SectionGroupView {
    uint16_t version;
    size_t name_offset;
    size_t name_length;
    size_t body_offset;
    size_t body_length;
};

static inline uint64_t section_little_endian(const uint8_t* bytes, size_t width) {
    uint64_t value = 0;
    for (size_t i = 0; i < width && i < 8; ++i) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    return value;
}

// Takes the field at *position and moves *position behind it. On anything but kSectionField neither
// *position nor *field is changed.
static inline enum SectionStep section_next_field(const uint8_t* bytes, size_t size,
                                                  size_t* position,
                                                  struct SectionFieldView* field) {
    const size_t at = *position;
    if (at == size) {
        return kSectionEnd;
    }
    if (at > size || size - at < kSectionFieldHeaderSize) {
        return kSectionMalformed;
    }
    const uint16_t kind = (uint16_t)section_little_endian(bytes + at + 2, 2);
    const size_t length = (size_t)section_little_endian(bytes + at + 4, 4);
    if (length > size - at - kSectionFieldHeaderSize) {
        return kSectionMalformed;
    }
    if (kind < kSectionNumber || kind > kSectionGroup ||
        (kind == kSectionNumber && length != kSectionNumberSize)) {
        return kSectionMalformed;
    }
    field->id = (uint16_t)section_little_endian(bytes + at, 2);
    field->kind = kind;
    field->offset = at + kSectionFieldHeaderSize;
    field->length = length;
    *position = at + kSectionFieldHeaderSize + length;
    return kSectionField;
}

// Splits the bytes of a group field; 0 when they are too short for what they claim.
static inline int section_open_group(const uint8_t* bytes, size_t size,
                                     struct SectionGroupView* group) {
    if (size < kSectionGroupHeaderSize) {
        return 0;
    }
    const size_t name_length = (size_t)section_little_endian(bytes + 2, 2);
    if (name_length > size - kSectionGroupHeaderSize) {
        return 0;
    }
    group->version = (uint16_t)section_little_endian(bytes, 2);
    group->name_offset = kSectionGroupHeaderSize;
    group->name_length = name_length;
    group->body_offset = kSectionGroupHeaderSize + name_length;
    group->body_length = size - kSectionGroupHeaderSize - name_length;
    return 1;
}

#ifdef __cplusplus
}  // namespace kumoi::hypervisor
#endif
