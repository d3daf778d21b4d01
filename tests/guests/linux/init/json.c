#include "json.h"

#include <stdint.h>
#include <string.h>

enum { kDepthMax = 32 };

static const char* skip_space(const char* at, const char* end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) {
        at++;
    }
    return at;
}

static const char* skip_string(const char* at, const char* end) {
    for (at++; at < end; at++) {
        if (*at == '\\') {
            at++;
        } else if (*at == '"') {
            return at + 1;
        }
    }
    return NULL;
}

// Returns what follows the value, or NULL. Counts brackets instead of recursing.
static const char* skip_value(const char* at, const char* end) {
    int depth = 0;
    for (at = skip_space(at, end); at < end;) {
        if (*at == '"') {
            at = skip_string(at, end);
            if (at == NULL) {
                return NULL;
            }
        } else if (*at == '{' || *at == '[') {
            if (++depth > kDepthMax) {
                return NULL;
            }
            at++;
            continue;
        } else if (*at == '}' || *at == ']') {
            if (--depth < 0) {
                return NULL;
            }
            at++;
        } else if (depth > 0 && strchr(",: \t\r\n", *at) != NULL) {
            at++;
            continue;
        } else {
            while (at < end && strchr(",:]}[{ \t\r\n\"", *at) == NULL) {
                at++;
            }
        }
        if (depth == 0) {
            return at;
        }
    }
    return NULL;
}

JsonValue json_text(const char* text, size_t size) {
    return (JsonValue){skip_space(text, text + size), text + size};
}

// Walks an object or array; for objects `key` may name the member, else `index` counts.
static bool find(JsonValue container, char open, const char* key, size_t index, JsonValue* value) {
    const char* at = skip_space(container.at, container.end);
    if (at >= container.end || *at != open) {
        return false;
    }
    at = skip_space(at + 1, container.end);
    for (size_t i = 0; at < container.end && *at != '}' && *at != ']'; i++) {
        bool found = key == NULL && i == index;
        if (open == '{') {
            char name[128];
            const JsonValue quoted = {at, container.end};
            found |= key != NULL && json_string(quoted, name, sizeof name) && !strcmp(name, key);
            at = *at == '"' ? skip_string(at, container.end) : NULL;
            if (at == NULL) {
                return false;
            }
            at = skip_space(at, container.end);
            if (at >= container.end || *at != ':') {
                return false;
            }
            at = skip_space(at + 1, container.end);
        }
        const char* next = skip_value(at, container.end);
        if (next == NULL) {
            return false;
        }
        if (found) {
            *value = (JsonValue){at, next};
            return true;
        }
        at = skip_space(next, container.end);
        if (at < container.end && *at == ',') {
            at = skip_space(at + 1, container.end);
        }
    }
    return false;
}

bool json_member(JsonValue object, const char* key, JsonValue* value) {
    return find(object, '{', key, 0, value);
}

bool json_element(JsonValue array, size_t index, JsonValue* value) {
    return find(array, '[', NULL, index, value);
}

bool json_member_at(JsonValue object, size_t index, JsonValue* value) {
    return find(object, '{', NULL, index, value);
}

static bool code_unit(const char* at, const char* end, uint32_t* code) {
    static const char digits[] = "0123456789abcdefABCDEF";
    *code = 0;
    for (int i = 0; i < 4; i++, at++) {
        const char* digit = at < end ? memchr(digits, *at, sizeof digits - 1) : NULL;
        if (digit == NULL) {
            return false;
        }
        const uint32_t value = (uint32_t)(digit - digits);
        *code = *code * 16 + (value > 15 ? value - 6 : value);
    }
    return true;
}

static size_t put_utf8(uint32_t code, char* out) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    out[0] = (char)(0xe0 | code >> 12);
    out[1] = (char)(0x80 | (code >> 6 & 0x3f));
    out[2] = (char)(0x80 | (code & 0x3f));
    return 3;
}

bool json_string(JsonValue value, char* out, size_t size) {
    const char* at = value.at;
    if (at >= value.end || *at != '"') {
        return false;
    }
    size_t used = 0;
    for (at++; at < value.end && *at != '"'; at++) {
        if (used + 4 > size) {
            return false;
        }
        if (*at != '\\') {
            out[used++] = *at;
            continue;
        }
        if (++at >= value.end) {
            return false;
        }
        static const char kEscapes[] = "n\nt\tr\rb\bf\f";
        const char* escape = strchr(kEscapes, *at);
        uint32_t code;
        if (*at == 'u') {
            if (!code_unit(at + 1, value.end, &code)) {
                return false;
            }
            at += 4;
            used += put_utf8(code, out + used);
        } else if (escape != NULL && (escape - kEscapes) % 2 == 0) {
            out[used++] = escape[1];
        } else {
            out[used++] = *at;
        }
    }
    if (at >= value.end) {
        return false;
    }
    out[used] = 0;
    return true;
}
