#include "hypervisor/sandbox/seccomp_filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <utility>

namespace kumoi::hypervisor {

namespace {

using Program = std::vector<sock_filter>;

constexpr uint32_t kX32Bit = 0x4000'0000;
constexpr size_t kProgramMax = BPF_MAXINSNS;

sock_filter statement(uint16_t code, uint32_t value) {
    return BPF_STMT(code, value);
}

sock_filter jump(uint16_t code, uint32_t value, size_t if_true, size_t if_false) {
    return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | BPF_K | code), value,
                    static_cast<uint8_t>(if_true), static_cast<uint8_t>(if_false));
}

void append(Program& program, const Program& more) {
    program.insert(program.end(), more.begin(), more.end());
}

// Conditional jumps reach 255 instructions, JA any distance.
void skip_unless(Program& program, uint16_t code, uint32_t value, size_t distance) {
    program.push_back(jump(code, value, 1, 0));
    program.push_back(statement(BPF_JMP | BPF_JA, static_cast<uint32_t>(distance)));
}

struct Case {
    uint32_t value;
    Program body;  // ends in a return
};

// The accumulator holds the value; every path ends in a return.
Program search(const std::vector<Case>& cases, size_t begin, size_t end, uint32_t otherwise) {
    Program program;
    if (begin == end) {
        program.push_back(statement(BPF_RET | BPF_K, otherwise));
        return program;
    }
    if (end - begin == 1) {
        const Case& only = cases[begin];
        skip_unless(program, BPF_JEQ, only.value, only.body.size());
        append(program, only.body);
        program.push_back(statement(BPF_RET | BPF_K, otherwise));
        return program;
    }
    const size_t middle = begin + (end - begin) / 2;
    const Program low = search(cases, begin, middle, otherwise);
    const Program high = search(cases, middle, end, otherwise);
    // Not below the middle: over the low half.
    program.push_back(jump(BPF_JGE, cases[middle].value, 0, 1));
    program.push_back(statement(BPF_JMP | BPF_JA, static_cast<uint32_t>(low.size())));
    append(program, low);
    append(program, high);
    return program;
}

Program load_argument(unsigned index) {
    const auto offset =  // little endian: the low half first
        static_cast<uint32_t>(offsetof(seccomp_data, args) + index * sizeof(uint64_t));
    return {statement(BPF_LD | BPF_W | BPF_ABS, offset)};
}

Program allow_rest(const std::vector<ArgumentCheck>& checks, size_t at, uint32_t otherwise) {
    if (at == checks.size()) {
        return {statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    }
    const ArgumentCheck& check = checks[at];
    const Program rest = allow_rest(checks, at + 1, otherwise);
    Program program = load_argument(check.index);
    if (check.any_of.empty()) {
        program.push_back(jump(BPF_JSET, check.none_of_bits, 0, 1));
        program.push_back(statement(BPF_RET | BPF_K, otherwise));
        append(program, rest);
        return program;
    }
    std::vector<uint32_t> values = check.any_of;
    std::ranges::sort(values);
    std::vector<Case> cases;
    for (const uint32_t value : values) {
        cases.push_back({value, rest});
    }
    append(program, search(cases, 0, cases.size(), otherwise));
    return program;
}

Program body_of(const SyscallRule& rule, uint32_t otherwise) {
    if (rule.error) {
        return {statement(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | *rule.error)};
    }
    return allow_rest(rule.checks, 0, otherwise);
}

}  // namespace

Result<std::vector<sock_filter>> build_seccomp_filter(std::vector<SyscallRule> rules,
                                                      uint32_t otherwise) {
    std::ranges::sort(rules, {}, &SyscallRule::number);
    std::vector<Case> cases;
    for (const SyscallRule& rule : rules) {
        if (!cases.empty() && cases.back().value == rule.number) {
            return Error::internal("two seccomp rules for system call {}", rule.number);
        }
        cases.push_back({rule.number, body_of(rule, otherwise)});
    }
    Program program = {
        statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        jump(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
        statement(BPF_RET | BPF_K, otherwise),
        statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        jump(BPF_JGE, kX32Bit, 0, 1),
        statement(BPF_RET | BPF_K, otherwise),
    };
    append(program, search(cases, 0, cases.size(), otherwise));
    if (program.size() > kProgramMax) {
        return Error::internal("the seccomp filter has {} instructions; {} are possible",
                               program.size(), kProgramMax);
    }
    return program;
}

Result<void> install_seccomp_filter(const std::vector<sock_filter>& program) {
    const sock_fprog filter{static_cast<unsigned short>(program.size()),
                            const_cast<sock_filter*>(program.data())};
    if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
        return Error::from_errno(errno, "installing the seccomp filter");
    }
    return {};
}

}  // namespace kumoi::hypervisor
