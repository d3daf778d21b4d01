// What every harness uses: values the checker chooses, and claims.
#pragma once

#include <stddef.h>
#include <stdint.h>

uint8_t nondet_u8(void);
uint16_t nondet_u16(void);
uint32_t nondet_u32(void);
uint64_t nondet_u64(void);
int64_t nondet_i64(void);
int nondet_int(void);
void __CPROVER_assume(int condition);
void __CPROVER_assert(int condition, const char* claim);
