// <linux/kvm.h> as C++ must see it; include this instead.
//
// Headers of 2024 and later (and Debian's backports) declare trailing arrays through a macro that
// puts an empty struct before them. An empty struct has size 0 in C and 1 in C++, so in C++ the
// structures grow and, with them, the ioctl numbers that encode their size. Plain zero-length
// arrays have neither.
#pragma once

#include <linux/stddef.h>

#ifdef __DECLARE_FLEX_ARRAY
#undef __DECLARE_FLEX_ARRAY
#endif
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]

#include <linux/kvm.h>

static_assert(sizeof(kvm_irq_routing) == 8);
static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_msrs) == 8);
