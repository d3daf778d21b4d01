// Reads single values out of a JSON text without building a tree: enough for cloud metadata.
// A JsonValue points into the text, which must stay. Wrong or missing values give false.
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char* at;
    const char* end;
} JsonValue;

JsonValue json_text(const char* text, size_t size);
bool json_member(JsonValue object, const char* key, JsonValue* value);
bool json_element(JsonValue array, size_t index, JsonValue* value);
// The index-th member whatever its key; for maps such as public_keys.
bool json_member_at(JsonValue object, size_t index, JsonValue* value);
// Copies a string, escapes resolved; false if it is no string or does not fit.
bool json_string(JsonValue value, char* out, size_t size);
