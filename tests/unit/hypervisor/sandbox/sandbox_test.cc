#include "hypervisor/sandbox/sandbox.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "base/file.h"
#include "hypervisor/kvm/kvm_abi.h"
#include "hypervisor/sandbox/broker.h"
#include "hypervisor/sandbox/thread_class.h"

namespace kumoi::hypervisor {
namespace {

// The kernel's answer, by a small machine for the instructions that filters are made of.
uint32_t answer(const std::vector<sock_filter>& program, const seccomp_data& data) {
    uint32_t a = 0;
    for (size_t at = 0; at < program.size();) {
        const sock_filter& i = program[at++];
        switch (i.code) {
            case BPF_LD | BPF_W | BPF_ABS:
                std::memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, sizeof a);
                break;
            case BPF_JMP | BPF_JA: at += i.k; break;
            case BPF_JMP | BPF_JEQ | BPF_K: at += a == i.k ? i.jt : i.jf; break;
            case BPF_JMP | BPF_JGE | BPF_K: at += a >= i.k ? i.jt : i.jf; break;
            case BPF_JMP | BPF_JSET | BPF_K: at += (a & i.k) != 0 ? i.jt : i.jf; break;
            case BPF_RET | BPF_K: return i.k;
            default: ADD_FAILURE() << "instruction " << i.code; return 0;
        }
    }
    ADD_FAILURE() << "ran off the end";
    return 0;
}

uint32_t answer(const std::vector<sock_filter>& program, long number,
                std::initializer_list<uint64_t> arguments = {}) {
    seccomp_data data{};
    data.nr = static_cast<int>(number);
    data.arch = AUDIT_ARCH_X86_64;
    std::copy(arguments.begin(), arguments.end(), data.args);
    return answer(program, data);
}

TEST(SeccompFilter, AllowsWhatIsListedAndNothingElse) {
    for (const size_t count : {0u, 1u, 2u, 3u, 64u, 300u}) {
        std::vector<SyscallRule> rules;
        for (size_t i = 0; i < count; ++i) {
            rules.push_back({static_cast<uint32_t>(i * 3 + 1)});
        }
        const auto program = build_seccomp_filter(rules, SECCOMP_RET_KILL_PROCESS).value();
        for (uint32_t number = 0; number < 1000; ++number) {
            const bool listed = number % 3 == 1 && number / 3 < count;
            EXPECT_EQ(answer(program, number),
                      listed ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS)
                << number << " of " << count;
        }
    }
}

TEST(SeccompFilter, ChecksArgumentsArchitectureAndNumbers) {
    const auto program =
        build_seccomp_filter(
            {{16, {{1, {7, 3, 0xffff'ffff}}}}, {9, {{2, {}, 4}, {3, {0x22}}}}, {435, {}, 38}},
            SECCOMP_RET_LOG)
            .value();
    EXPECT_EQ(answer(program, 16, {0, 3}), SECCOMP_RET_ALLOW);
    EXPECT_EQ(answer(program, 16, {3, 4}), SECCOMP_RET_LOG);
    EXPECT_EQ(answer(program, 16, {0, 0xffff'ffff}), SECCOMP_RET_ALLOW);
    EXPECT_EQ(answer(program, 9, {0, 0, 3, 0x22}), SECCOMP_RET_ALLOW);
    EXPECT_EQ(answer(program, 9, {0, 0, 7, 0x22}), SECCOMP_RET_LOG);
    EXPECT_EQ(answer(program, 9, {0, 0, 3, 0x21}), SECCOMP_RET_LOG);
    EXPECT_EQ(answer(program, 435), SECCOMP_RET_ERRNO | 38u);
    EXPECT_EQ(answer(program, 0x4000'0010, {0, 3}), SECCOMP_RET_LOG);
    seccomp_data other{};
    other.nr = 16;
    other.arch = AUDIT_ARCH_I386;
    other.args[1] = 3;
    EXPECT_EQ(answer(program, other), SECCOMP_RET_LOG);
    EXPECT_FALSE(build_seccomp_filter({{1}, {1}}, 0).ok());
}

std::set<std::string> names_of(ThreadClass kind) {
    std::set<std::string> names;
    for (const AllowedCall& call : allowed_calls(kind, 1)) {
        EXPECT_TRUE(names.emplace(call.name).second) << call.name;
    }
    return names;
}

TEST(ThreadClasses, ControlHasWhatTheOthersNeedAndTheyCannotStartAnything) {
    const auto control = names_of(ThreadClass::Control);
    for (const ThreadClass kind : {ThreadClass::Vcpu, ThreadClass::Io, ThreadClass::Worker,
                                   ThreadClass::Snapshot, ThreadClass::Migration}) {
        for (const std::string& name : names_of(kind)) {
            EXPECT_TRUE(control.contains(name)) << name;
        }
        for (const char* name : {"clone", "clone3", "seccomp", "open", "openat", "socket", "execve",
                                 "kill", "ptrace", "fork"}) {
            EXPECT_FALSE(names_of(kind).contains(name)) << name;
        }
    }
    EXPECT_FALSE(control.contains("openat"));
    EXPECT_LE(names_of(ThreadClass::Vcpu).size(), 45u);
}

TEST(ThreadClasses, FiltersFitTheirLists) {
    for (const ThreadClass kind :
         {ThreadClass::Control, ThreadClass::Vcpu, ThreadClass::Io, ThreadClass::Worker,
          ThreadClass::Snapshot, ThreadClass::Migration}) {
        std::vector<SyscallRule> rules;
        for (const AllowedCall& call : allowed_calls(kind, 7)) {
            rules.push_back(call.rule);
        }
        const auto program = build_seccomp_filter(rules, SECCOMP_RET_KILL_PROCESS).value();
        EXPECT_EQ(answer(program, SYS_write), SECCOMP_RET_ALLOW);
        EXPECT_EQ(answer(program, SYS_openat), SECCOMP_RET_KILL_PROCESS);
        EXPECT_EQ(answer(program, SYS_tgkill, {7}), SECCOMP_RET_ALLOW);
        EXPECT_EQ(answer(program, SYS_tgkill, {8}), SECCOMP_RET_KILL_PROCESS);
        EXPECT_EQ(answer(program, SYS_mmap, {0, 0, PROT_READ | PROT_WRITE}), SECCOMP_RET_ALLOW);
        EXPECT_EQ(answer(program, SYS_mmap, {0, 0, PROT_EXEC}), SECCOMP_RET_KILL_PROCESS);
        const bool makes = kind == ThreadClass::Control;
        EXPECT_EQ(answer(program, SYS_ioctl, {5, KVM_CREATE_VM}) == SECCOMP_RET_ALLOW, makes);
        const bool moves = kind == ThreadClass::Migration;
        const bool saves = moves || kind == ThreadClass::Snapshot;
        EXPECT_EQ(answer(program, SYS_ioctl, {5, KVM_SET_GSI_ROUTING}) == SECCOMP_RET_ALLOW,
                  !saves);
        EXPECT_EQ(answer(program, SYS_ioctl, {5, UFFDIO_COPY}) == SECCOMP_RET_ALLOW,
                  saves || makes);
        EXPECT_EQ(answer(program, SYS_ioctl, {5, KVM_GET_DIRTY_LOG}) == SECCOMP_RET_ALLOW,
                  moves || makes);
        EXPECT_EQ(answer(program, SYS_recvmsg) == SECCOMP_RET_ALLOW,
                  moves || makes || kind == ThreadClass::Io);
        EXPECT_EQ(answer(program, SYS_ioctl, {5, KVM_SET_MSRS}) == SECCOMP_RET_ALLOW, makes);
        const bool runs = makes || kind == ThreadClass::Vcpu;
        EXPECT_EQ(answer(program, SYS_ioctl, {5, KVM_RUN}) == SECCOMP_RET_ALLOW, runs);
        EXPECT_EQ(answer(program, SYS_ioctl, {0, TIOCSTI}), SECCOMP_RET_KILL_PROCESS);
    }
}

bool is_sanitizers(const std::string& name) {
#if defined(KUMOI_SANITIZED)
    return name == "prlimit64" || name == "sched_getaffinity" || name == "getrusage" ||
           name == "sysinfo" || name == "pipe2";
#else
    return name.empty();
#endif
}

// docs/reference/sandbox.md lists exactly what the program allows.
TEST(ThreadClasses, TheListIsDocumented) {
    constexpr std::pair<ThreadClass, char> kLetters[] = {
        {ThreadClass::Control, 'C'}, {ThreadClass::Vcpu, 'V'},     {ThreadClass::Io, 'I'},
        {ThreadClass::Worker, 'W'},  {ThreadClass::Snapshot, 'S'}, {ThreadClass::Migration, 'M'}};
    std::map<std::string, std::string> expected;
    for (const auto& [kind, letter] : kLetters) {
        for (const std::string& name : names_of(kind)) {
            std::string& letters = expected[name];
            letters += letters.empty() ? std::string(1, letter) : std::string(" ") + letter;
        }
    }
    const std::string page = read_file("docs/reference/sandbox.md").value();
    for (const auto& [name, letters] : expected) {
        if (is_sanitizers(name)) {
            continue;
        }
        EXPECT_NE(page.find(fmt::format("| `{}` | {} |", name, letters)), std::string::npos)
            << name << " | " << letters;
    }
    [[maybe_unused]] size_t rows = 0;
    const size_t table = page.find("| call | threads |");
    for (size_t at = page.find("\n| `", table); at != std::string::npos;
         at = page.find("\n| `", at + 1)) {
        ++rows;
    }
#if !defined(KUMOI_SANITIZED)
    EXPECT_EQ(rows, expected.size());
#endif
}

TEST(SandboxConfig, IsCheckedByName) {
    const auto parse = [](std::string_view text) {
        const Json json = Json::parse(text).value();
        return parse_sandbox_config(JsonView(json));
    };
    const auto config = parse(R"({"uid": 70000, "require": ["pid", "seccomp"]})");
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config->uid, 70000u);
    EXPECT_EQ(config->require, (std::vector{SandboxPiece::Pid, SandboxPiece::Seccomp}));
    for (const char* wrong : {R"({"uid": 0})", R"({"uid": 4294967295})", R"({"require": ["x"]})",
                              R"({"require": "pid"})", R"({"gid": "root"})", R"({"user": 1})"}) {
        EXPECT_FALSE(parse(wrong).ok()) << wrong;
    }
    EXPECT_EQ(sandbox_uid(*config, 4711), 70000u);
    EXPECT_FALSE(config->mode.has_value());
    const auto range = parse(R"({"mode": "log", "uid_first": 100000, "uid_count": 1000})");
    ASSERT_TRUE(range.ok());
    EXPECT_EQ(*range->mode, SandboxMode::Log);
    EXPECT_EQ(sandbox_uid(*range, 4711), 100711u);
    EXPECT_EQ(sandbox_uid(*parse("{}"), 4711), SandboxConfig::kUidFirst + 4711);
    EXPECT_FALSE(parse(R"({"uid_first": 0})").ok());
    EXPECT_FALSE(parse(R"({"uid_first": 4294967000, "uid_count": 1000})").ok());
    EXPECT_FALSE(parse(R"({"mode": "sometimes"})").ok());
    EXPECT_TRUE(sandbox_mode("log").ok());
    EXPECT_FALSE(sandbox_mode("no").ok());
}

class BrokerTest : public ::testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(write_file_atomic(path("disk"), "disk").ok());
        ASSERT_TRUE(write_file_atomic(path("base"), "base").ok());
        ASSERT_TRUE(write_file_atomic(path("secret"), "secret").ok());
    }
    void TearDown() override {
        if (server_.joinable()) {
            server_.join();
        }
    }
    std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
    void write_qcow2(const std::string& name, const std::string& backing, uint64_t offset = 512) {
        std::string bytes(512, '\0');
        std::memcpy(bytes.data(), "QFI\xfb\0\0\0\3", 8);
        for (int i = 0; i < 8; ++i) {
            bytes[8 + i] = static_cast<char>(offset >> (56 - 8 * i));
        }
        for (int i = 0; i < 4; ++i) {
            bytes[16 + i] = static_cast<char>(backing.size() >> (24 - 8 * i));
        }
        ASSERT_TRUE(write_file_atomic(path(name), bytes + backing).ok());
    }
    BrokerFiles start(const char* config) {
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        server_ = std::thread([this, rules = broker_rules(*Json::parse(config), directory_.path()),
                               socket = std::make_shared<UniqueFd>(ends[1])] {
            BrokerServer broker(rules, direct_files());
            while ((last_ = broker.serve(socket->get())) == BrokerServer::After::Goes) {
            }
        });
        return BrokerFiles(UniqueFd(ends[0]));
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("broker").value();
    BrokerServer::After last_ = BrokerServer::After::Goes;
    std::thread server_;
};

TEST_F(BrokerTest, OpensWhatTheConfigurationNames) {
    BrokerFiles files = start(R"({"disks": [{"path": "disk"}], "console": {"socket": "door"}})");
    const auto disk = files.open(path("disk"), O_RDWR);
    ASSERT_TRUE(disk.ok()) << disk.error().text();
    std::array<std::byte, 4> bytes;
    EXPECT_EQ(pread_some(disk->get(), bytes, 0).value(), 4u);
    EXPECT_EQ(files.open(path("secret"), O_RDONLY).error().code, ErrorCode::Forbidden);
    EXPECT_EQ(files.open("/etc/passwd", O_RDONLY).error().code, ErrorCode::Forbidden);
    EXPECT_EQ(files.open(path("disk"), O_RDWR | O_TRUNC).error().code, ErrorCode::Forbidden);
    EXPECT_EQ(files.open(path("disk"), O_PATH).error().code, ErrorCode::Forbidden);
    EXPECT_EQ(files.open_tap("tap0").error().code, ErrorCode::Forbidden);
    EXPECT_EQ(files.listen_tcp("127.0.0.1", 0).error().code, ErrorCode::Forbidden);
    EXPECT_TRUE(files.listen(path("door")).ok());
    EXPECT_EQ(files.connect(path("absent")).error().code, ErrorCode::Forbidden);
    files.machine_made();
    EXPECT_EQ(files.open(path("disk"), O_RDWR).error().code, ErrorCode::NotFound);
    server_.join();
    EXPECT_EQ(last_, BrokerServer::After::Made);
}

TEST_F(BrokerTest, AConnectorConnectsToItsPathOnly) {
    BrokerServer broker(broker_rules(*Json::parse(R"({"socket": "door"})"), directory_.path()),
                        direct_files());
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    BrokerFiles files{UniqueFd(ends[0])};
    const UniqueFd socket(ends[1]);
    FileSource::Connector connect;
    {
        std::thread asker([&] {
            EXPECT_FALSE(files.connector(path("secret")).ok());
            connect = files.connector(path("door")).value();
            files.machine_made();
        });
        while (broker.serve(socket.get()) == BrokerServer::After::Goes) {
        }
        asker.join();
    }
    ASSERT_EQ(broker.connectors().size(), 1u);
    const auto try_it = [&] {
        bool connected = false;
        std::thread asker([&] { connected = connect().ok(); });
        pollfd asked{broker.connectors()[0].socket.get(), POLLIN, 0};
        EXPECT_EQ(::poll(&asked, 1, -1), 1);
        EXPECT_TRUE(broker.serve(broker.connectors()[0]));
        asker.join();
        return connected;
    };
    EXPECT_FALSE(try_it());
    const auto listener = direct_files().listen(path("door"));
    EXPECT_TRUE(try_it());
    EXPECT_TRUE(try_it());
    connect = nullptr;
    EXPECT_FALSE(broker.serve(broker.connectors()[0]));
}

TEST_F(BrokerTest, FollowsBackingFilesOfConfiguredQcow2Only) {
    write_qcow2("top", "middle");
    write_qcow2("middle", "base");
    write_qcow2("loop", "loop");
    write_qcow2("disk", "secret");  // a guest wrote this into its raw disk
    BrokerFiles files = start(R"({"disks": [{"path": "top", "format": "qcow2"},
        {"path": "loop", "format": "qcow2"}, {"path": "disk", "format": "raw"}]})");
    EXPECT_TRUE(files.open(path("middle"), O_RDONLY).ok());
    EXPECT_TRUE(files.open(path("base"), O_RDONLY).ok());
    EXPECT_FALSE(files.open(path("base"), O_RDWR).ok());
    EXPECT_FALSE(files.open(path("secret"), O_RDONLY).ok());
    files.machine_made();
}

TEST_F(BrokerTest, BackingNamesAreBounded) {
    write_qcow2("cut", "name", 600);
    EXPECT_FALSE(qcow2_backing_path(path("cut")).ok());
    write_qcow2("long", std::string(1024, 'n'));
    EXPECT_FALSE(qcow2_backing_path(path("long")).ok());
    write_qcow2("far", "n", ~uint64_t{0});
    EXPECT_FALSE(qcow2_backing_path(path("far")).ok());
    EXPECT_EQ(qcow2_backing_path(path("base")).value(), "");
    write_qcow2("good", "sub/name");
    EXPECT_EQ(qcow2_backing_path(path("good")).value(), path("sub/name"));
}

}  // namespace
}  // namespace kumoi::hypervisor
