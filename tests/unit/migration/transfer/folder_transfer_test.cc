#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/file.h"
#include "base/random.h"
#include "migration/link/tcp.h"
#include "migration/transfer/folder_client.h"
#include "migration/transfer/folder_server.h"
#include "migration/transfer/sparse_file.h"

namespace kumoi::transfer {
namespace {

const std::string kSecret(kSecretSize, 'k');
constexpr uint64_t kMib = 1u << 20;

// Connections that break after so many bytes have come through them; each one gets its own limit.
class BreakingConnections {
public:
    explicit BreakingConnections(uint16_t port) : port_(port) {}
    ~BreakingConnections() {
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }
    std::vector<size_t> limits;  // the last one counts for all that follow; 0: none

    Result<UniqueFd> connect() {
        const size_t index = std::min<size_t>(count_++, limits.size() - 1);
        UniqueFd real = TRY(link::connect_tcp("127.0.0.1", port_, 5000));
        if (limits[index] == 0) {
            return real;
        }
        std::array<int, 2> pair{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
        threads_.emplace_back(
            [far = std::make_shared<UniqueFd>(pair[1]),
             real = std::make_shared<UniqueFd>(std::move(real)),
             left = limits[index]]() mutable { relay(far->get(), real->get(), left); });
        return UniqueFd(pair[0]);
    }
    size_t count() const { return count_; }

private:
    static void relay(int near, int far, size_t left) {
        std::array<std::byte, 16384> buffer{};
        while (left > 0) {
            std::array<pollfd, 2> entries = {{{near, POLLIN, 0}, {far, POLLIN, 0}}};
            if (::poll(entries.data(), 2, 10'000) <= 0) {
                return;
            }
            const bool from_far = entries[1].revents != 0;
            const ssize_t count =
                ::read(from_far ? far : near, buffer.data(), std::min(buffer.size(), left));
            if (count <= 0) {
                return;
            }
            left -= from_far ? static_cast<size_t>(count) : 0;
            if (!write_all(from_far ? near : far,
                           std::span(buffer).first(static_cast<size_t>(count)))
                     .ok()) {
                return;
            }
        }
    }
    const uint16_t port_;
    size_t count_ = 0;
    std::vector<std::thread> threads_;
};

class FolderTransferTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(make_directories(source()).ok());
        write("config.json", "{}");
        write("empty", "");
        make_disk();
        offer();
    }
    std::string source() const { return directory.path() + "/source"; }
    std::string target() const { return directory.path() + "/target"; }
    void write(const std::string& name, const std::string& text) {
        ASSERT_TRUE(write_file_atomic(source() + "/" + name, text, 0640).ok());
    }
    // 40 MiB: data, a hole, zeros that are written, data up to a last odd byte.
    void make_disk() {
        auto disk = open_file(source() + "/disk", O_RDWR | O_CREAT | O_TRUNC, 0600);
        ASSERT_TRUE(disk.ok());
        SeededRandom random(7, "disk");
        std::vector<std::byte> data(3 * kMib);
        random.fill(data);
        ASSERT_EQ(::ftruncate(disk->get(), static_cast<off_t>(40 * kMib + 1)), 0);
        ASSERT_TRUE(pwrite_all(disk->get(), data, 0).ok());
        ASSERT_TRUE(pwrite_all(disk->get(), std::vector<std::byte>(kMib), 10 * kMib).ok());
        ASSERT_TRUE(pwrite_all(disk->get(), data, 20 * kMib + 12345).ok());
        ASSERT_TRUE(pwrite_all(disk->get(), std::span(data).first(1), 40 * kMib).ok());
    }
    void offer(const std::string& identity = "move-1") {
        server->offer({identity, kSecret, source(), {"config.json", "empty", "disk"}});
    }
    PullOptions options() const {
        PullOptions pull;
        pull.identity = "move-1";
        pull.secret = kSecret;
        pull.folder = target();
        pull.checkpoint_bytes = 512u << 10;
        pull.attempts_max = 3;
        pull.timeouts = {5000, 5000};
        return pull;
    }
    Result<PullReport> pull(const PullOptions& how) {
        return FolderClient({clock, [this] { return connections.connect(); },
                             [this](int64_t nanoseconds) { waited.push_back(nanoseconds); }},
                            how)
            .pull();
    }
    void expect_same() {
        for (const char* name : {"config.json", "empty", "disk"}) {
            EXPECT_EQ(*read_file(source() + "/" + name, 64 * kMib),
                      *read_file(target() + "/" + name, 64 * kMib))
                << name;
        }
        struct stat status {};
        ASSERT_EQ(::stat((target() + "/disk").c_str(), &status), 0);
        EXPECT_LT(status.st_blocks * 512, static_cast<blkcnt_t>(10 * kMib));  // holes stayed holes
        EXPECT_EQ(status.st_mode & 0777u, 0600u);
    }

