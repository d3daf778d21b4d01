// The section reader: whatever the bytes, every field lies inside them and reading ends.
#include "hypervisor/snapshot/section_core.h"

#include "tests/proofs/proof.h"

#define SIZE_MAX_TRIED 28

static size_t any_bytes(uint8_t* bytes) {
    const size_t size = nondet_u8();
    __CPROVER_assume(size <= SIZE_MAX_TRIED);
    for (size_t i = 0; i < SIZE_MAX_TRIED; ++i) {
        bytes[i] = nondet_u8();
    }
    return size;
}

void a_field_lies_inside_the_bytes(void) {
    uint8_t bytes[SIZE_MAX_TRIED];
    const size_t size = any_bytes(bytes);
    const size_t start = nondet_u64();  // also positions outside
    size_t position = start;
    struct SectionFieldView field = {0xabcd, 0xabcd, 0xabcd, 0xabcd};
    const enum SectionStep step = section_next_field(bytes, size, &position, &field);
    if (step != kSectionField) {
        __CPROVER_assert(position == start, "what is no field moves nothing");
        __CPROVER_assert(field.id == 0xabcd && field.kind == 0xabcd && field.offset == 0xabcd &&
                             field.length == 0xabcd,
                         "and says nothing");
        __CPROVER_assert(step != kSectionEnd || start == size, "the end is the end");
        return;
    }
    __CPROVER_assert(field.offset <= size && field.length <= size - field.offset,
                     "a field's bytes are inside");
    __CPROVER_assert(position == field.offset + field.length, "the next one follows");
    __CPROVER_assert(position >= start + kSectionFieldHeaderSize,
                     "every field brings the end nearer");
    __CPROVER_assert(field.kind >= kSectionNumber && field.kind <= kSectionGroup,
                     "kinds are known");
    __CPROVER_assert(field.kind != kSectionNumber || field.length == kSectionNumberSize,
                     "numbers have eight bytes");
}

void reading_ends(void) {
    uint8_t bytes[SIZE_MAX_TRIED];
    const size_t size = any_bytes(bytes);
    size_t position = 0;
    struct SectionFieldView field;
    unsigned fields = 0;
    while (section_next_field(bytes, size, &position, &field) == kSectionField) {
        ++fields;
    }
    __CPROVER_assert(fields <= SIZE_MAX_TRIED / kSectionFieldHeaderSize, "no field is free");
}

void a_group_lies_inside_its_field(void) {
    uint8_t bytes[SIZE_MAX_TRIED];
    const size_t size = any_bytes(bytes);
    struct SectionGroupView group = {0xabcd, 0, 0, 0, 0};
    if (!section_open_group(bytes, size, &group)) {
        __CPROVER_assert(group.version == 0xabcd, "what is no group says nothing");
        return;
    }
    __CPROVER_assert(group.name_offset <= size && group.name_length <= size - group.name_offset,
                     "its name is inside");
    __CPROVER_assert(group.body_offset == group.name_offset + group.name_length &&
                         group.body_offset + group.body_length == size,
                     "and its fields are all the rest");
}
