// Which key a viewer means: X11 keysyms (RFC 6143 §7.5.4) by a US keyboard, and PC scan codes as
// viewers with QEMU's extended key events send them. Answers are Linux KEY_* codes; 0: no such key.
#pragma once

#include <cstdint>

namespace kumoi::hypervisor {

uint16_t key_of_keysym(uint32_t keysym);
// Set 1; 0x80 or 0xe000 marks the extended keys: 0x1d and 0x9d (or 0xe01d) are left and right
// Control.
uint16_t key_of_scan_code(uint32_t code);
// The other way: 0xe000 marks extended keys; 0: a PC keyboard has no such key.
uint16_t scan_code_of_key(uint16_t key);

}  // namespace kumoi::hypervisor