    SystemClock clock;
    TemporaryDirectory directory = TemporaryDirectory::create("transfer").value();
    std::unique_ptr<FolderServer> server = FolderServer::start({}, clock).value();
    BreakingConnections connections{server->port()};
    std::vector<int64_t> waited;
};

TEST_F(FolderTransferTest, AFolderComesOverWithItsHoles) {
    connections.limits = {0};
    const auto report = pull(options());
    ASSERT_TRUE(report.ok()) << report.error().text();
    expect_same();
    EXPECT_EQ(report->connections, 1);
    EXPECT_LT(report->bytes, 8 * kMib);
    EXPECT_TRUE(waited.empty());
}

TEST_F(FolderTransferTest, ACutConnectionIsTakenUpWhereItBroke) {
    connections.limits = {kMib, 2 * kMib, 0};
    const auto report = pull(options());
    ASSERT_TRUE(report.ok()) << report.error().text();
    expect_same();
    EXPECT_EQ(report->connections, 3);
    EXPECT_LT(report->bytes, 9 * kMib);  // what had come did not come again
    EXPECT_EQ(waited.size(), 2u);
}

TEST_F(FolderTransferTest, ARestartOfTheDestinationGoesOnFromWhatIsOnDisk) {
    connections.limits = {2 * kMib, 1, 1, 1, 1, 0};
    auto first = options();
    const auto failed = pull(first);  // gives up, as a killed process would
    ASSERT_FALSE(failed.ok());
    const auto report = pull(options());
    ASSERT_TRUE(report.ok()) << report.error().text();
    expect_same();
    EXPECT_LT(report->bytes, 6 * kMib);
}

TEST_F(FolderTransferTest, ARestartOfTheSourceIsSurvived) {
    connections.limits = {0};
    const uint16_t port = server->port();
    server.reset();
    int attempts = 0;
    FolderClient client({clock,
                         [&]() -> Result<UniqueFd> {
                             if (++attempts == 3) {
                                 server = FolderServer::start({}, clock, port).value();
                                 offer();
                             }
                             return connections.connect();
                         },
                         [](int64_t) {}},
                        options());
    const auto report = client.pull();
    ASSERT_TRUE(report.ok()) << report.error().text();
    expect_same();
    EXPECT_EQ(server->port(), port);
}

TEST_F(FolderTransferTest, WhatIsWholeIsNotAskedForAgain) {
    connections.limits = {0};
    ASSERT_TRUE(pull(options()).ok());
    server.reset();
    EXPECT_TRUE(pull(options()).ok());
    EXPECT_EQ(connections.count(), 1u);
}

TEST_F(FolderTransferTest, WhatWasThereOfAnotherTransferGoes) {
    connections.limits = {0};
    ASSERT_TRUE(make_directories(target()).ok());
    ASSERT_TRUE(write_file_atomic(target() + "/disk", "old").ok());
    ASSERT_TRUE(write_file_atomic(target() + "/stray", "old").ok());
    ASSERT_TRUE(write_file_atomic(target() + "/.transfer.json", "{\"identity\":\"other\"}").ok());
    ASSERT_TRUE(pull(options()).ok());
    expect_same();
    EXPECT_FALSE(path_exists(target() + "/stray"));
}

TEST_F(FolderTransferTest, AWrongKeyOrNameGetsNothing) {
    connections.limits = {0};
    auto wrong = options();
    wrong.attempts_max = 0;
    wrong.secret = std::string(kSecretSize, 'x');
    EXPECT_FALSE(pull(wrong).ok());
    wrong.secret = kSecret;
    wrong.identity = "move-2";
    EXPECT_FALSE(pull(wrong).ok());
    EXPECT_FALSE(path_exists(target() + "/disk"));
}

TEST_F(FolderTransferTest, AWithdrawnOfferGetsNothing) {
    connections.limits = {0};
    server->withdraw("move-1");
    auto once = options();
    once.attempts_max = 0;
    EXPECT_FALSE(pull(once).ok());
}

// A peer that knows the key and says what it likes.
class Impostor {
public:
    explicit Impostor(std::vector<std::string> says) {
        std::array<int, 2> pair{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
        client_ = UniqueFd(pair[0]);
        thread_ = std::thread([fd = pair[1], says = std::move(says)] {
            SystemClock clock;
            auto channel = SecureChannel::accept(
                UniqueFd(fd), [](const std::string&) { return std::optional(kSecret); }, clock);
            if (channel.ok()) {
                for (const std::string& text : says) {
                    (void)(*channel)->write(text);
                }
                std::array<std::byte, 4096> buffer{};
                while ((*channel)->read(buffer).value_or(0) > 0) {
                }
            }
        });
    }
    ~Impostor() { thread_.join(); }
    UniqueFd take() { return std::move(client_); }

private:
    UniqueFd client_;
    std::thread thread_;
};

std::string manifest(const std::string& name, const std::string& size = "1000000") {
    return encode(FrameKind::Manifest, R"({"files":[{"name":")" + name + R"(","size":)" + size +
                                           R"(,"allocated":4096,"mode":384}]})");
}

TEST_F(FolderTransferTest, AHostileSourceIsRefused) {
    const std::string block(kBlockSize, 'b');
    const auto bytes = std::as_bytes(std::span(block));
    const FileEnd end{0, 1000000, std::string(kDigestSize, 'd')};
    const std::string good_end = encode(FrameKind::End, end_body(end));
    const std::vector<std::vector<std::string>> all = {
        {manifest("../disk")},
        {manifest("a/b")},
        {manifest(".transfer.json")},
        {manifest("disk", "-1")},
        {encode(FrameKind::Manifest, "no json")},
        {encode(FrameKind::Data, "early")},
        {std::string(8, '\xff')},
        {manifest("disk"), encode(FrameKind::Data, data_body(kBlockSize * 4, bytes))},
        {manifest("disk"), encode(FrameKind::Data, data_body(12, bytes))},
        {manifest("disk"), encode(FrameKind::Data, data_body(kBlockSize, bytes)),
         encode(FrameKind::Data, data_body(kBlockSize, bytes))},
        {manifest("disk"), encode(FrameKind::Data, data_body(0, bytes.first(5)))},
        {manifest("disk"), encode(FrameKind::Hello, "")},
    };
    for (size_t i = 0; i < all.size(); ++i) {
        Impostor impostor(all[i]);
        auto how = options();
        how.attempts_max = 0;
        const auto report =
            FolderClient(
                {clock, [&]() -> Result<UniqueFd> { return impostor.take(); }, [](int64_t) {}}, how)
                .pull();
        ASSERT_FALSE(report.ok()) << i;
        EXPECT_NE(report.error().code, ErrorCode::Unavailable) << i << report.error().text();
    }
    EXPECT_FALSE(path_exists(directory.path() + "/disk"));
}

TEST_F(FolderTransferTest, AFileThatDoesNotMatchItsDigestIsRefused) {
    const std::string block(kBlockSize, 'b');
    const FileEnd end{0, kBlockSize, std::string(kDigestSize, 'd')};
    const auto lie = [&] {
        return std::vector<std::string>{
            manifest("disk", std::to_string(kBlockSize)),
            encode(FrameKind::Data, data_body(0, std::as_bytes(std::span(block)))),
            encode(FrameKind::End, end_body(end))};
    };
    Impostor first(lie());
    Impostor second(lie());
    int attempts = 0;
    const auto report =
        FolderClient(
            {clock,
             [&]() -> Result<UniqueFd> { return ++attempts == 1 ? first.take() : second.take(); },
             [](int64_t) {}},
            options())
            .pull();
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().code, ErrorCode::Corrupt);
    EXPECT_EQ(attempts, 2);
}

// What a client that knows the key may ask for is bounded.
TEST_F(FolderTransferTest, AHostileDestinationGetsOnlyTheOffersFiles) {
    const auto ask = [&](const std::vector<std::string>& says) {
        auto socket = link::connect_tcp("127.0.0.1", server->port(), 5000);
        auto channel = SecureChannel::connect(std::move(*socket), "move-1", kSecret, clock);
        EXPECT_TRUE(channel.ok());
        for (const std::string& text : says) {
            (void)(*channel)->write(text);
        }
        FrameStream stream(**channel, kManifestMax);
        std::vector<FrameKind> kinds;
        while (true) {
            const auto frame = stream.receive();
            if (!frame.ok()) {
                return kinds;
            }
            kinds.push_back(frame->kind);
        }
    };
    const std::string hello = encode(FrameKind::Hello, hello_body());
    const std::vector<FrameKind> only_list = {FrameKind::Manifest};
    EXPECT_TRUE(ask({encode(FrameKind::Read, read_body({0, 0}))}).empty());
    EXPECT_TRUE(ask({encode(FrameKind::Hello, "kumoi-transfer\x01\x01\x01\x01")}).empty());
    EXPECT_EQ(ask({hello, encode(FrameKind::Read, read_body({3, 0}))}), only_list);
    EXPECT_EQ(ask({hello, encode(FrameKind::Read, read_body({0, 5}))}), only_list);
    EXPECT_EQ(ask({hello, encode(FrameKind::Hello, std::string(200, 'x'))}), only_list);
    // Beyond the end: no data, only the end.
    EXPECT_EQ(ask({hello, encode(FrameKind::Read, read_body({0, uint64_t{1} << 60})),
                   encode(FrameKind::Done, "")}),
              (std::vector<FrameKind>{FrameKind::Manifest, FrameKind::End, FrameKind::Done}));
}

TEST_F(FolderTransferTest, ALinkInPlaceOfAFileIsNotFollowed) {
    connections.limits = {0};
    ASSERT_TRUE(remove_file(source() + "/empty").ok());
    ASSERT_EQ(::symlink("/etc/hostname", (source() + "/empty").c_str()), 0);
    auto once = options();
    once.attempts_max = 0;
    EXPECT_FALSE(pull(once).ok());
}

TEST(FolderServerPorts, TheFirstFreePortOfTheRangeIsTaken) {
    SystemClock clock;
    const auto first = FolderServer::start({}, clock).value();
    FolderServerOptions range;
    range.port_first = range.port_last = first->port();
    const auto none = FolderServer::start(range, clock);
    ASSERT_FALSE(none.ok());
    EXPECT_EQ(none.error().code, ErrorCode::Exhausted);
    range.address = "nonsense";
    EXPECT_EQ(FolderServer::start(range, clock).error().code, ErrorCode::InvalidArgument);
}

}  // namespace
}  // namespace kumoi::transfer
