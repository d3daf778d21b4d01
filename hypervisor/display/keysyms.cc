#include "hypervisor/display/keysyms.h"

#include <algorithm>
#include <array>
#include <span>

#include <linux/input-event-codes.h>

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kLastSameKey = 0x58;  // Linux took set 1's numbers up to F12

struct KeySymbol {
    uint32_t keysym;
    uint16_t key;
};

// Printable characters from space to tilde, by their place on a US keyboard.
constexpr std::array<uint16_t, 95> kPrintable = {
    KEY_SPACE,     KEY_1,         KEY_APOSTROPHE, KEY_3,          KEY_4,
    KEY_5,         KEY_7,         KEY_APOSTROPHE,  // space to '
    KEY_9,         KEY_0,         KEY_8,          KEY_EQUAL,      KEY_COMMA,
    KEY_MINUS,     KEY_DOT,       KEY_SLASH,  // ( to /
    KEY_0,         KEY_1,         KEY_2,          KEY_3,          KEY_4,
    KEY_5,         KEY_6,         KEY_7,          KEY_8,          KEY_9,  // digits
    KEY_SEMICOLON, KEY_SEMICOLON, KEY_COMMA,      KEY_EQUAL,      KEY_DOT,
    KEY_SLASH,     KEY_2,  // : to @
    KEY_A,         KEY_B,         KEY_C,          KEY_D,          KEY_E,
    KEY_F,         KEY_G,         KEY_H,          KEY_I,          KEY_J,
    KEY_K,         KEY_L,         KEY_M,          KEY_N,          KEY_O,
    KEY_P,         KEY_Q,         KEY_R,          KEY_S,          KEY_T,
    KEY_U,         KEY_V,         KEY_W,          KEY_X,          KEY_Y,
    KEY_Z,         KEY_LEFTBRACE, KEY_BACKSLASH,  KEY_RIGHTBRACE, KEY_6,
    KEY_MINUS,     KEY_GRAVE,  // [ to `
    KEY_A,         KEY_B,         KEY_C,          KEY_D,          KEY_E,
    KEY_F,         KEY_G,         KEY_H,          KEY_I,          KEY_J,
    KEY_K,         KEY_L,         KEY_M,          KEY_N,          KEY_O,
    KEY_P,         KEY_Q,         KEY_R,          KEY_S,          KEY_T,
    KEY_U,         KEY_V,         KEY_W,          KEY_X,          KEY_Y,
    KEY_Z,         KEY_LEFTBRACE, KEY_BACKSLASH,  KEY_RIGHTBRACE, KEY_GRAVE,  // { to ~
};

// The rest of the keyboard (X11's keysymdef.h), in order.
constexpr std::array kOthers = std::to_array<KeySymbol>({
    {0xfe03, KEY_RIGHTALT},   {0xff08, KEY_BACKSPACE}, {0xff09, KEY_TAB},
    {0xff0d, KEY_ENTER},      {0xff13, KEY_PAUSE},     {0xff14, KEY_SCROLLLOCK},
    {0xff15, KEY_SYSRQ},      {0xff1b, KEY_ESC},       {0xff50, KEY_HOME},
    {0xff51, KEY_LEFT},       {0xff52, KEY_UP},        {0xff53, KEY_RIGHT},
    {0xff54, KEY_DOWN},       {0xff55, KEY_PAGEUP},    {0xff56, KEY_PAGEDOWN},
    {0xff57, KEY_END},        {0xff61, KEY_SYSRQ},     {0xff63, KEY_INSERT},
    {0xff67, KEY_COMPOSE},    {0xff7f, KEY_NUMLOCK},   {0xff8d, KEY_KPENTER},
    {0xff95, KEY_KP7},        {0xff96, KEY_KP4},       {0xff97, KEY_KP8},
    {0xff98, KEY_KP6},        {0xff99, KEY_KP2},       {0xff9a, KEY_KP9},
    {0xff9b, KEY_KP3},        {0xff9c, KEY_KP1},       {0xff9d, KEY_KP5},
    {0xff9e, KEY_KP0},        {0xff9f, KEY_KPDOT},     {0xffaa, KEY_KPASTERISK},
    {0xffab, KEY_KPPLUS},     {0xffad, KEY_KPMINUS},   {0xffae, KEY_KPDOT},
    {0xffaf, KEY_KPSLASH},    {0xffb0, KEY_KP0},       {0xffb1, KEY_KP1},
    {0xffb2, KEY_KP2},        {0xffb3, KEY_KP3},       {0xffb4, KEY_KP4},
    {0xffb5, KEY_KP5},        {0xffb6, KEY_KP6},       {0xffb7, KEY_KP7},
    {0xffb8, KEY_KP8},        {0xffb9, KEY_KP9},       {0xffbe, KEY_F1},
    {0xffbf, KEY_F2},         {0xffc0, KEY_F3},        {0xffc1, KEY_F4},
    {0xffc2, KEY_F5},         {0xffc3, KEY_F6},        {0xffc4, KEY_F7},
    {0xffc5, KEY_F8},         {0xffc6, KEY_F9},        {0xffc7, KEY_F10},
    {0xffc8, KEY_F11},        {0xffc9, KEY_F12},       {0xffe1, KEY_LEFTSHIFT},
    {0xffe2, KEY_RIGHTSHIFT}, {0xffe3, KEY_LEFTCTRL},  {0xffe4, KEY_RIGHTCTRL},
    {0xffe5, KEY_CAPSLOCK},   {0xffe7, KEY_LEFTMETA},  {0xffe8, KEY_RIGHTMETA},
    {0xffe9, KEY_LEFTALT},    {0xffea, KEY_RIGHTALT},  {0xffeb, KEY_LEFTMETA},
    {0xffec, KEY_RIGHTMETA},  {0xffff, KEY_DELETE},
});
static_assert(std::ranges::is_sorted(kOthers, {}, &KeySymbol::keysym));

// Scan code set 1 behind the 0xe0 prefix.
constexpr std::array kExtended = std::to_array<KeySymbol>({
    {0x1c, KEY_KPENTER},  {0x1d, KEY_RIGHTCTRL}, {0x35, KEY_KPSLASH}, {0x37, KEY_SYSRQ},
    {0x38, KEY_RIGHTALT}, {0x46, KEY_PAUSE},     {0x47, KEY_HOME},    {0x48, KEY_UP},
    {0x49, KEY_PAGEUP},   {0x4b, KEY_LEFT},      {0x4d, KEY_RIGHT},   {0x4f, KEY_END},
    {0x50, KEY_DOWN},     {0x51, KEY_PAGEDOWN},  {0x52, KEY_INSERT},  {0x53, KEY_DELETE},
    {0x5b, KEY_LEFTMETA}, {0x5c, KEY_RIGHTMETA}, {0x5d, KEY_COMPOSE},
});
static_assert(std::ranges::is_sorted(kExtended, {}, &KeySymbol::keysym));

uint16_t look_up(std::span<const KeySymbol> table, uint32_t keysym) {
    const auto place = std::ranges::lower_bound(table, keysym, {}, &KeySymbol::keysym);
    return place != table.end() && place->keysym == keysym ? place->key : uint16_t{0};
}

}  // namespace

uint16_t key_of_keysym(uint32_t keysym) {
    constexpr uint32_t kFirst = ' ';
    if (keysym >= kFirst && keysym < kFirst + kPrintable.size()) {
        return kPrintable[keysym - kFirst];
    }
    return look_up(kOthers, keysym);
}

uint16_t key_of_scan_code(uint32_t code) {
    if (code >= 0xe000 && code <= 0xe07f) {
        return look_up(kExtended, code & 0x7f);
    }
    if (code > 0x80 && code <= 0xff) {
        return look_up(kExtended, code & 0x7f);
    }
    return code <= kLastSameKey ? static_cast<uint16_t>(code) : uint16_t{0};
}

uint16_t scan_code_of_key(uint16_t key) {
    const auto place = std::ranges::find(kExtended, key, &KeySymbol::key);
    if (place != kExtended.end()) {
        return static_cast<uint16_t>(0xe000 | place->keysym);
    }
    return key <= kLastSameKey ? key : uint16_t{0};
}

}  // namespace kumoi::hypervisor
